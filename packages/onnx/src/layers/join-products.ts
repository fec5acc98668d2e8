/**
 * Joins the products of one module into one layer. A model may call a module more than once (shared projections, shared layers, both graphs
 * of an `If`), and the file then has a product for each call; a change to the layer is made to all of them. Modules with different names
 * stay separate even if they read one weight: PyTorch's tied weights belong to several modules.
 */

import type { OnnxAttribute } from '../model/attribute.js'
import type { OnnxNode } from '../model/graph.js'
import { constantOf, initializerOf, producerOf, skipIdentity } from '../model/names-in-scope.js'
import type { OnnxTensor, ReadExternal } from '../model/tensor.js'
import { biasOf } from './layer-bias.js'
import type { LinearLayer } from './linear-layer.js'
import { joined, labelOf, productsOf } from './products.js'
import { type GraphValue, MAX_WEIGHT_NODES } from './weight-path.js'

/** Whether two values are equal; undefined if this cannot be decided from the file. */
type Verdict = boolean | undefined
type Compare = (a: OnnxTensor, b: OnnxTensor) => Verdict

/** The number of bytes of two external weights that are compared at a time. */
const CHUNK = 2 ** 20
/** The largest number of layers of one name that are compared or listed. */
const MAX_RELATIVES = 32
/** The suffix that PyTorch's exporter appends to the scope of a later call. */
const CALL = /_\d+$/
/** The attributes with which the nodes between a product and its weight change the numbers. */
const ATTRIBUTES = ['perm', 'axis', 'to', 'block_size'] as const

/**
 * Joins the layers that are calls of one module. Their names are equal, or differ by the suffix of a later call (`query_proj_1`), and their
 * weights and biases are equal, in one tensor or in copies. If this cannot be decided from the file, the layers are `undecided`.
 */
export function joinProducts(layers: readonly LinearLayer[], compare: Compare = sameTensor): LinearLayer[] {
  const groups: (LinearLayer | undefined)[] = []
  const relatives = new RelativeIndex()
  for (const { undecided: _, ...layer } of layers) {
    const index = groups.push(layer) - 1
    if (layer.module === undefined) continue
    const isJoined = relatives.of(layer).some((other) => joinPair(groups, other, index, compare))
    if (isJoined) groups.pop()
    else relatives.add(layer, index)
  }
  joinNameless(groups)
  return groups.filter((group) => group !== undefined)
}

/** Joins undecided layers if their external weights are equal, byte for byte. {@link joinProducts} does not read these weights. */
export async function decideProducts(
  layers: readonly LinearLayer[],
  read: ReadExternal,
): Promise<LinearLayer[]> {
  if (layers.every(({ undecided }) => undecided === undefined)) return [...layers]
  const pairs: [OnnxTensor, OnnxTensor][] = []
  joinProducts(layers, (a, b) => {
    const verdict = sameTensor(a, b)
    if (verdict === undefined) pairs.push([a, b])
    return verdict
  })
  const verdicts = new Map<OnnxTensor, Map<OnnxTensor, Verdict>>()
  for (const [a, b] of pairs) {
    const verdictsOfA = verdicts.get(a) ?? new Map<OnnxTensor, Verdict>()
    if (!verdictsOfA.has(b)) verdictsOfA.set(b, await sameBytes(a, b, read))
    verdicts.set(a, verdictsOfA)
  }
  return joinProducts(layers, (a, b) => sameTensor(a, b) ?? verdicts.get(a)?.get(b))
}

/** Finds layers whose names may be those of one module, without comparing every pair. */
class RelativeIndex {
  readonly #byName = new Map<string, number[]>()
  /** The layers, by the possible names of the module's first call. */
  readonly #byFirst = new Map<string, number[]>()

