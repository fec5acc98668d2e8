/**
 * The trained adapter, judged by a second implementation: core reads the file that TensorFlow.js wrote, the transformer on typed arrays
 * applies it, and both have to say the same about every test digit and have the same ΔW.
 */
import { delta, type Layer, loadAdapter } from '@fourierft/core'
import { type Adapters, fourierLinear } from '@fourierft/tfjs'
import * as tf from '@tensorflow/tfjs-core'
import type { Checkpoint } from './checkpoint.js'
import type { DigitSet } from './digits.js'
import { largestDifference } from './largest-difference.js'
import { roundingLimit } from './rounding-limit.js'
import { predictions, type Score, score } from './score.js'
import { typedArrayTransformer } from './typed-array-transformer.js'

export interface DeltaComparison {
  readonly module: string
  /** Largest difference of any two numbers of the two ΔW. */
  readonly difference: number
  /** What the conformance suite allows a float32 runtime: `2e-6 · max|ΔW| · log2(d1·d2)`. */
  readonly limit: number
}

export interface SecondOpinion extends Score {
  /** Digits that the two implementations label differently. */
  readonly differentLabels: number
  /** Largest difference of any two logits. */
  readonly logitDifference: number
  /** What rounding explains: see `roundingLimit`. */
  readonly logitLimit: number
  /** The second implementation's, `[count, classes]`. */
  readonly logits: Float64Array
  /** That it took for each digit. */
  readonly milliseconds: number
  readonly deltas: readonly DeltaComparison[]
  /** No label differs, and logits and every ΔW are within their limits. */
  readonly agrees: boolean
}

/**
 * @param adapters the attached model's, with the adapter as it was trained
 * @param folder where that adapter was saved
 * @param logits what the TensorFlow.js model said about `digits`
 */
export async function secondOpinion(
  adapters: Adapters,
  folder: string,
  checkpoint: Checkpoint,
  digits: DigitSet,
  logits: Float32Array,
): Promise<SecondOpinion> {
  const loaded = (await loadAdapter(folder)).layers(adapters.shapes)
  const trained = (await adapters.getAdapter()).layers(adapters.shapes)
  const deltas = loaded.map((layer) => compareDelta(layer, trained))
  const begin = performance.now()
  const second = typedArrayTransformer(checkpoint, loaded)(digits)
  const milliseconds = (performance.now() - begin) / digits.count
  const [first, other] = [predictions(logits, digits.count), predictions(second, digits.count)]
  const differentLabels = first.filter((label, digit) => label !== other[digit]).length
  const logitDifference = largestDifference(logits, second)
  const logitLimit = roundingLimit(checkpoint.config, second)
  return {
    ...score(second, digits.labels),
    differentLabels,
    logitDifference,
    logitLimit,
    logits: second,
    milliseconds,
    deltas,
    agrees:
      differentLabels === 0 &&
      logitDifference <= logitLimit &&
      deltas.every(({ difference, limit }) => difference <= limit),
  }
}

function compareDelta(layer: Layer, trained: readonly Layer[]): DeltaComparison {
  const { name: module, shape } = layer
  const same = trained.find(({ name }) => name === module)
  if (same === undefined) throw new Error(`the adapter that was trained has no module ${module}`)
  const ours = delta(layer, new Float64Array(shape[0] * shape[1]))
  const largest = ours.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return {
    module,
    difference: largestDifference(deltaInTensorFlow(same), ours),
    limit: 2e-6 * largest * Math.log2(shape[0] * shape[1]),
  }
}

/** ΔW `[out, in]` as the training computed it: the adapter's branch applied to the identity. */
function deltaInTensorFlow(layer: Layer): Float32Array {
  const transposed = tf.tidy(() => {
    const coefficients = tf.tensor1d(Float32Array.from(layer.coefficients))
    return tf.transpose(fourierLinear(tf.eye(layer.shape[1]), coefficients, layer))
  })
  const values = transposed.dataSync<'float32'>()
  transposed.dispose()
  return values
}
