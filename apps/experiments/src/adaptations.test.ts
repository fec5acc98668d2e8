/** Every adapter of the experiments starts at the frozen model, trains as many numbers as it says, and leaves nothing behind. */
import {
  baseFolder,
  countParameters,
  fineTune,
  firstDigits,
  loadDigits,
  loadWeights,
  predict,
  readCheckpoint,
  startTensorFlow,
  visionTransformer,
} from '@fourierft/quickstart'
import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { attachBasis, attachFourier, attachRank } from './adaptations.js'

await startTensorFlow()
const checkpoint = await readCheckpoint(baseFolder)
const model = visionTransformer(checkpoint.config)
const digits = firstDigits((await loadDigits()).adaptation, 16)
beforeAll(() => loadWeights(model, checkpoint))

const layers = 6
const training = { digits, epochs: 2, batchSize: 8, learningRate: 0.05, seed: 1 }
const largestDifference = (a: Float32Array, b: Float32Array) =>
  a.reduce((most, value, index) => Math.max(most, Math.abs(value - (b[index] ?? 0))), 0)

const adaptations = [
  { name: 'FourierFT', parameters: 32, attach: () => attachFourier(model, { n: 32, seed: 1 }) },
  {
    name: 'FourierFT of a band',
    parameters: 32,
    attach: () =>
      attachFourier(model, {
        n: 32,
        seed: 1,
        entries: { sampler: 'bandpass', seed: 1, centerFrequency: 25, bandwidth: 16 },
      }),
  },
  { name: 'LoRA', parameters: 256, attach: () => attachRank(model, { rank: 2, seed: 1 }) },
  {
    name: 'a Fourier basis',
    parameters: 32,
    attach: () => attachBasis(model, { basis: 'fourier', n: 32, seed: 1 }),
  },
  {
    name: 'an orthogonal basis',
    parameters: 32,
    attach: () => attachBasis(model, { basis: 'orthogonal', n: 32, seed: 1 }),
  },
  {
    name: 'a random basis',
    parameters: 32,
    attach: () => attachBasis(model, { basis: 'random', n: 32, seed: 1 }),
  },
]

describe.each(adaptations)('$name', ({ parameters, attach }) => {
  it('starts at the frozen model, learns, and leaves it bit for bit', async () => {
    const before = predict(model, digits)
    const { numTensors } = tf.memory()
    const { variables, detach } = attach()
    expect(countParameters(variables)).toBe(layers * parameters)
    // The product and the bias may be added in another order, in which 64 products and a few dozen layers are rounded: 1e-4 of 10.
    expect(largestDifference(predict(model, digits), before)).toBeLessThan(1e-3)
    await fineTune(model, variables, training)
    expect(largestDifference(predict(model, digits), before)).toBeGreaterThan(0.1)
    detach()
    expect(predict(model, digits)).toEqual(before)
    expect(tf.memory().numTensors).toBe(numTensors)
  })
})

it('FourierFT and the Fourier basis learn the same', async () => {
  const learn = async ({ variables, detach }: ReturnType<typeof attachFourier>) => {
    await fineTune(model, variables, { ...training, epochs: 1, learningRate: 0.01 })
    const logits = predict(model, digits)
    detach()
    return logits
  }
  const own = await learn(attachFourier(model, { n: 32, seed: 1 }))
  const basis = await learn(attachBasis(model, { basis: 'fourier', n: 32, seed: 1 }))
  // Two steps of Adam, whose first divides a gradient by its own size: rounding of a part of 1e-5 in a gradient is one in a step of 0.01.
  expect(largestDifference(own, basis)).toBeLessThan(1e-2)
})