  add(layer: LinearLayer, index: number): void {
    const [name, ...firstCalls] = possibleNames(layer)
    if (name !== undefined) put(this.#byName, name, index)
    for (const first of firstCalls) put(this.#byFirst, first, index)
  }

  of(layer: LinearLayer): number[] {
    const names = possibleNames(layer)
    const found = [
      ...names.flatMap((name) => this.#byName.get(name) ?? []),
      ...(this.#byFirst.get(names[0] ?? '') ?? []),
    ]
    return found.slice(0, MAX_RELATIVES)
  }
}

function put(lists: Map<string, number[]>, name: string, index: number): void {
  const list = lists.get(name)
  if (list) list.push(index)
  else lists.set(name, [index])
}

/** Returns keys of the layer's name, and of that name without the suffixes of later calls. Keys include the shape, which relatives share. */
function possibleNames({ module = '', part, outFeatures, inFeatures }: LinearLayer): string[] {
  let names: string[][] = [[]]
  for (const segment of module.split('.')) {
    const short = segment.replace(CALL, '')
    const isShort = short === segment || names.length >= MAX_RELATIVES
    names = names.flatMap((name) => [[...name, segment], ...(isShort ? [] : [[...name, short]])])
  }
  return names.map((name) => JSON.stringify([name, part?.name, outFeatures, inFeatures]))
}

/** Joins a layer to a group if both are one module. @returns whether it did */
function joinPair(
  groups: (LinearLayer | undefined)[],
  groupIndex: number,
  layerIndex: number,
  compare: Compare,
): boolean {
  const [group, layer] = [groups[groupIndex], groups[layerIndex]]
  if (!group || !layer) return false
  const verdict = isOneModule(group, layer, compare)
  if (verdict === false) return false
  if (verdict) {
    const module = isCallOf(group.module ?? '', layer.module ?? '') ? group.module : layer.module
    groups[groupIndex] = { ...joined([...productsOf(group), ...productsOf(layer)]), module }
    return true
  }
  groups[groupIndex] = undecidedBetween(group, [labelOf(layer)])
  groups[layerIndex] = undecidedBetween(layer, [labelOf(group)])
  return false
}

function undecidedBetween(layer: LinearLayer, labels: readonly string[]): LinearLayer {
  return { ...layer, undecided: [...(layer.undecided ?? []), ...labels].slice(0, MAX_RELATIVES) }
}

/** Returns whether `call` is a later call of the module, with a number after one segment or several: `a.q_1` of `a.q`, `h.0_1.q` of `h.0.q`. */
function isCallOf(module: string, call: string): boolean {
  const segments = module.split('.')
  return call
    .split('.')
    .every((segment, i) => segment === segments[i] || segment.replace(CALL, '') === segments[i])
}

function isOneModule(a: LinearLayer, b: LinearLayer, compare: Compare): Verdict {
  if (a.node.opType !== b.node.opType) return undefined
  const isSame = (x = '', y = '') =>
    sameValue({ graph: a.graph, name: x }, { graph: b.graph, name: y }, compare)
  const isSameWeight = conjunction(
    weightInputs(a.node).map((i) => isSame(a.node.inputs[i], b.node.inputs[i])),
  )
  if (isSameWeight === false) return false
  const [bias, other] = [biasOf(a), biasOf(b)]
  return bias && other ? conjunction([isSameWeight, isSame(bias.name, other.name)]) : isSameWeight
}

/** Returns the indices of the inputs that belong to the weight, such as scales. @see MatMulInteger and, in ONNX Runtime's docs/ContribOperators.md, MatMulNBits and MatMulBnb4 */
function weightInputs({ opType, inputs }: OnnxNode): number[] {
  if (opType === 'MatMulNBits' || opType === 'MatMulBnb4') return inputs.map((_, i) => i).slice(1)
  return opType === 'MatMulInteger' ? [1, 3] : [1]
}

/** Compares two values that are constants, or that the same operators compute from equal constants. */
function sameValue(a: GraphValue, b: GraphValue, compare: Compare, steps = MAX_WEIGHT_NODES): Verdict {
  if (a.name === '' || b.name === '') return a.name === b.name
  const [sourceA, sourceB] = [skipIdentity(a.graph, a.name), skipIdentity(b.graph, b.name)]
  const constantA = constantOf(sourceA.graph, sourceA.name)
  const constantB = constantOf(sourceB.graph, sourceB.name)
  if (constantA && constantB) return constantA === constantB || compare(constantA, constantB)
  const producerA = producerOf(sourceA.graph, sourceA.name)
  const producerB = producerOf(sourceB.graph, sourceB.name)
  if (!producerA || !producerB || producerA.opType !== producerB.opType || steps === 0) return undefined
  if (producerA === producerB) return true
  const [attributesA, attributesB] = [producerA.attributes, producerB.attributes]
  if (ATTRIBUTES.some((name) => integersText(attributesA.get(name)) !== integersText(attributesB.get(name))))
    return undefined
  return conjunction(
    producerA.inputs.map((name, i) =>
      sameValue(
        { graph: producerA.graph, name },
        { graph: producerB.graph, name: producerB.inputs[i] ?? '' },
        compare,
        steps - 1,
      ),
    ),
  )
}

function integersText(attribute: OnnxAttribute | undefined): string {
  return [attribute?.int, ...(attribute?.ints ?? [])].join()
}

function conjunction(verdicts: readonly Verdict[]): Verdict {
  if (verdicts.includes(false)) return false
  return verdicts.includes(undefined) ? undefined : true
}

function sameTensor(a: OnnxTensor, b: OnnxTensor): Verdict {
  if (a.dataType !== b.dataType || a.dims.join() !== b.dims.join()) return false
  const [externalA, externalB] = [a.external, b.external]
  if (
    externalA &&
    externalB &&
    externalA.location === externalB.location &&
    externalA.offset === externalB.offset
  )
    return true
  const [bytesA, bytesB] = [a.data(), b.data()]
  return bytesA && bytesB ? isEqual(bytesA, bytesB) : undefined
}

async function sameBytes(a: OnnxTensor, b: OnnxTensor, read: ReadExternal): Promise<Verdict> {
  const [bytesA, bytesB] = [tensorBytes(a, read), tensorBytes(b, read)]
  const length = bytesA.length ?? bytesB.length
  if (length === undefined || (bytesB.length ?? length) !== length) return undefined
  for (let offset = 0; offset < length; offset += CHUNK) {
    const size = Math.min(CHUNK, length - offset)
    if (!isEqual(await bytesA.read(offset, size), await bytesB.read(offset, size))) return false
  }
  return true
}

interface TensorBytes {
  readonly length: number | undefined
  read(offset: number, size: number): Uint8Array | Promise<Uint8Array>
}

function tensorBytes(tensor: OnnxTensor, read: ReadExternal): TensorBytes {
  const { external } = tensor
  if (external)
    return {
      length: external.length,
      read: (offset, size) => read(external.location, external.offset + offset, size),
    }
  const bytes = tensor.data()
  return {
    length: bytes?.length,
    read: (offset, size) => (bytes ?? new Uint8Array()).subarray(offset, offset + size),
  }
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/**
 * Joins products without names that read one weight, if the same bias is added to all of them and nothing else reads it: they are one
 * module. Without such a bias they are undecided: one module, or several tied ones.
 */
function joinNameless(groups: (LinearLayer | undefined)[]): void {
  const byWeight = new Map<OnnxTensor, Map<string, number[]>>()
  for (const [index, layer] of groups.entries()) {
    const tensor = layer && initializerOf(layer.graph, layer.weight)
    if (!tensor) continue
    const parts = byWeight.get(tensor) ?? new Map<string, number[]>()
    put(parts, layer.part?.name ?? '', index)
    byWeight.set(tensor, parts)
  }
  for (const readers of [...byWeight.values()].flatMap((parts) => [...parts.values()])) {
    const layers = readers.map((index) => groups[index] as LinearLayer)
    if (readers.length < 2 || layers.every(({ module }) => module !== undefined)) continue
    const module = nameOfBias(layers)
    const labels = layers.slice(0, MAX_RELATIVES + 1).map(labelOf)
    for (const [i, index] of readers.entries()) {
      const layer = layers[i]
      if (module === undefined)
        groups[index] = undecidedBetween(
          layer,
          labels.filter((_, other) => other !== i),
        )
      else groups[index] = i === 0 ? { ...joined(layers.flatMap(productsOf)), module } : undefined
    }
  }
}

function nameOfBias(layers: readonly LinearLayer[]): string | undefined {
  const [first, ...others] = layers.map(biasOf)
  if (!first?.name.endsWith('.bias') || others.some((bias) => bias?.name !== first.name)) return undefined
  const isWhole = layers.every(({ module, part }) => module === undefined && part === undefined)
  const readers = layers[0].graph.consumersOf(first.name)
  return isWhole && readers.length === layers.length ? first.name.slice(0, -'.bias'.length) : undefined
}
