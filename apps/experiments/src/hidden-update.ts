/** Makes the trained ΔW of the hidden layer in the expressiveness experiment, by FourierFT or by LoRA. */
import { uniformEntries } from '@fourierft/core'
import { fourierLinear } from '@fourierft/tfjs'
import * as tf from '@tensorflow/tfjs-core'

export interface HiddenUpdate {
  readonly variables: tf.Variable[]
  /** Returns `x · ΔWᵀ`; both are `[T, width]`. */
  apply(x: tf.Tensor2D): tf.Tensor
}

/** The start of ΔW: zero, as for an adapter, or random if the layer has no other weights (a network of ReLUs would stay at zero). */
export type Start = 'zero' | 'random'

export interface HiddenUpdateOptions {
  readonly width: number
  readonly start: Start
  readonly seed: number
}

export function fourierUpdate(
  { width, start, seed }: HiddenUpdateOptions,
  { n, scaling }: { readonly n: number; readonly scaling: number },
): HiddenUpdate {
  const shape = [width, width] as const
  const entries = uniformEntries({ shape, n, seed })
  const coefficients = startingVariable([n], start, seed)
  return {
    variables: [coefficients],
    apply: (x) => fourierLinear(x, coefficients, { shape, entries, scaling }),
  }
}

/** Makes `ΔW = B A`. `A` starts uniform in `±1/√in` as in PEFT; a random `B` is standard normal. */
export function loraUpdate(
  { width, start, seed }: HiddenUpdateOptions,
  { rank }: { readonly rank: number },
): HiddenUpdate {
  const bound = 1 / Math.sqrt(width)
  const a = tf.tidy(() =>
    tf.variable(tf.randomUniform<tf.Rank.R2>([width, rank], -bound, bound, 'float32', seed)),
  )
  const b = startingVariable([rank, width], start, seed) as tf.Variable<tf.Rank.R2>
  return { variables: [a, b], apply: (x) => tf.matMul(tf.matMul(x, a), b) }
}

/** Makes a variable. It shares the memory of its first tensor, so `tidy` can free that tensor. */
const startingVariable = (shape: number[], start: Start, seed: number): tf.Variable =>
  tf.tidy(() =>
    tf.variable(start === 'zero' ? tf.zeros(shape) : tf.randomNormal(shape, 0, 1, 'float32', seed)),
  )
