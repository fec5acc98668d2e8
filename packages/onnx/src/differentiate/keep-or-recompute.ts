/**
 * Which forward values the backward pass keeps in memory, and which it computes again.
 *
 * - `fast` keeps every value that the backward pass reads.
 * - `lean` divides the forward pass into segments that contain a matrix product and end where only the outputs of one node go on, such as the
 *   sums of a transformer. It keeps these values, and computes the others again, segment by segment.
 *
 * A runtime would run the copies of a segment's nodes at once, or merge them with the originals. So the copies read kept values in a shape
 * that is computed with the gradient of the segment's end: they cannot start before the backward pass is there.
 *
 * @see Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016)
 */
import { DOMAIN } from '../attach/functions/branch-function.js'
import { copyNode } from '../model/copy-node.js'
import type { ExistingNode, NewNode } from '../model/encode.js'
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import { NodeList } from '../model/node-list.js'
import type { MeasuredSize } from '../shapes/batch-axis.js'
import { MAX_DIMS } from '../shapes/dims.js'
import { activeValues, valuesRead } from './differentiate.js'
import { type ForwardValues, needOf } from './step-memory.js'

export type MemoryPolicy = 'fast' | 'lean'

/** The prefix of the names of all nodes and values that the policy adds. */
const PREFIX = `${DOMAIN}.recomputed.`

/** The operators that take most of the time. A segment without one is not worth a kept value. */
const PRODUCTS: ReadonlySet<string> = new Set(
  'MatMul Gemm FusedMatMul MatMulNBits MatMulInteger QLinearMatMul Einsum Conv'.split(' '),
)

/**
 * The products of a segment, which are those of a part of a layer. If the end of the segment before is read after more products, it is not the
 * layer's other input, but one that many layers read, such as an encoder's output.
 */
const MAX_PRODUCTS = 16

/** Operators that give other numbers in each call. */
const RANDOM: ReadonlySet<string> = new Set(
  'Dropout RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial'.split(' '),
)

/** A backward pass before it is inserted into the graph. */
export interface BackwardPass extends ForwardValues {
  /** The forward pass. */
  readonly graph: OnnxGraph
  readonly nodes: readonly NewNode[]
  /** For each of the nodes, the forward node whose gradients it computes. */
  readonly owners: readonly OnnxNode[]
  /** The values whose gradients are wanted. */
  readonly targets: readonly string[]
  /** ∂L/∂value of a forward value. */
  gradientOf(value: string): string | undefined
}

export interface PlannedPass {
  readonly nodes: readonly (NewNode | ExistingNode)[]
  /** The values that stay in memory until the backward pass reads them. */
  readonly kept: ReadonlySet<string>
  /** The values that the backward pass reads and that are computed again. Those of one set are in memory together. */
  readonly recomputed: readonly ReadonlySet<string>[]
}

/** Decides which values are kept, and adds the nodes that compute the others again. */
export function keepOrRecompute(policy: MemoryPolicy, pass: BackwardPass): PlannedPass {
  const forward = new ForwardPass(pass)
  return policy === 'fast' ? keepAll(forward, pass) : recompute(forward, pass)
}

function keepAll(forward: ForwardPass, { nodes }: BackwardPass): PlannedPass {
  const read = nodes.flatMap(({ opType, inputs }) => (opType === 'Shape' ? [] : inputs))
  return { nodes, kept: new Set(forward.computed(read)), recomputed: [] }
}

function recompute(forward: ForwardPass, pass: BackwardPass): PlannedPass {
  forward.divide(activeValues(pass.graph, pass.targets))
  const recomputations = new Map<Segment, Recomputation>()
  /** The outputs of the nodes so far. */
  const written = new Set<string>()
  const owned = pass.nodes.map((node, i) => {
    const before = new Set(node.inputs.filter((input) => written.has(input)))
    const segment = forward.segmentOf(pass.owners[i])
    const known = segment && recomputations.get(segment)
    const ends = segment?.ends.flatMap((end) => pass.gradientOf(end) ?? []) ?? []
    // The gradient of an end may be completed later, by a branch. Then the gradients that this node reads show that the backward pass has come here.
    const isComplete = ends.length > 0 && ends.every((gradient) => written.has(gradient))
    const gradients = isComplete ? ends : [...before]
    for (const output of node.outputs) written.add(output)
    if (node.opType === 'Shape' || segment === undefined || (!known && gradients.length === 0))
      return { node }
    const recomputation = known ?? new Recomputation(forward, segment, gradients)
    recomputations.set(segment, recomputation)
    for (const input of node.inputs) recomputation.read(input)
    return { node, recomputation }
  })
  const used = withoutFirst([...recomputations.values()], pass)
  const shapes = new Shapes()
  const begun = new Set<Recomputation>()
  const kept = new Set<string>()
  const nodes = owned.flatMap(({ node, recomputation }) => {
    const sizes = node.opType === 'Shape' ? pass.sizesOf(node.inputs[0]) : undefined
    if (sizes && sizes.length > 0) return [shapes.replacement(node, sizes)]
    if (recomputation === undefined || !used.has(recomputation)) {
      for (const input of forward.computed(node.inputs)) kept.add(input)
      return [node]
    }
    const before = begun.has(recomputation) ? [] : recomputation.nodes()
    begun.add(recomputation)
    return [...before, { ...node, inputs: node.inputs.map((input) => recomputation.read(input)) }]
  })
  for (const { kept: read } of used) for (const value of forward.computed(read)) kept.add(value)
  return {
    nodes: [...shapes.nodes, ...nodes],
    kept,
    recomputed: Array.from(used, ({ recomputed }) => recomputed),
  }
}

