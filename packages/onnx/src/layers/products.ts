/**
 * A module is one weight. A model may call it more than once (shared projections, shared layers, both branches of an `If`), and the file
 * then has a product for each call. They are one layer here: what is done to it is done to all of its products. Modules with names of
 * their own stay apart, though they may read one weight: PyTorch's tied weights belong to several modules.
 */

import type { OnnxNode } from '../model/graph.js'
import { behindIdentity, constantOf, initializerOf, producerOf } from '../model/names-in-scope.js'
import type { OnnxTensor, ReadExternal } from '../model/tensor.js'
import { biasOf } from './layer-bias.js'
import type { LinearLayer } from './linear-layer.js'
import { type GraphValue, MAX_WEIGHT_NODES } from './weight-path.js'

/** Whether two things are equal; undefined: the file alone does not tell. */
type Verdict = boolean | undefined
type Compare = (a: OnnxTensor, b: OnnxTensor) => Verdict

/** So many bytes of two external weights are compared at once. */
const CHUNK = 2 ** 20
/** Beyond so many layers of one name no more are compared or named. */
const MOST_RELATIVES = 32
/** What PyTorch's exporter appends to the scope of a later call. */
const CALL = /_\d+$/
/** Attributes of the nodes on the way of a weight that change its numbers. */
const ATTRIBUTES = ['perm', 'axis', 'to', 'block_size'] as const

/** All products of the layer, in the order of the file. */
export function productsOf({ others, ...first }: LinearLayer): readonly LinearLayer[] {
  return others ? [first, ...others] : [first]
}

/** How users name the product: its node, or the node's output where that has no name, and `node:q` for a part. */
export function labelOf({ node, part }: Pick<LinearLayer, 'node' | 'part'>): string {
  return `${node.name || node.outputs[0]}${part ? `:${part.name}` : ''}`
}

/** All that users may call the product: its node where that has a name, the node's output and the weight. */
export function labelsOf({ node, weight, part }: LinearLayer): {
  readonly node: string | undefined
  readonly output: string
  readonly weight: string
} {
  const suffix = part ? `:${part.name}` : ''
  return {
    node: node.name === '' ? undefined : node.name + suffix,
    output: `${node.outputs[0]}${suffix}`,
    weight: weight + suffix,
  }
}

/** The products as one layer, which has the first one's name. */
export function joined(products: readonly LinearLayer[]): LinearLayer {
  const [first, ...others] = products as readonly [LinearLayer, ...LinearLayer[]]
  return others.length > 0 ? { ...first, others } : first
}

/**
 * Joins the layers that are calls of one module: their names are equal, or differ by what exporters append to a later call
 * (`query_proj_1`), and their weights and biases are equal, in one tensor or in copies. What the file alone does not tell is `undecided`.
 */
export function joinProducts(layers: readonly LinearLayer[], compare: Compare = sameTensor): LinearLayer[] {
  const families: (LinearLayer | undefined)[] = []
  const named = new FamilyIndex()
  for (const { undecided: _, ...layer } of layers) {
    const at = families.push(layer) - 1
    if (layer.module === undefined) continue
    const isJoined = named.relatives(layer).some((other) => joinOne(families, other, at, compare))
    if (isJoined) families.pop()
    else named.add(layer, at)
  }
  joinNameless(families)
  return families.filter((family) => family !== undefined)
}

/** Compares the bytes of external copies, which {@link joinProducts} left undecided. */
export async function decideProducts(
  layers: readonly LinearLayer[],
  read: ReadExternal,
): Promise<LinearLayer[]> {
  if (layers.every(({ undecided }) => undecided === undefined)) return [...layers]
  const open: [OnnxTensor, OnnxTensor][] = []
  joinProducts(layers, (a, b) => {
    const verdict = sameTensor(a, b)
    if (verdict === undefined) open.push([a, b])
    return verdict
  })
  const verdicts = new Map<OnnxTensor, Map<OnnxTensor, Verdict>>()
  for (const [a, b] of open) {
    const known = verdicts.get(a) ?? new Map<OnnxTensor, Verdict>()
    if (!known.has(b)) known.set(b, await sameBytes(a, b, read))
    verdicts.set(a, known)
  }
  return joinProducts(layers, (a, b) => sameTensor(a, b) ?? verdicts.get(a)?.get(b))
}

