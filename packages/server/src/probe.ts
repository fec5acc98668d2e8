/**
 * `probe`: tests on the model itself whether runs may share a batch. It records the runs of three sample calls, joins runs of different calls, and
 * compares the outputs with those of the runs alone.
 */
import { decodeFloats } from '@fourierft/core'
import type { ModelPart, Serving } from '@fourierft/transformers/host'
import { RawImage } from '@huggingface/transformers'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import type { Joining, Pipe } from './engine.js'
import { type JoinPlan, type MakeTensor, planJoin, RunJoiner } from './join-runs.js'

type Feeds = InferenceSession.FeedsType
type Results = InferenceSession.ReturnType

interface Recorded {
  readonly feeds: Feeds
  readonly results: Results
}

/** How the runs of one part are joined. */
export interface PartJoining {
  readonly joining: Joining
  /** Undefined if `joining` is `single`. */
  readonly joiner: RunJoiner | undefined
}

export interface ProbeInit {
  readonly serving: Serving
  readonly pipe: Pipe
  /** Runs a part of the graph that is tested, with one adapter for all rows. */
  readonly run: (part: ModelPart, feeds: Feeds) => Promise<Results>
  readonly labels: Parameters<Serving['view']>[1]
}

/**
 * Largest error of a joined run, in units of the rounding of the model's numbers, relative to the largest output. Masked positions add zeros, so the
 * sums of each layer are the same in another order: some tens of layers, each with some tens of roundings.
 */
const MAX_ROUNDINGS = 1000
const FLOAT32_ROUNDING = 2 ** -24
/** Half-precision models round each layer's output: their errors do not average out, but there are fewer of them. */
const HALF_TOLERANCE = 20 * 2 ** -11

/** Tests the parts of a model. Parts that the samples do not run are not joined. */
export async function probe({
  serving,
  pipe,
  run,
  labels,
}: ProbeInit): Promise<ReadonlyMap<ModelPart, PartJoining>> {
  const samples = samplesFor(pipe)
  const recordings: ReadonlyMap<ModelPart, Recorded[]>[] = []
  for (const sample of samples) {
    const recorded = new Map<ModelPart, Recorded[]>()
    const view = serving.view(async (part, [feeds]) => {
      const results = await run(part, feeds)
      recorded.set(part, [...(recorded.get(part) ?? []), { feeds, results: { ...results } }])
      return results
    }, labels) as unknown as Pipe
    await sample(view)
    recordings.push(recorded)
  }
  const found = new Map<ModelPart, PartJoining>()
  for (const part of serving.parts) {
    const [first, similar, longer] = recordings.map((recording) => recording.get(part) ?? [])
    found.set(part, await probePart(part, pipe, (feeds) => run(part, feeds), { first, similar, longer }))
  }
  return found
}

interface Samples {
  readonly first?: readonly Recorded[] | undefined
  /** Of the same lengths as `first`. */
  readonly similar?: readonly Recorded[] | undefined
  readonly longer?: readonly Recorded[] | undefined
}

async function probePart(
  part: ModelPart,
  pipe: Pipe,
  run: (feeds: Feeds) => Promise<Results>,
  { first = [], similar = [], longer = [] }: Samples,
): Promise<PartJoining> {
  const padToken: unknown = pipe.tokenizer?.pad_token_id
  const possible = planJoin(
    part.host.signature.inputMetadata,
    typeof padToken === 'number' ? padToken : undefined,
  )
  // Feeds can be tensors of another copy of ONNX Runtime.
  const tensor = first.flatMap(({ results }) => Object.values(results as Record<string, Tensor>))[0]
  if (possible === undefined || tensor === undefined) return SINGLE
  const Tensor = tensor.constructor as new (type: string, data: unknown, dims: readonly number[]) => Tensor
  const makeTensor: MakeTensor = (type, data, dims) => new Tensor(type, data, dims)
  const tolerance = isHalf(part) ? HALF_TOLERANCE : MAX_ROUNDINGS * FLOAT32_ROUNDING
  const passes = async (joiner: RunJoiner, others: readonly Recorded[], isPadded: boolean) => {
    let compared = 0
    for (const [i, one] of first.entries()) {
      const other = others[i]
      const key = joiner.keyOf(one.feeds)
      if (other === undefined || key === undefined || key !== joiner.keyOf(other.feeds)) continue
      if (isPadded && joiner.lengthOf(one.feeds) === joiner.lengthOf(other.feeds)) continue
      compared++
      if (!(await isSameJoined(joiner, run, [one, other], tolerance))) return false
    }
    return compared > 0
  }
  const { batched, paddings } = possible
  const unpadded: JoinPlan = { batched, padding: undefined, outputAxes: new Map() }
  const equal = new RunJoiner(unpadded, makeTensor)
  if (!(await passes(equal, similar, false))) return SINGLE
  for (const padding of paddings) {
    const outputAxes = lengthAxes(new RunJoiner({ ...unpadded, padding }, makeTensor), first, longer)
    const padded = outputAxes && new RunJoiner({ batched, padding, outputAxes }, makeTensor)
    if (padded && (await passes(padded, longer, true)) && (await passes(padded, similar, false)))
      return { joining: 'padded', joiner: padded }
  }
  return { joining: 'equal', joiner: equal }
}

const SINGLE: PartJoining = { joining: 'single', joiner: undefined }

