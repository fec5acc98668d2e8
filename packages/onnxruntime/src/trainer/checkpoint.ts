/**
 * Checkpoints: everything that the rest of a training depends on, as one safetensors file. A run that is resumed from a checkpoint ends with
 * the same bits as a run without interruption.
 */
import {
  type AdamWState,
  decodeFloats,
  encodeFloats,
  FourierFTError,
  parseJson,
  readSafetensors,
  type Tensor,
  writeSafetensors,
} from '@fourierft/core'
import type { LossScale } from './loss-scale.js'

/** The state between two steps. */
export interface TrainerState {
  /** Steps so far. */
  readonly step: number
  /** Steps of the trainer before this run of `fit`. The schedule counts from there. */
  readonly firstStep: number
  /** The epoch of the next step, from 0. */
  readonly epoch: number
  /** The number of this epoch's batches that are used up. */
  readonly batch: number
  /** The sum and the count of the losses of this epoch. */
  readonly epochLoss: readonly [sum: number, count: number]
  /** The best value of an evaluation, its epoch, and how many evaluations since then were worse. */
  readonly best: { readonly value: number; readonly epoch: number; readonly age: number } | undefined
  readonly optimizers: readonly AdamWState[]
  /** undefined for models without float16. */
  readonly lossScale: LossScale | undefined
  /** Trained numbers by the name of their input. */
  readonly values: ReadonlyMap<string, Float32Array>
  /** The trained numbers at the best evaluation; empty without one. */
  readonly bestValues: ReadonlyMap<string, Float32Array>
  /** Identifies the model and the adapter: a checkpoint of another one is rejected. */
  readonly fingerprint: string
  /** The number and the order of the batches, and what the best is judged by: a checkpoint of other data is rejected. */
  readonly data: string
}

const VERSION = '1'

const vector = (values: ArrayLike<number>): Tensor => ({
  dtype: 'F32',
  shape: [values.length],
  bytes: encodeFloats(Float32Array.from(values), 'F32'),
})

export function encodeCheckpoint(state: TrainerState): Uint8Array {
  const tensors = new Map<string, Tensor>()
  for (const [name, values] of state.values) tensors.set(`value/${name}`, vector(values))
  for (const [name, values] of state.bestValues) tensors.set(`best/${name}`, vector(values))
  for (const [o, { vectors }] of state.optimizers.entries())
    for (const [i, { first, second }] of vectors.entries()) {
      tensors.set(`first/${o}/${i}`, vector(first))
      tensors.set(`second/${o}/${i}`, vector(second))
    }
  const { step, firstStep, epoch, batch, epochLoss, best, lossScale, fingerprint, data } = state
  const optimizers = state.optimizers.map(({ vectors, ...optimizer }) => ({
    ...optimizer,
    vectors: vectors.length,
  }))
  const position = JSON.stringify({
    step,
    firstStep,
    epoch,
    batch,
    epochLoss,
    best: best ?? null,
    lossScale: lossScale ?? null,
    fingerprint,
    data,
    optimizers,
  })
  return writeSafetensors({ tensors, metadata: { 'fourierft.checkpoint': VERSION, state: position } })
}

/**
 * @param file its name in errors
 * @throws {FourierFTError} `INVALID_SAFETENSORS` for a file that was cut off or is no checkpoint
 */
export function decodeCheckpoint(bytes: Uint8Array, file: string): TrainerState {
  const { tensors, metadata } = readSafetensors(bytes, file)
  const invalid = (problem: string) =>
    new FourierFTError('INVALID_SAFETENSORS', `${file}: ${problem}`, {
      file,
      advice: 'resume from a file that fit() has written, or start again',
    })
  if (metadata?.['fourierft.checkpoint'] !== VERSION)
    throw invalid(`expected a checkpoint of version ${VERSION}`)
  const position = parseJson(metadata.state ?? '', file) as Position
  const { step, firstStep, epoch, batch, epochLoss, best, lossScale, fingerprint, data, optimizers } =
    position
  const counts = [step, firstStep, epoch, batch]
  const isComplete =
    counts.every((count) => Number.isSafeInteger(count) && count >= 0) &&
    Array.isArray(epochLoss) &&
    Array.isArray(optimizers) &&
    typeof fingerprint === 'string' &&
    typeof data === 'string'
  if (!isComplete) throw invalid('its state is incomplete')
  const floats = (name: string): Float32Array => {
    const tensor = tensors.get(name)
    if (tensor?.dtype !== 'F32') throw invalid(`expected a float32 tensor ${name}`)
    return Float32Array.from(decodeFloats(tensor))
  }
  const withPrefix = (prefix: string) =>
    new Map(
      Array.from(tensors.keys())
        .filter((name) => name.startsWith(prefix))
        .map((name) => [name.slice(prefix.length), floats(name)] as const),
    )
  return {
    step,
    firstStep,
    epoch,
    batch,
    epochLoss,
    best: best ?? undefined,
    lossScale: lossScale ?? undefined,
    fingerprint,
    data,
    values: withPrefix('value/'),
    bestValues: withPrefix('best/'),
    optimizers: optimizers.map(({ vectors, ...optimizer }, o) => ({
      ...optimizer,
      vectors: Array.from({ length: vectors }, (_, i) => ({
        precision: 'float32' as const,
        first: Array.from(floats(`first/${o}/${i}`)),
        second: Array.from(floats(`second/${o}/${i}`)),
      })),
    })),
  }
}

/** The state as JSON in the metadata. */
interface Position extends Omit<TrainerState, 'values' | 'bestValues' | 'optimizers' | 'best' | 'lossScale'> {
  readonly best: TrainerState['best'] | null
  readonly lossScale: LossScale | null
  readonly optimizers: readonly (Omit<AdamWState, 'vectors'> & { readonly vectors: number })[]
}
