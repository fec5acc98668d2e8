/** A check for tests: a training step is a step of gradient descent, `c − η·∂L/∂c`. */
import * as tf from '@tensorflow/tfjs-core'
import { expect } from 'vitest'

interface Descent {
  /** The variables that are trained. */
  readonly variables: readonly tf.Variable[]
  /** `η` of `tf.train.sgd` */
  readonly rate: number
  /** `L`, computed without the code that trains. */
  readonly loss: () => tf.Tensor
  /** Runs one step with the same loss. */
  readonly train: () => unknown
}

/** Compares one step with the gradient of the loss. Other tests compare gradients with `core`'s reference. */
export async function expectDescent({ variables, rate, loss, train }: Descent): Promise<void> {
  const before = await Promise.all(variables.map(numbers))
  const { value, grads } = tf.variableGrads(() => tf.tidy(() => loss() as tf.Scalar), [...variables])
  const gradients = await Promise.all(variables.map(({ name }) => numbers(grads[name])))
  value.dispose()
  tf.dispose(grads)
  await train()
  const after = await Promise.all(variables.map(numbers))
  for (const [i, gradient] of gradients.entries()) {
    const largestStep = rate * largest(gradient)
    // The variable is rounded to float32; the gradient is a sum of rounded products, in another order.
    const rounding = 2 ** -22 * largest(before[i])
    expect(largestStep).toBeGreaterThan(100 * rounding)
    for (const [j, slope] of gradient.entries()) {
      const error = Math.abs(after[i][j] - (before[i][j] - rate * slope))
      expect(error, `${variables[i].name}[${j}]`).toBeLessThanOrEqual(1e-3 * largestStep + rounding)
    }
  }
}

/** Computes the mean squared error as Keras does. `tf.losses` sums in another order. */
export function meanSquaredError(y: tf.Tensor, output: tf.Tensor): tf.Tensor {
  return tf.mean(tf.square(tf.sub(y, output)))
}

/** Computes the loss of probabilities for one-hot labels `y`. */
export function categoricalCrossentropy(y: tf.Tensor, output: tf.Tensor): tf.Tensor {
  return tf.neg(tf.mean(tf.sum(tf.mul(y, tf.log(output)), -1)))
}

async function numbers(tensor: tf.Tensor): Promise<Float32Array> {
  return Float32Array.from(await tensor.data())
}

function largest(values: Float32Array): number {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
}
