/**
 * `RunJoiner`: joins the feeds of several runs of one session into one batch, and divides the outputs. Rows are joined along the first axis. Lengths
 * may differ if a mask shows the padding: encoders are padded on the right. In decoders, the cache and its part of the mask are padded, on the left or on
 * the right. Everything else must have equal shapes.
 */
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import { rowsOfBatch, wholeBatch } from './batch-rows.js'
import { type Block, cut, emptyLike, paste, sizeOf, type TensorData } from './tensor-blocks.js'

type Feeds = InferenceSession.FeedsType
type Results = InferenceSession.ReturnType
type Metadata = InferenceSession.ValueMetadata

/** How lengths are padded. */
export interface Padding {
  readonly side: 'left' | 'right'
  /** The padded axis of each input. */
  readonly axes: ReadonlyMap<string, number>
  /** The input that shows the length of a run, along its padded axis. */
  readonly lengthInput: string
  /** The values of padding, if not 0. */
  readonly values: Readonly<Record<string, bigint>>
  /** The largest share of padding in a batch. */
  readonly maxShare: number
}

/** The shapes of a session's values, as far as joining needs them. */
export interface JoinPlan {
  /** The inputs whose first axis is the batch. Other inputs must be equal in all joined runs. */
  readonly batched: ReadonlySet<string>
  /** Undefined: only runs of equal shapes are joined. */
  readonly padding: Padding | undefined
  /** The axes of outputs whose size follows the length of the run. Filled in by the probe. */
  readonly outputAxes: ReadonlyMap<string, readonly number[]>
}

/** Inputs that are not batched and have more numbers than this are not compared: such runs are not joined. */
const MAX_SHARED = 64

/** Padded tokens cost as much as others. */
const MAX_PADDED_TOKENS = 0.1
/** A padded cache costs its copy and its part of the attention, but no linear layer. */
const MAX_PADDED_CACHE = 0.5

/** The outputs that become the cache of the next step. */
const CACHE_OUTPUT = 'present'
const MASK = 'attention_mask'
const IDS = 'input_ids'

/** How the runs of a session could be joined, before the model was tested. */
export interface PossibleJoins {
  readonly batched: ReadonlySet<string>
  /** Ways to pad, the more usual first. */
  readonly paddings: readonly Padding[]
}

/**
 * Finds how the runs of a session could be joined, from the names and the symbolic axes of its inputs.
 *
 * @param padToken the token with which `input_ids` are padded: some models find the padding by it
 * @returns undefined if the batch axis cannot be told
 */
export function planJoin(
  inputs: readonly Metadata[],
  padToken: number | undefined,
): PossibleJoins | undefined {
  const shapes = new Map(inputs.map((input) => [input.name, input.isTensor ? input.shape : []]))
  const firsts = [...shapes.values()].map(([first]) => first).filter((first) => typeof first === 'string')
  const batch = mostFrequent(firsts)
  if (batch === undefined || batch === '') return undefined
  const batched = new Set([...shapes].flatMap(([name, [first]]) => (first === batch ? [name] : [])))
  // A first axis of another name may be a multiple of the batch (heads of the attention), so it cannot be joined.
  if ([...shapes].some(([name, [first]]) => typeof first === 'string' && !batched.has(name))) return undefined
  return { batched, paddings: paddingsOf(shapes, batch, padToken) }
}

function paddingsOf(
  shapes: ReadonlyMap<string, readonly (number | string)[]>,
  batch: string,
  padToken: number | undefined,
): Padding[] {
  const mask = shapes.get(MASK)
  if (mask?.length !== 2 || typeof mask[1] !== 'string') return []
  const caches = [...shapes].filter(([name]) => name.startsWith('past_key_values.'))
  if (caches.length > 0) {
    // The encoder of an encoder-decoder has a length of its own.
    if (shapes.has('encoder_hidden_states') || caches.some(([name]) => name.includes('.encoder.'))) return []
    const axes = new Map<string, number>([[MASK, 1]])
    for (const [name, shape] of caches) {
      const free = shape.flatMap((dim, axis) => (typeof dim === 'string' && dim !== batch ? [axis] : []))
      if (free.length !== 1) return []
      axes.set(name, free[0] as number)
    }
    const lengthInput = (caches[0] as [string, unknown])[0]
    // `GroupQueryAttention` counts the mask, and expects the cache at the left.
    return (['left', 'right'] as const).map((side) => ({
      side,
      axes,
      lengthInput,
      values: {},
      maxShare: MAX_PADDED_CACHE,
    }))
  }
  // Some exporters give the same length two names.
  const lengths = [mask[1], shapes.get(IDS)?.[1]]
  const axes = new Map<string, number>()
  for (const [name, shape] of shapes) {
    const found = shape.flatMap((dim, axis) => (axis > 0 && lengths.includes(dim) ? [axis] : []))
    if (found.length > 1) return []
    if (found[0] !== undefined) axes.set(name, found[0])
  }
  const values = padToken === undefined ? {} : { [IDS]: BigInt(padToken) }
  return [{ side: 'right', axes, lengthInput: MASK, values, maxShare: MAX_PADDED_TOKENS }]
}

function mostFrequent(names: readonly string[]): string | undefined {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return [...counts].sort(([, a], [, b]) => b - a)[0]?.[0]
}

/** Makes tensors of the model's runtime. */
export type MakeTensor = (type: Tensor.Type, data: TensorData, dims: readonly number[]) => Tensor

export class RunJoiner {
  readonly plan: JoinPlan
  readonly #makeTensor: MakeTensor