/** Finds layers that may be calls of one module by their names, without comparing each with each. */
class FamilyIndex {
  readonly #byName = new Map<string, number[]>()
  /** By what the name of the first call may be. */
  readonly #byFirst = new Map<string, number[]>()

  add(layer: LinearLayer, at: number): void {
    const [own, ...firsts] = firstNames(layer)
    if (own !== undefined) put(this.#byName, own, at)
    for (const first of firsts) put(this.#byFirst, first, at)
  }

  relatives(layer: LinearLayer): number[] {
    const names = firstNames(layer)
    const found = [
      ...names.flatMap((name) => this.#byName.get(name) ?? []),
      ...(this.#byFirst.get(names[0] ?? '') ?? []),
    ]
    return found.slice(0, MOST_RELATIVES)
  }
}

function put(lists: Map<string, number[]>, name: string, at: number): void {
  const list = lists.get(name)
  if (list) list.push(at)
  else lists.set(name, [at])
}

/** The layer's own name, and those without what exporters append, as keys: layers of other shapes are no relatives. */
function firstNames({ module = '', part, outFeatures, inFeatures }: LinearLayer): string[] {
  let names: string[][] = [[]]
  for (const segment of module.split('.')) {
    const short = segment.replace(CALL, '')
    const isShort = short === segment || names.length >= MOST_RELATIVES
    names = names.flatMap((name) => [[...name, segment], ...(isShort ? [] : [[...name, short]])])
  }
  return names.map((name) => JSON.stringify([name, part?.name, outFeatures, inFeatures]))
}

/** Whether the layer went into the family. */
function joinOne(
  families: (LinearLayer | undefined)[],
  other: number,
  at: number,
  compare: Compare,
): boolean {
  const [family, layer] = [families[other], families[at]]
  if (!family || !layer) return false
  const verdict = isOneModule(family, layer, compare)
  if (verdict === false) return false
  if (verdict) {
    const module = isCallOf(family.module ?? '', layer.module ?? '') ? family.module : layer.module
    families[other] = { ...joined([...productsOf(family), ...productsOf(layer)]), module }
    return true
  }
  families[other] = undecidedBy(family, [labelOf(layer)])
  families[at] = undecidedBy(layer, [labelOf(family)])
  return false
}

function undecidedBy(layer: LinearLayer, labels: readonly string[]): LinearLayer {
  return { ...layer, undecided: [...(layer.undecided ?? []), ...labels].slice(0, MOST_RELATIVES) }
}

/** `a.q` and `a.q_1`, `groups.0.q` and `groups.0_1.q`: a later call has a number behind one segment or several. */
function isCallOf(module: string, call: string): boolean {
  const own = module.split('.')
  return call.split('.').every((segment, i) => segment === own[i] || segment.replace(CALL, '') === own[i])
}

function isOneModule(a: LinearLayer, b: LinearLayer, compare: Compare): Verdict {
  if (a.node.opType !== b.node.opType) return undefined
  const isSame = (x = '', y = '') =>
    sameValue({ graph: a.graph, name: x }, { graph: b.graph, name: y }, compare)
  const ofWeight = all(weightInputs(a.node).map((i) => isSame(a.node.inputs[i], b.node.inputs[i])))
  if (ofWeight === false) return false
  const [bias, other] = [biasOf(a), biasOf(b)]
  return bias && other ? all([ofWeight, isSame(bias.name, other.name)]) : ofWeight
}

/** Where a product has what belongs to its weight. @see MatMulInteger and, in ONNX Runtime's docs/ContribOperators.md, MatMulNBits and MatMulBnb4 */
function weightInputs({ opType, inputs }: OnnxNode): number[] {
  if (opType === 'MatMulNBits' || opType === 'MatMulBnb4') return inputs.map((_, i) => i).slice(1)
  return opType === 'MatMulInteger' ? [1, 3] : [1]
}

/** Constants, also behind nodes of one kind. */
function sameValue(a: GraphValue, b: GraphValue, compare: Compare, steps = MAX_WEIGHT_NODES): Verdict {
  if (a.name === '' || b.name === '') return a.name === b.name
  const [one, other] = [behindIdentity(a.graph, a.name), behindIdentity(b.graph, b.name)]
  const [constant, otherConstant] = [constantOf(one.graph, one.name), constantOf(other.graph, other.name)]
  if (constant && otherConstant) return constant === otherConstant || compare(constant, otherConstant)
  const [maker, otherMaker] = [producerOf(one.graph, one.name), producerOf(other.graph, other.name)]
  if (!maker || !otherMaker || maker.opType !== otherMaker.opType || steps === 0) return undefined
  if (maker === otherMaker) return true
  if (ATTRIBUTES.some((name) => attributeOf(maker, name) !== attributeOf(otherMaker, name))) return undefined
  return all(
    maker.inputs.map((name, i) =>
      sameValue(
        { graph: maker.graph, name },
        { graph: otherMaker.graph, name: otherMaker.inputs[i] ?? '' },
        compare,
        steps - 1,
      ),
    ),
  )
}

function attributeOf(node: OnnxNode, name: string): string {
  const attribute = node.attribute(name)
  return [attribute?.int, ...(attribute?.ints ?? [])].join()
}

function all(verdicts: readonly Verdict[]): Verdict {
  if (verdicts.includes(false)) return false
  return verdicts.includes(undefined) ? undefined : true
}

function sameTensor(a: OnnxTensor, b: OnnxTensor): Verdict {
  if (a.dataType !== b.dataType || a.dims.join() !== b.dims.join()) return false
  const [external, other] = [a.external, b.external]
  if (external && other && external.location === other.location && external.offset === other.offset)
    return true
  const [bytes, others] = [a.data(), b.data()]
  return bytes && others ? isEqual(bytes, others) : undefined
}

async function sameBytes(a: OnnxTensor, b: OnnxTensor, read: ReadExternal): Promise<Verdict> {
  const [from, other] = [a, b].map((tensor) => bytesAt(tensor, read)) as [BytesAt, BytesAt]
  const length = from.length ?? other.length
  if (length === undefined || (other.length ?? length) !== length) return undefined
  for (let at = 0; at < length; at += CHUNK) {
    const size = Math.min(CHUNK, length - at)
    const [bytes, others] = [await from.read(at, size), await other.read(at, size)]
    if (!isEqual(bytes, others)) return false
  }
  return true
}

interface BytesAt {
  readonly length: number | undefined
  read(at: number, size: number): Uint8Array | Promise<Uint8Array>
}

function bytesAt(tensor: OnnxTensor, read: ReadExternal): BytesAt {
  const { external } = tensor
  if (external)
    return {
      length: external.length,
      read: (at, size) => read(external.location, external.offset + at, size),
    }
  const bytes = tensor.data()
  return { length: bytes?.length, read: (at, size) => (bytes ?? new Uint8Array()).subarray(at, at + size) }
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/**
 * Products without names that read one weight are of one module where one bias, which nothing else reads, is added to all of them; else of
 * one module, or of several that are tied.
 */
function joinNameless(families: (LinearLayer | undefined)[]): void {
  const byWeight = new Map<OnnxTensor, Map<string, number[]>>()
  for (const [at, layer] of families.entries()) {
    const tensor = layer && initializerOf(layer.graph, layer.weight)
    if (!tensor) continue
    const parts = byWeight.get(tensor) ?? new Map<string, number[]>()
    put(parts, layer.part?.name ?? '', at)
    byWeight.set(tensor, parts)
  }
  for (const readers of [...byWeight.values()].flatMap((parts) => [...parts.values()])) {
    const layers = readers.map((at) => families[at] as LinearLayer)
    if (readers.length < 2 || layers.every(({ module }) => module !== undefined)) continue
    const module = nameOfBias(layers)
    const labels = layers.slice(0, MOST_RELATIVES + 1).map(labelOf)
    for (const [i, at] of readers.entries()) {
      const layer = layers[i]
      if (module === undefined)
        families[at] = undecidedBy(
          layer,
          labels.filter((_, other) => other !== i),
        )
      else families[at] = i === 0 ? { ...joined(layers.flatMap(productsOf)), module } : undefined
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
