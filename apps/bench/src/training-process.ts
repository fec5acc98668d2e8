/**
 * Measures one case of the training benchmark. It runs as a program in a fresh process, and prints one line of JSON:
 *
 *     node training-process.js native | lean | unpacked | portable | forward | split | creation <model.onnx> <kind> <rows> <tokens> <steps>
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type AdaptedSession,
  createSession,
  createTrainer,
  crossEntropy,
  type SessionOptions,
  type TrainingBatch,
} from '@fourierft/onnxruntime'
import * as ort from 'onnxruntime-node'
import { measureSteps, processorTime, type StepCosts } from './fresh-process.js'
import { median } from './measure.js'
import type { TrainedModel } from './training-models.js'

/** The shares of a step's elapsed time. */
export interface Split {
  readonly forward: number
  readonly backward: number
  /** The nodes of the adapters, in both directions. */
  readonly adapters: number
  /** The time of a run outside its nodes, with the copies of inputs and outputs. */
  readonly runtime: number
  /** The time of a step outside the run: gradients, clipping, AdamW. */
  readonly optimizer: number
  /** The operators that take most of the time, with their shares. */
  readonly operators: readonly (readonly [name: string, share: number])[]
}

/** Milliseconds of processor time, of each round. */
export interface Creation {
  readonly opening: readonly number[]
  readonly adding: readonly number[]
  readonly training: readonly number[]
}

const ONE_THREAD = { intraOpNumThreads: 1, interOpNumThreads: 1 }
const N = 1000
/** Every model knows at least as many words. */
const WORDS = 16_000
/** Their names in BERT and in LLaMA. */
const QUERY_AND_VALUE = '.*\\.(query|value|q_proj|v_proj)'

function batchOf(kind: TrainedModel['kind'], rows: number, tokens: number): TrainingBatch {
  const dims = [rows, tokens]
  const ids = BigInt64Array.from({ length: rows * tokens }, (_, i) => BigInt((i * 7919) % WORDS))
  const labels =
    kind === 'encoder'
      ? new ort.Tensor(
          'int64',
          BigInt64Array.from({ length: rows }, (_, i) => BigInt(i % 2)),
          [rows],
        )
      : new ort.Tensor('int64', nextTokens(ids, tokens), dims)
  return {
    feeds: {
      input_ids: new ort.Tensor('int64', ids, dims),
      attention_mask: new ort.Tensor('int64', new BigInt64Array(rows * tokens).fill(1n), dims),
    },
    labels,
  }
}

/** The label of a token is the next token; the last one of a row has none. */
function nextTokens(ids: BigInt64Array, tokens: number): BigInt64Array {
  return ids.map((_, i) => (i % tokens === tokens - 1 ? -100n : ids[i + 1]))
}

const open = (path: string, options: SessionOptions) => createSession(path, { ...ONE_THREAD, ...options })

const addAdapter = (session: AdaptedSession) =>
  session.addAdapter('trained', { targetModules: QUERY_AND_VALUE, nFrequency: N })

const createAdapterTrainer = (session: AdaptedSession, memory: 'fast' | 'lean' = 'fast') =>
  createTrainer(session, {
    adapter: 'trained',
    loss: crossEntropy(session.outputNames.at(-1) as string),
    memory,
  })

async function trainingSteps(
  path: string,
  batch: TrainingBatch,
  steps: number,
  name: string,
): Promise<StepCosts> {
  const session = await open(path, {
    native: name !== 'portable',
    // The session's own copies of the weights, too, are those of the file.
    ...(name === 'unpacked' && { extra: { session: { disable_prepacking: '1' } } }),
  })
  await addAdapter(session)
  const isLean = name === 'lean' || name === 'unpacked'
  const trainer = await createAdapterTrainer(session, isLean ? 'lean' : 'fast')
  return measureSteps(steps, () => trainer.step(batch))
}

async function forwardPasses(path: string, { feeds }: TrainingBatch, steps: number): Promise<StepCosts> {
  const session = await ort.InferenceSession.create(path, ONE_THREAD)
  return measureSteps(steps, () => session.run(feeds))
}

/** An event of ONNX Runtime's profile. */
interface ProfileEvent {
  readonly cat: string
  readonly name: string
  /** Microseconds. */
  readonly dur: number
  readonly args?: { readonly op_name?: string }
}

