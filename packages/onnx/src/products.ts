/**
 * A module is one weight. A model may call it more than once (shared projections, shared layers, both branches of an `If`), and the file
 * then has a product for each call. They are one layer here: what is done to it is done to all of its products. Modules with names of
 * their own stay apart, though they may read one weight: PyTorch's tied weights belong to several modules.
 */
import { behindIdentity, constantOf, initializerOf, producerOf } from './constant-of.js'
import type { OnnxGraph, OnnxNode } from './graph.js'
import { biasOf } from './layer-bias.js'
import type { LinearLayer } from './linear-layers.js'
import type { OnnxTensor } from './tensor.js'

/** Reads bytes of a file that lies beside the model. */
type Read = (location: string, offset: number, length: number) => Uint8Array | Promise<Uint8Array>

/** Whether two things are equal; undefined: the file alone does not tell. */
type Verdict = boolean | undefined
type Compare = (a: OnnxTensor, b: OnnxTensor) => Verdict

/** As far as `findLinearLayers` follows a weight. */
const STEPS = 9
/** So many bytes of two external weights are compared at once. */
const CHUNK = 2 ** 20
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
  const families: LinearLayer[] = []
  const byName = new Map<string, number[]>()
  for (const { undecided: _, ...layer } of layers) {
    const at = families.push(layer) - 1
    if (layer.module === undefined) continue
    const key = familyKey(layer)
    const others = byName.get(key)
    if (!others) byName.set(key, [at])
    else if (joinOne(families, others, at, compare)) families.pop()
    else others.push(at)
  }
  markNameless(families)
  return families
}

/** Compares the bytes of external copies, which {@link joinProducts} left undecided. */
export async function decideProducts(layers: readonly LinearLayer[], read: Read): Promise<LinearLayer[]> {
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

/** Without what tells calls apart: only layers of one key are compared. */
function familyKey({ module = '', part, outFeatures, inFeatures }: LinearLayer): string {
  const name = module.split('.').map((segment) => segment.replace(CALL, ''))
  return JSON.stringify([name, part?.name, outFeatures, inFeatures])
}

/** Whether the layer went into one of the families. */
function joinOne(families: LinearLayer[], others: readonly number[], at: number, compare: Compare): boolean {
  const layer = families[at] as LinearLayer
  for (const other of others) {
    const family = families[other] as LinearLayer
    if (
      !isCallOf(family.module ?? '', layer.module ?? '') &&
      !isCallOf(layer.module ?? '', family.module ?? '')
    )
      continue
    const verdict = isOneModule(family, layer, compare)
    if (verdict === false) continue
    if (verdict) {
      const module = isCallOf(family.module ?? '', layer.module ?? '') ? family.module : layer.module
      families[other] = { ...joined([...productsOf(family), ...productsOf(layer)]), module }
      return true
    }
    families[other] = { ...family, undecided: [...(family.undecided ?? []), labelOf(layer)] }
    families[at] = { ...layer, undecided: [...(layer.undecided ?? []), labelOf(family)] }
    return false
  }
  return false
}

/** `a.q` and `a.q_1`, `groups.0.q` and `groups.0_1.q`: a later call has a number behind one segment or several. */
function isCallOf(module: string, call: string): boolean {
  const own = module.split('.')
  return call.split('.').every((segment, i) => segment === own[i] || segment.replace(CALL, '') === own[i])
}

function isOneModule(a: LinearLayer, b: LinearLayer, compare: Compare): Verdict {
  const [bias, other] = [biasOf(a), biasOf(b)]
  const pairs = [
    ...weightInputs(a.node).map((i) => [a.node.inputs[i] ?? '', b.node.inputs[i] ?? ''] as const),
    ...(bias && other ? [[bias.name, other.name] as const] : []),
  ]
  if (a.node.opType !== b.node.opType) return undefined
  return all(
    pairs.map(([x, y]) => sameValue({ graph: a.graph, name: x }, { graph: b.graph, name: y }, compare)),
  )
}

/** Where a product has what belongs to its weight. @see MatMulInteger and, in ONNX Runtime's docs/ContribOperators.md, MatMulNBits */
function weightInputs({ opType, inputs }: OnnxNode): number[] {
  if (opType === 'MatMulNBits') return inputs.map((_, i) => i).slice(1)
  return opType === 'MatMulInteger' ? [1, 3] : [1]
}

/** Constants, also behind nodes of one kind. */
function sameValue(a: Value, b: Value, compare: Compare, steps = STEPS): Verdict {
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

interface Value {
  readonly graph: OnnxGraph
  readonly name: string
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

async function sameBytes(a: OnnxTensor, b: OnnxTensor, read: Read): Promise<Verdict> {
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

function bytesAt(tensor: OnnxTensor, read: Read): BytesAt {
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

/** A product without a name that reads the weight of another one: of the same module, or of one that is tied to it. */
function markNameless(layers: LinearLayer[]): void {
  const byWeight = new Map<unknown, Map<string, number[]>>()
  for (const [at, { graph, weight, part }] of layers.entries()) {
    const tensor = initializerOf(graph, weight)
    if (!tensor) continue
    const parts = byWeight.get(tensor) ?? new Map<string, number[]>()
    const name = part?.name ?? ''
    parts.set(name, [...(parts.get(name) ?? []), at])
    byWeight.set(tensor, parts)
  }
  for (const parts of byWeight.values())
    for (const readers of parts.values()) {
      const nameless = readers.filter((at) => layers[at]?.module === undefined)
      if (readers.length < 2 || nameless.length === 0) continue
      const family = readers.map((at) => layers[at] as LinearLayer)
      for (const [i, at] of readers.entries()) {
        const undecided = family.filter((_, other) => other !== i).map(labelOf)
        layers[at] = {
          ...(layers[at] as LinearLayer),
          undecided: [...(layers[at]?.undecided ?? []), ...undecided],
        }
      }
    }
}
