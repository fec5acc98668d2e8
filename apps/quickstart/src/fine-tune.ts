/**
 * The training loop, one for every method and for the base model: Adam with a linear decay to zero, the digits in an order that the
 * seed alone decides. What is trained is whatever variables it is given.
 */
import { uniformEntries } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { classes, type DigitSet, imageSize, pick } from './digits.js'
import { type Score, score } from './score.js'

export interface FineTuneOptions {
  readonly digits: DigitSet
  readonly epochs: number
  /** At most so many steps, within the epochs; without it, all of them. */
  readonly maxSteps?: number
  readonly batchSize: number
  /** Of the first step; the last step's is nearly zero. */
  readonly learningRate: number
  readonly seed: number
  /** Changes each batch before it is used (the base model's training shifts its digits about). */
  readonly augment?: (batch: DigitSet, step: number) => DigitSet
  /** Called after each step with the batch's own loss and accuracy, from before the step. */
  readonly onStep?: (step: number, steps: number, score: Score) => void | Promise<void>
  /** Ends the training after the step that is running; what was learned so far stays. */
  readonly signal?: AbortSignal
}

/** Steps that `fineTune` makes: every epoch sees every digit once, the last batch of it may be smaller. */
export const countSteps = ({
  digits,
  epochs,
  batchSize,
  maxSteps = Infinity,
}: Pick<FineTuneOptions, 'digits' | 'epochs' | 'batchSize' | 'maxSteps'>): number =>
  Math.min(maxSteps, epochs * Math.ceil(digits.count / batchSize))

/** Trains `variables`, which `model` (images → logits) must depend on; everything else stays as it is. */
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
        // Computing may be synchronous: a progress bar's timers, Ctrl-C, a page's events get their turn now.
        await new Promise((resolve) => setTimeout(resolve))
      }
    }
  } finally {
    optimizer.dispose()
  }
}

/** One step; the batch's logits from before it. */
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
  if (logits === undefined) throw new Error('the model made no logits')
  const values = await logits.data<'float32'>()
  logits.dispose()
  return values
}

/** Logits `[count, classes]` of `digits`, a few hundred at a time. */
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

/** Pixels 0…1 as the model takes them, −1…1 (ViT's image processor with mean and deviation 0.5). */
export const toImages = ({ count, pixels }: DigitSet): tf.Tensor =>
  tf.sub(tf.mul(tf.tensor3d(pixels, [count, imageSize, imageSize]), 2), 1)

/** TensorFlow.js's Adam keeps its rate to itself and its subclasses. */
class DecayingAdam extends tf.AdamOptimizer {
  constructor(rate: number) {
    super(rate, 0.9, 0.999)
  }

  set rate(value: number) {
    this.learningRate = value
  }
}