async function split(path: string, batch: TrainingBatch, steps: number): Promise<Split> {
  const folder = mkdtempSync(join(tmpdir(), 'fourierft-bench-'))
  try {
    const session = await open(path, {
      native: true,
      enableProfiling: true,
      profileFilePrefix: join(folder, 'profile'),
    })
    await addAdapter(session)
    const trainer = await createAdapterTrainer(session)
    const durations: number[] = []
    for (let i = 0; i <= steps; i++) {
      const start = performance.now()
      await trainer.step(batch)
      durations.push((performance.now() - start) * 1000)
    }
    // Releasing a session writes its profile.
    await trainer.release()
    await session.release()
    const events = readdirSync(folder).flatMap(
      (file) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as ProfileEvent[],
    )
    return shares(events, durations)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const NODE_SUFFIX = '_kernel_time'

/** The median without the first run, in which memory is allocated. */
const withoutFirst = (values: readonly number[]) => median(values.slice(1))

/**
 * Other programs interrupt nodes more often than the short times between them, so the residuals are computed within a run, and the parts from the
 * medians of the nodes.
 *
 * @param durations the microseconds of each step
 */
function shares(events: readonly ProfileEvent[], durations: readonly number[]): Split {
  const runs: number[] = []
  const nodes = new Map<string, { readonly operator: string; readonly durations: number[] }>()
  for (const { cat, name, dur, args } of events) {
    if (cat === 'Session' && name === 'model_run') runs.push(dur)
    if (cat !== 'Node' || !name.endsWith(NODE_SUFFIX)) continue
    const node = nodes.get(name) ?? { operator: args?.op_name ?? '', durations: [] }
    node.durations.push(dur)
    nodes.set(name, node)
  }
  const inNodes = runs.map((_, i) =>
    Array.from(nodes.values()).reduce((sum, node) => sum + (node.durations[i] ?? 0), 0),
  )
  const runtime = withoutFirst(durations.map((step, i) => (runs[i] - inNodes[i]) / step))
  const optimizer = withoutFirst(durations.map((step, i) => 1 - runs[i] / step))
  const parts = { forward: 0, backward: 0, adapters: 0 }
  const operators = new Map<string, number>()
  const medians = Array.from(
    nodes,
    ([name, node]) => [name, node.operator, withoutFirst(node.durations)] as const,
  )
  const total = medians.reduce((sum, [, , duration]) => sum + duration, 0) / (1 - runtime - optimizer)
  for (const [name, operator, duration] of medians) {
    const part = operator.startsWith('FourierFT')
      ? 'adapters'
      : name.includes('fourierft.gradient')
        ? 'backward'
        : 'forward'
    parts[part] += duration / total
    const key = `${operator} (${part})`
    operators.set(key, (operators.get(key) ?? 0) + duration / total)
  }
  return {
    ...parts,
    runtime,
    optimizer,
    operators: Array.from(operators)
      .toSorted(([, a], [, b]) => b - a)
      .slice(0, 12),
  }
}

/** Opens the model, adds an adapter on query and value, and creates its trainer, several times. */
async function creation(path: string, steps: number): Promise<Creation> {
  const times: number[][] = [[], [], []]
  // The first round loads the libraries and compiles the code.
  for (let i = 0; i <= steps; i++) {
    const marks = [processorTime()]
    const session = await open(path, { native: true })
    marks.push(processorTime())
    await addAdapter(session)
    marks.push(processorTime())
    const trainer = await createAdapterTrainer(session)
    marks.push(processorTime())
    if (i > 0) for (const [k, list] of times.entries()) list.push(marks[k + 1] - marks[k])
    await trainer.release()
    await session.release()
  }
  const [opening, adding, training] = times
  return { opening, adding, training }
}

const [name, path, kind, rows, tokens, steps] = process.argv.slice(2)
const batch = batchOf(kind as TrainedModel['kind'], Number(rows), Number(tokens))
const count = Number(steps)
const measured =
  name === 'split'
    ? await split(path, batch, count)
    : name === 'creation'
      ? await creation(path, count)
      : name === 'forward'
        ? await forwardPasses(path, batch, count)
        : await trainingSteps(path, batch, count, name)
console.log(JSON.stringify(measured))
