/**
 * The training loop of all methods and of the base model: Adam with a learning rate that falls linearly to zero. Only the seed determines
 * the order of the digits.
 */
import { uniformEntries } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { classes, type DigitSet, imageSize, pick } from './digits.js'
import { type Score, score } from './score.js'

export interface FineTuneOptions {
  readonly digits: DigitSet
  readonly epochs: number
  /** The largest number of steps. Default: all steps of all epochs. */
  readonly maxSteps?: number
  readonly batchSize: number
  /** The rate of the first step. The rate of the last step is nearly zero. */
  readonly learningRate: number
  readonly seed: number
  /** Changes each batch before it is used; the training of the base model shifts its digits. */
  readonly augment?: (batch: DigitSet, step: number) => DigitSet
  /** Called after each step with the loss and the accuracy that its batch had before the step. */
  readonly onStep?: (step: number, steps: number, score: Score) => void | Promise<void>
  /** Ends the training after the current step and keeps its result. */
  readonly signal?: AbortSignal
}

/** Returns the number of steps of `fineTune`. Every epoch uses every digit once; its last batch may be smaller. */
export const countSteps = ({
  digits,
  epochs,
  batchSize,
  maxSteps = Infinity,
}: Pick<FineTuneOptions, 'digits' | 'epochs' | 'batchSize' | 'maxSteps'>): number =>
  Math.min(maxSteps, epochs * Math.ceil(digits.count / batchSize))

/** Trains `variables` of `model`, which maps images to logits. Nothing else changes. */
export async function fineTune(
  model: LayersModel,
  variables: tf.Variable[],
  options: FineTuneOptions,
): Promise<void> {
  const { digits, epochs, batchSize, learningRate, seed, augment, onStep, signal } = options
  const optimizer = new DecayingAdam(learningRate)
  const steps = countSteps(options)
  let step = 0
  try {
    for (let epoch = 0; epoch < epochs; epoch++) {
      const order = uniformEntries({
        shape: [1, digits.count],
        n: digits.count,
        seed: seed * 1000 + epoch,
      }).columns
      for (let start = 0; start < digits.count; start += batchSize) {
        if (step === steps || signal?.aborted) return
        const plain = pick(digits, order.subarray(start, start + batchSize))
        const batch = augment ? augment(plain, step) : plain
        optimizer.rate = learningRate * (1 - step / steps)
        const logits = await trainOn(model, variables, optimizer, batch)
        step++
        await onStep?.(step, steps, score(logits, batch.labels))
        // Training may be synchronous. This pause lets timers, Ctrl-C and the events of a page run.
        await new Promise((resolve) => setTimeout(resolve))
      }
    }
  } finally {
    optimizer.dispose()
  }
}

/** Trains one step. @returns the logits that the batch had before the step */
async function trainOn(
  model: LayersModel,
  variables: tf.Variable[],
  optimizer: tf.Optimizer,
  batch: DigitSet,
): Promise<Float32Array> {
  const logits = tf.tidy(() => {
    const images = toImages(batch)
    const targets = tf.oneHot(tf.tensor1d(batch.labels, 'int32'), classes)
    let output: tf.Tensor | undefined
    const { grads } = tf.variableGrads(() => {
      output = tf.keep(model.apply(images, { training: true }) as tf.Tensor)
      return tf.losses.softmaxCrossEntropy(targets, output) as tf.Scalar
    }, variables)
    optimizer.applyGradients(grads)
    return output
  })
  if (logits === undefined) throw new Error('the model returned no logits')
  const values = await logits.data<'float32'>()
  logits.dispose()
  return values
}

/** Returns the logits `[count, classes]` of `digits`, computed in batches. */
export function predict(model: LayersModel, digits: DigitSet, batchSize = 250): Float32Array {
  const logits = new Float32Array(digits.count * classes)
  for (let start = 0; start < digits.count; start += batchSize) {
    const indices = Array.from({ length: Math.min(batchSize, digits.count - start) }, (_, i) => start + i)
    const batch = tf.tidy(() =>
      (model.apply(toImages(pick(digits, indices))) as tf.Tensor).dataSync<'float32'>(),
    )
    logits.set(batch, start * classes)
  }
  return logits
}

/** Returns images for the model: maps pixels 0…1 to −1…1, as ViT's image processor does with mean and deviation 0.5. */
export const toImages = ({ count, pixels }: DigitSet): tf.Tensor =>
  tf.sub(tf.mul(tf.tensor3d(pixels, [count, imageSize, imageSize]), 2), 1)

/** TensorFlow.js's Adam with a writable learning rate, which is a protected field there. */
class DecayingAdam extends tf.AdamOptimizer {
  constructor(rate: number) {
    super(rate, 0.9, 0.999)
  }

  set rate(value: number) {
    this.learningRate = value
  }
}