/** The size of the inputs' axes with which segments are compared. */
const TYPICAL_SIZE = 64

/**
 * Leaves out segments with which the backward pass begins. Computing values again just after they were computed saves nothing, as long as the
 * segments need less memory together than a later one does alone.
 *
 * @param all in the order of the backward pass
 */
function withoutFirst(all: readonly Recomputation[], values: ForwardValues): ReadonlySet<Recomputation> {
  const dimsOf = () => Array.from({ length: MAX_DIMS }, () => TYPICAL_SIZE)
  const needs = all.map(({ recomputed }) => needOf(recomputed, values, dimsOf))
  /** At each index, the largest need of one segment from there on. */
  const largest: number[] = []
  for (const { sum, working } of needs.toReversed()) largest.unshift(Math.max(sum + working, largest[0] ?? 0))
  let left = 0
  /** The need of those that are left out, while one of them is differentiated: the largest. */
  let together = 0
  for (const [i, { sum, working }] of needs.entries()) {
    together = Math.max(together + sum, sum + working)
    if (together > (largest[i + 1] ?? 0)) break
    left = i + 1
  }
  return new Set(all.slice(left))
}

/** Computes shapes from the shapes of inputs. A node that reads the shape of a value would keep the value in memory. */
class Shapes {
  readonly #list = new NodeList(`${PREFIX}shape.`)
  readonly #known = new Map<string, string>()

  get nodes(): readonly NewNode[] {
    return this.#list.nodes
  }

  /** A node that writes the same shape as `node`. */
  replacement({ outputs }: NewNode, sizes: readonly MeasuredSize[]): NewNode {
    const inputs = sizes.map((size) => this.#size(size))
    return { name: outputs[0], opType: 'Concat', inputs, outputs, attributes: { axis: { int: 0 } } }
  }

  /** A size, as a vector of one integer. */
  #size(size: MeasuredSize): string {
    return this.#once(JSON.stringify(size), () =>
      size.length === 0
        ? this.#number(0)
        : size.map((product) => this.#product(product)).reduce((a, b) => this.#list.add('Add', [a, b])),
    )
  }

  #product({ factor, inputAxes }: MeasuredSize[number]): string {
    const sizes = inputAxes.map(({ input, axis }) =>
      this.#once(`${axis} of ${input}`, () => this.#list.sizeOf(input, axis)),
    )
    const factors = factor === 1 && sizes.length > 0 ? sizes : [this.#number(factor), ...sizes]
    return factors.reduce((a, b) => this.#list.add('Mul', [a, b]))
  }

  #number(value: number): string {
    return this.#once(String(value), () => this.#list.constant([value]))
  }

  #once(key: string, compute: () => string): string {
    const known = this.#known.get(key) ?? compute()
    this.#known.set(key, known)
    return known
  }
}

/** Consecutive nodes of the forward pass. */
interface Segment {
  /** The values that later nodes read, besides those that are kept anyway. One node writes them. */
  readonly ends: readonly string[]
}

/** The forward pass, and its segments. */
class ForwardPass {
  readonly #graph: OnnxGraph
  readonly #positions: ReadonlyMap<OnnxNode, number>
  /** The values that depend on the batch. */
  readonly #ofBatch: ReadonlySet<string>
  readonly #kept = new Set<string>()
  readonly #segments = new Map<OnnxNode, Segment>()

  constructor({ graph, targets }: BackwardPass) {
    this.#graph = graph
    this.#positions = new Map(graph.nodes.map((node, i) => [node, i]))
    const isTarget = new Set(targets)
    const inputs = graph.inputs.map(({ name }) => name).filter((name) => !isTarget.has(name))
    this.#ofBatch = activeValues(graph, inputs)
  }