/** Finds the axes of outputs that follow the length of a run; undefined if a size differs for another reason. */
function lengthAxes(
  joiner: RunJoiner,
  first: readonly Recorded[],
  longer: readonly Recorded[],
): JoinPlan['outputAxes'] | undefined {
  const axes = new Map<string, number[]>()
  for (const [i, one] of first.entries()) {
    const other = longer[i]
    if (other === undefined || joiner.keyOf(one.feeds) !== joiner.keyOf(other.feeds)) continue
    const difference = joiner.lengthOf(other.feeds) - joiner.lengthOf(one.feeds)
    for (const [name, { dims }] of Object.entries(one.results as Record<string, Tensor>)) {
      const otherDims = (other.results as Record<string, Tensor>)[name]?.dims ?? []
      const changed = dims.flatMap((size, axis) => (size === otherDims[axis] ? [] : [axis]))
      if (changed.some((axis) => (otherDims[axis] ?? 0) - (dims[axis] as number) !== difference))
        return undefined
      axes.set(name, [...new Set([...(axes.get(name) ?? []), ...changed])])
    }
  }
  return axes
}

async function isSameJoined(
  joiner: RunJoiner,
  run: (feeds: Feeds) => Promise<Results>,
  recorded: readonly Recorded[],
  tolerance: number,
): Promise<boolean> {
  const feeds = recorded.map((one) => one.feeds)
  let divided: Results[]
  try {
    divided = joiner.divide(await run(joiner.join(feeds)), feeds)
  } catch {
    // The model has outputs without a batch axis, or cannot run several rows.
    return false
  }
  return recorded.every(({ results }, i) => isClose(results, divided[i] as Results, tolerance))
}

/** Compares outputs: floats relative to the largest number, other numbers exactly. */
function isClose(expected: Results, received: Results, tolerance: number): boolean {
  return Object.entries(expected as Record<string, Tensor>).every(([name, tensor]) => {
    const other = (received as Record<string, Tensor>)[name]
    if (other === undefined || String(other.dims) !== String(tensor.dims)) return false
    const [a, b] = [numbersOf(tensor), numbersOf(other)]
    const bound = tensor.type.startsWith('float')
      ? tolerance * a.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
      : 0
    // A NaN is not close to anything.
    return a.every((x, i) => Math.abs(x - (b[i] as number)) <= bound)
  })
}

function numbersOf({ type, data }: Tensor): number[] {
  const values = data as ArrayLike<number | bigint>
  if (type !== 'float16' || !(data instanceof Uint16Array)) return Array.from(values, Number)
  return Array.from(
    decodeFloats({ dtype: 'F16', bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) }),
  )
}

function isHalf(part: ModelPart): boolean {
  const { dtype } = (part.config ?? {}) as { dtype?: unknown }
  return (typeof dtype === 'string' && dtype.includes('f16')) || dtype === 'fp16'
}

const SHORT = 'the cat sat on a small mat'
/** Texts of the same words. One of them has the same number of tokens as `SHORT`. */
const SIMILAR = ['the mat sat on a small cat', 'the small cat sat on a mat', 'the cat sat on a mat small']
const LONGER = 'a few words more than those of the first one, so that its row in the batch is longer'

/** Returns sample calls: two of the same lengths, and a longer one. */
function samplesFor({ task, tokenizer }: Pipe): ((pipe: Pipe) => Promise<unknown>)[] {
  const lengthOf = (text: string): number => tokenizer(text).input_ids.dims[1]
  const texts = () => [SHORT, SIMILAR.find((text) => lengthOf(text) === lengthOf(SHORT)) ?? SHORT, LONGER]
  // Only the runs matter, so a call may fail after them: translations, for example, need languages.
  const calls = (work: (pipe: Pipe, text: string) => Promise<unknown>) =>
    texts().map((text) => (pipe: Pipe) => work(pipe, text).catch(() => undefined))
  const generation = { max_new_tokens: 4, min_new_tokens: 4, do_sample: false }
  switch (task) {
    case 'text-classification':
    case 'token-classification':
    case 'feature-extraction':
      return calls((pipe, text) => pipe(text))
    case 'fill-mask':
      return calls((pipe, text) => pipe(`${text} ${tokenizer.mask_token}`))
    case 'text-generation':
    case 'text2text-generation':
    case 'summarization':
    case 'translation':
      return calls((pipe, text) => pipe(text, generation))
    case 'question-answering':
      return calls((pipe, text) =>
        (pipe as unknown as (a: string, b: string) => Promise<unknown>)('who sat?', text),
      )
    case 'zero-shot-classification':
      return calls((pipe, text) =>
        (pipe as unknown as (a: string, b: string[]) => Promise<unknown>)(text, ['cat', 'mat']),
      )
    case 'image-classification':
    case 'image-feature-extraction':
      return [1, 2].map((seed) => (pipe: Pipe) => pipe(noise(seed)).catch(() => undefined))
    default:
      return []
  }
}

/** Makes an image of noise. */
function noise(seed: number): RawImage {
  const size = 64
  let state = seed
  const data = Uint8ClampedArray.from({ length: 3 * size * size }, () => {
    state = (state * 1103515245 + 12345) % 2 ** 31
    return state >> 16
  })
  return new RawImage(data, size, size, 3)
}
