/**
 * Checks the trained adapter with a second implementation of the model: core reads the file that TensorFlow.js wrote, and the transformer on
 * typed arrays applies it. Both must give every test digit the same label, and their logits and ΔW must agree within rounding.
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
  /** Largest difference between the elements of the two ΔW. */
  readonly difference: number
  /** The limit of the conformance suite for float32: `2e-6 · max|ΔW| · log2(d1·d2)`. */
  readonly limit: number
}

export interface ImplementationComparison extends Score {
  /** Number of digits with different labels in the two implementations. */
  readonly differentLabels: number
  /** Largest difference between the logits. */
  readonly logitDifference: number
  /** The difference that rounding can cause: see `roundingLimit`. */
  readonly logitLimit: number
  /** Logits of the second implementation, `[count, classes]`. */
  readonly logits: Float64Array
  /** Time of the second implementation for each digit. */
  readonly milliseconds: number
  readonly deltas: readonly DeltaComparison[]
  /** Whether all labels are equal, and the logits and every ΔW are within their limits. */
  readonly agrees: boolean
}

/**
 * Runs the second implementation on `digits` and compares it with TensorFlow.js.
 *
 * @param adapters the adapters of the attached model; the trained one is active
 * @param folder the folder of the saved adapter
 * @param logits logits of the TensorFlow.js model for `digits`
 */
export async function compareImplementations(
  adapters: Adapters,
  folder: string,
  checkpoint: Checkpoint,
  digits: DigitSet,
  logits: Float32Array,
): Promise<ImplementationComparison> {
  const loaded = (await loadAdapter(folder)).layers(adapters.shapes)
  const trained = (await adapters.getAdapter()).layers(adapters.shapes)
  const deltas = loaded.map((layer) => compareDelta(layer, trained))
  const begin = performance.now()
  const secondLogits = typedArrayTransformer(checkpoint, loaded)(digits)
  const milliseconds = (performance.now() - begin) / digits.count
  const [labels, secondLabels] = [logits, secondLogits].map((values) => predictions(values, digits.count))
  const differentLabels = labels.filter((label, digit) => label !== secondLabels[digit]).length
  const logitDifference = largestDifference(logits, secondLogits)
  const logitLimit = roundingLimit(checkpoint.config, secondLogits)
  return {
    ...score(secondLogits, digits.labels),
    differentLabels,
    logitDifference,
    logitLimit,
    logits: secondLogits,
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
  const trainedLayer = trained.find(({ name }) => name === module)
  if (trainedLayer === undefined) throw new Error(`the trained adapter has no module ${module}`)
  const expected = delta(layer, new Float64Array(shape[0] * shape[1]))
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return {
    module,
    difference: largestDifference(deltaInTensorFlow(trainedLayer), expected),
    limit: 2e-6 * largest * Math.log2(shape[0] * shape[1]),
  }
}

/** Returns ΔW `[out, in]` as the training computes it: the adapter's branch applied to the identity matrix. */
function deltaInTensorFlow(layer: Layer): Float32Array {
  const transposed = tf.tidy(() => {
    const coefficients = tf.tensor1d(Float32Array.from(layer.coefficients))
    return tf.transpose(fourierLinear(tf.eye(layer.shape[1]), coefficients, layer))
  })
  const values = transposed.dataSync<'float32'>()
  transposed.dispose()
  return values
}