  /**
   * Finds the segments, and the values that are kept.
   *
   * @param active the values that have gradients
   */
  divide(active: ReadonlySet<string>): void {
    const lastReaders = new Map<string, OnnxNode>()
    for (const node of this.#graph.nodes) for (const value of valuesRead(node)) lastReaders.set(value, node)
    const { producers } = this.#graph.index
    /** The values that are computed, not kept, and still to be read. */
    const open = new Set<string>()
    /** The ends of the segment before that are still to be read, such as a transformer's residual stream. */
    let lastEnds = new Set<string>()
    let [nodes, hasBegun, products]: [OnnxNode[], boolean, number] = [[], false, 0]
    const close = (ends: readonly string[]) => {
      for (const value of open) this.#kept.add(value)
      open.clear()
      lastEnds = new Set(ends)
      ;[nodes, products] = [[], 0]
    }
    for (const node of this.#graph.nodes) {
      const isActive = node.outputs.some((output) => active.has(output) && this.#ofBatch.has(output))
      // Nothing before the first active node is differentiated.
      if (isActive && !hasBegun) close([])
      hasBegun ||= isActive
      if (isActive && PRODUCTS.has(node.opType)) products++
      nodes.push(node)
      for (const output of node.outputs)
        if (this.#ofBatch.has(output) && lastReaders.has(output)) open.add(output)
      for (const input of valuesRead(node))
        if (lastReaders.get(input) === node) for (const values of [open, lastEnds]) values.delete(input)
      const isComplete = products > MAX_PRODUCTS || (products > 0 && lastEnds.size === 0)
      const ends = isComplete ? [...open].filter((value) => active.has(value)) : []
      if (ends.length === 0 || ends.some((end) => producers.get(end) !== producers.get(ends[0]))) continue
      const segment = { ends }
      for (const one of nodes) this.#segments.set(one, segment)
      close(ends)
    }
  }

  segmentOf(node: OnnxNode): Segment | undefined {
    return this.#segments.get(node)
  }

  /** Whether the value is an input with the batch, or computed from one. */
  isOfBatch(value: string): boolean {
    return this.#ofBatch.has(value)
  }

  /** Those of the values that are computed from the batch. */
  computed(values: Iterable<string>): string[] {
    const { producers } = this.#graph.index
    return [...values].filter((value) => this.isOfBatch(value) && producers.get(value) !== undefined)
  }

  /** The node that computes the value again in a segment; undefined if the value is kept. */
  recomputedBy(value: string, segment: Segment): OnnxNode | undefined {
    const node = this.#graph.index.producers.get(value)
    if (!node || this.#kept.has(value) || this.#segments.get(node) !== segment) return undefined
    return RANDOM.has(node.opType) || node.subgraphs.length > 0 ? undefined : node
  }

  /** The nodes in an order of execution. */
  inOrder(nodes: Iterable<OnnxNode>): OnnxNode[] {
    const positionOf = (node: OnnxNode) => this.#positions.get(node) ?? 0
    return [...nodes].sort((a, b) => positionOf(a) - positionOf(b))
  }
}

/** Computes the values of a segment again. */
class Recomputation {
  readonly #forward: ForwardPass
  readonly #segment: Segment
  readonly #delayed: NodeList
  /** The integer 0, which is there when the gradients of the segment's ends are. */
  readonly #zero: string
  /** Value → its name in the backward pass. */
  readonly #names = new Map<string, string>()
  readonly #repeated = new Set<OnnxNode>()
  /** The kept values that it reads. */
  readonly kept = new Set<string>()
  /** The values that the backward pass reads and that are computed again. */
  readonly recomputed = new Set<string>()

  constructor(forward: ForwardPass, segment: Segment, gradients: readonly string[]) {
    this.#forward = forward
    this.#segment = segment
    this.#delayed = new NodeList(`${PREFIX}${segment.ends[0]}.`)
    const list = this.#delayed
    const sizes = gradients.map((gradient) => list.add('Size', [gradient]))
    const all = sizes.reduce((a, b) => list.add('Add', [a, b]))
    this.#zero = list.add('Mul', [all, list.constant([0], [])])
  }

  /** Returns the name under which the backward pass reads a value. */
  read(value: string): string {
    const pending = [value]
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      // The gradient of an end may be computed with the end itself, so it cannot wait for that gradient.
      const isEnd = this.#segment.ends.includes(name)
      if (isEnd) this.kept.add(name)
      if (isEnd || this.#names.has(name) || !this.#forward.isOfBatch(name)) continue
      const node = this.#forward.recomputedBy(name, this.#segment)
      this.#names.set(name, node ? `${PREFIX}${name}` : this.#delay(name))
      if (!node) continue
      this.#repeated.add(node)
      pending.push(...node.inputs)
    }
    if (this.#names.has(value) && !this.kept.has(value)) this.recomputed.add(value)
    return this.#names.get(value) ?? value
  }

  /** Returns a value that is there when {@link #zero} is. Runtimes do not copy what they reshape. */
  #delay(value: string): string {
    this.kept.add(value)
    const list = this.#delayed
    return list.add('Reshape', [value, list.add('Add', [list.add('Shape', [value]), this.#zero])])
  }

  /** The nodes that compute all values that were read. */
  nodes(): (NewNode | ExistingNode)[] {
    const copies = this.#forward.inOrder(this.#repeated).map((node) => {
      const unread = node.outputs.filter((output) => output !== '' && !this.#names.has(output))
      const names = new Map([
        ...this.#names,
        ...unread.map((output) => [output, `${PREFIX}${output}`] as const),
      ])
      return copyNode(node, `${PREFIX}${node.outputs.find((output) => output !== '')}`, names)
    })
    return [...this.#delayed.nodes, ...copies]
  }
}
