/** Tests that every method of the experiments starts at the frozen model, trains the expected number of parameters, and restores the model when it is detached. */
import {
  baseFolder,
  countParameters,
  fineTune,
  firstDigits,
  loadDigits,
  loadWeights,
  predict,
  readCheckpoint,
  score,
  startTensorFlow,
  visionTransformer,
} from '@fourierft/quickstart'
import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { attachBasis, attachFourier, attachLoraOfRank } from './attached-methods.js'

await startTensorFlow()
const checkpoint = await readCheckpoint(baseFolder)
const model = visionTransformer(checkpoint.config)
const digits = firstDigits((await loadDigits()).adaptation, 16)
beforeAll(() => loadWeights(model, checkpoint))

const layers = 6
const training = { digits, epochs: 2, batchSize: 8, learningRate: 0.05, seed: 1 }
const largestDifference = (a: Float32Array, b: Float32Array) =>
  a.reduce((most, value, index) => Math.max(most, Math.abs(value - (b[index] ?? 0))), 0)

/**
 * The limit of the relative error of a loss. FourierFT and the Fourier basis round differently, and their losses agree to 3e-7, so another machine stays
 * far below the limit.
 */
const LOSS_LIMIT = 1e-3

/** `loss` is the loss after the training, on WebAssembly; the frozen model's loss is 0.0375. */
const methods = [
  {
    name: 'FourierFT',
    parameters: 32,
    loss: 0.008409,
    attach: () => attachFourier(model, { n: 32, seed: 1 }),
  },
  {
    name: 'FourierFT in a band',
    parameters: 32,
    loss: 0.008235,
    attach: () =>
      attachFourier(model, {
        n: 32,
        seed: 1,
        entries: { sampler: 'bandpass', seed: 1, centerFrequency: 25, bandwidth: 16 },
      }),
  },
  {
    name: 'LoRA',
    parameters: 256,
    loss: 0.014119,
    attach: () => attachLoraOfRank(model, { rank: 2, seed: 1 }),
  },
  {
    name: 'a Fourier basis',
    parameters: 32,
    loss: 0.008409,
    attach: () => attachBasis(model, { basis: 'fourier', n: 32, seed: 1 }),
  },
  {
    name: 'an orthogonal basis',
    parameters: 32,
    loss: 0.0092805,
    attach: () => attachBasis(model, { basis: 'orthogonal', n: 32, seed: 1 }),
  },
  {
    name: 'a random basis',
    parameters: 32,
    loss: 0.013828,
    attach: () => attachBasis(model, { basis: 'random', n: 32, seed: 1 }),
  },
]

describe.each(methods)('$name', ({ parameters, loss, attach }) => {
  it('starts at the frozen model, reaches the known loss, and restores the model bit for bit', async () => {
    const before = predict(model, digits)
    const { numTensors } = tf.memory()
    const { variables, detach } = attach()
    expect(countParameters(variables)).toBe(layers * parameters)
    // The bias may be added in another order. Logits are below 10. The rounding errors of sums of 64 products, over a few dozen layers, are below 1e-4
    // of that.
    expect(largestDifference(predict(model, digits), before)).toBeLessThan(1e-3)
    await fineTune(model, variables, training)
    expect(largestDifference(predict(model, digits), before)).toBeGreaterThan(0.1)
    const trained = score(predict(model, digits), digits.labels)
    expect(Math.abs(trained.loss / loss - 1)).toBeLessThan(LOSS_LIMIT)
    detach()
    expect(predict(model, digits)).toEqual(before)
    expect(tf.memory().numTensors).toBe(numTensors)
  })
})

it('FourierFT and the Fourier basis train to the same logits', async () => {
  const learn = async ({ variables, detach }: ReturnType<typeof attachFourier>) => {
    await fineTune(model, variables, { ...training, epochs: 1, learningRate: 0.01 })
    const logits = predict(model, digits)
    detach()
    return logits
  }
  const fourier = await learn(attachFourier(model, { n: 32, seed: 1 }))
  const basis = await learn(attachBasis(model, { basis: 'fourier', n: 32, seed: 1 }))
  // Two steps of Adam. Each step divides the gradient by its size, so a relative error of 1e-5 in a gradient changes a step of 0.01 by 1e-7. The limit
  // allows that the logits amplify this 1e5 times.
  expect(largestDifference(fourier, basis)).toBeLessThan(1e-2)
})