  constructor(plan: JoinPlan, makeTensor: MakeTensor) {
    this.plan = plan
    this.#makeTensor = makeTensor
  }

  /**
   * Returns a text that is equal for runs that can be joined; undefined for a run that cannot be joined.
   */
  keyOf(feeds: Feeds): string | undefined {
    const parts: string[] = []
    const rows = this.rowsOf(feeds)
    for (const [name, tensor] of entriesOf(feeds).sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (tensor.location !== 'cpu') return undefined
      if (this.plan.batched.has(name)) {
        if (tensor.dims[0] !== rows) return undefined
        const padded = this.plan.padding?.axes.get(name)
        const dims = tensor.dims.slice(1).map((size, i) => (i + 1 === padded ? '*' : size))
        parts.push(`${name}:${tensor.type}[${dims}]`)
      } else {
        if (tensor.size > MAX_SHARED) return undefined
        parts.push(`${name}:${tensor.type}[${tensor.dims}]=${Array.from(tensor.data as ArrayLike<unknown>)}`)
      }
    }
    return parts.join(' ')
  }

  /** Returns the number of rows of a run. */
  rowsOf(feeds: Feeds): number {
    for (const name of this.plan.batched) {
      const tensor = (feeds as Record<string, Tensor | undefined>)[name]
      if (tensor) return tensor.dims[0] ?? 1
    }
    return 1
  }

  /** Returns the length of a run that padding would change; 0 if there is no padding. */
  lengthOf(feeds: Feeds): number {
    const { padding } = this.plan
    const tensor = padding && (feeds as Record<string, Tensor | undefined>)[padding.lengthInput]
    return tensor?.dims[padding?.axes.get(padding.lengthInput) ?? 0] ?? 0
  }

  /** Joins runs with equal keys. */
  join(runs: readonly Feeds[]): Feeds {
    const [first] = runs as [Feeds]
    const { batched, padding } = this.plan
    const joined: Record<string, Tensor> = {}
    for (const [name, tensor] of entriesOf(first)) {
      if (!batched.has(name)) {
        joined[name] = tensor
        continue
      }
      const tensors = runs.map((feeds) => (feeds as Record<string, Tensor>)[name] as Tensor)
      joined[name] = this.#stack(tensors, padding?.axes.get(name), padding?.values[name])
    }
    return joined
  }

  #stack(tensors: readonly Tensor[], axis: number | undefined, padValue: bigint | undefined): Tensor {
    const [first] = tensors as [Tensor]
    const joined = wholeBatch(tensors)
    if (joined) return joined
    const dims = [...first.dims]
    dims[0] = tensors.reduce((sum, tensor) => sum + (tensor.dims[0] ?? 0), 0)
    if (axis !== undefined) dims[axis] = Math.max(...tensors.map((tensor) => tensor.dims[axis] ?? 0))
    const data = emptyLike(dataOf(first), sizeOf(dims))
    if (padValue !== undefined) fill(data, padValue)
    let row = 0
    for (const tensor of tensors) {
      const starts = dims.map(() => 0)
      starts[0] = row
      if (axis !== undefined && this.plan.padding?.side === 'left')
        starts[axis] = (dims[axis] ?? 0) - (tensor.dims[axis] ?? 0)
      paste(data, dims, { starts, sizes: tensor.dims }, dataOf(tensor))
      row += tensor.dims[0] ?? 0
    }
    return this.#makeTensor(first.type, data, dims)
  }

  /**
   * Divides the outputs of joined runs.
   *
   * @throws {RangeError} if an output does not have the batch as its first axis
   */
  divide(results: Results, runs: readonly Feeds[]): Results[] {
    const { padding, outputAxes } = this.plan
    const lengths = runs.map((feeds) => this.lengthOf(feeds))
    const longest = Math.max(...lengths)
    const rows = runs.map((feeds) => this.rowsOf(feeds))
    const total = rows.reduce((sum, count) => sum + count, 0)
    const divided: Record<string, Tensor>[] = runs.map(() => ({}))
    for (const [name, tensor] of entriesOf(results)) {
      const { dims, type } = tensor
      // Merged decoders leave out what they do not compute again.
      if (tensor.size === 0) {
        for (const result of divided) result[name] = this.#makeTensor(type, dataOf(tensor).slice(0, 0), dims)
        continue
      }
      if (dims[0] !== total)
        throw new RangeError(`output ${name}: expected ${total} rows; received the shape [${dims}]`)
      let row = 0
      for (const [i, result] of divided.entries()) {
        const block = { starts: dims.map(() => 0), sizes: [...dims] } satisfies Block
        block.starts[0] = row
        block.sizes[0] = rows[i] as number
        for (const axis of padding ? (outputAxes.get(name) ?? []) : []) {
          const surplus = longest - (lengths[i] as number)
          block.sizes[axis] = (dims[axis] as number) - surplus
          if (padding?.side === 'left') block.starts[axis] = surplus
        }
        result[name] = name.startsWith(CACHE_OUTPUT)
          ? rowsOfBatch(tensor, block)
          : this.#makeTensor(type, cut(dataOf(tensor), dims, block), block.sizes)
        row += rows[i] as number
      }
    }
    return divided
  }
}

function entriesOf(values: Feeds | Results): [string, Tensor][] {
  return Object.entries(values as Record<string, Tensor>)
}

function dataOf(tensor: Tensor): TensorData {
  return tensor.data as unknown as TensorData
}

function fill(data: TensorData, value: bigint): void {
  const values = data as unknown as { fill(value: bigint | number): void }
  values.fill(data instanceof BigInt64Array || data instanceof BigUint64Array ? value : Number(value))
}
