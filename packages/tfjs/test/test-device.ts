/**
 * The tests that every TensorFlow.js device runs: the conformance suite, a layer of real size, training, and leaks. The test files choose
 * the device.
 */
import { testBackend } from '@fourierft/conformance/vitest'
import { createLayer, referenceBackward, referenceForward, uniformEntries } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { beforeAll, describe, expect, it } from 'vitest'
import { expectDescent, meanSquaredError } from '../src/__fixtures__/expect-descent.js'
import { tfjsBackend } from '../src/conformance.js'
import { attach, calibrate, disposeTables, fourierLinear } from '../src/index.js'

export interface Device {
  /** The backend of TensorFlow.js. */
  readonly backend: 'webgl' | 'webgpu'
  /** The name of the GPU, or of the software that replaces it. */
  readonly gpu: string
  /** Loads the backend's package. */
  readonly load: () => Promise<unknown>
}

/** All levels except 6 (life cycle), which runs with another program below. */
const LEVELS = [1, 2, 3, 4, 5, 7, 8] as const

export function testDevice({ backend, gpu, load }: Device): void {
  const open = async () => {
    await load()
    // TensorFlow.js computes small tensors on the CPU; here the device must compute all of them.
    tf.env().set(backend === 'webgl' ? 'WEBGL_CPU_FORWARD' : 'WEBGPU_CPU_FORWARD', false)
    expect(await tf.setBackend(backend)).toBe(true)
    await tf.ready()
    return tfjsBackend({ device: gpu })
  }

  describe(`tfjs-${backend} on ${gpu}`, () => {
    testBackend(open, { quick: true, levels: LEVELS })

    describe('level 6: a thousand changes of the coefficients', () => {
      // TensorFlow.js computes the smallest products with one workgroup for each output element, which takes 0.2 s for each token on a
      // software GPU. This level compares only bits and counts, so it uses another program; the levels above test the usual one.
      beforeAll(() => {
        if (backend !== 'webgpu') return
        const program = tf.env().get('WEBGPU_MATMUL_PROGRAM_TYPE') as number
        tf.env().set('WEBGPU_MATMUL_PROGRAM_TYPE', 3)
        return () => tf.env().set('WEBGPU_MATMUL_PROGRAM_TYPE', program)
      })
      testBackend(open, { quick: true, levels: [6] })
    })

    describe('fourierLinear', () => {
      beforeAll(async () => {
        await open()
        return disposeTables
      })

      // The limit is that of the conformance suite's levels 4 and 5. With these sizes TensorFlow.js uses all its programs for products on
      // WebGPU: `factored` (sums of 2n = 2000 numbers, few outputs) uses the one that splits the sum.
      it.each([
        ['dense', 256, 384],
        ['factored', 200, 3072],
        ['spectral', 768, 3072],
      ] as const)(
        '%s: forward and backward match the reference for a layer of real size [%i, %i]',
        async (strategy, d1, d2) => {
          const [n, tokens] = [1000, 3]
          const layer = createLayer({
            name: 'query',
            shape: [d1, d2],
            entries: uniformEntries({ shape: [d1, d2], n, seed: 2024 }),
            coefficients: numbers(n, 1),
            scaling: 150,
          })
          const x = numbers(tokens * d2, 2)
          const gradY = numbers(tokens * d1, 3)
          const run = tf.tidy(() => {
            const xs = tf.tensor2d(x, [tokens, d2])
            const c = tf.tensor1d(Float32Array.from(layer.coefficients))
            const apply = (x: tf.Tensor, c: tf.Tensor) => fourierLinear(x, c, layer, { strategy })
            const [gradX, gradC] = tf.grads(apply)([xs, c], tf.tensor2d(gradY, [tokens, d1]))
            return { y: apply(xs, c), gradX, gradC }
          })
          const expected = referenceBackward([layer], x, gradY)
          expect(relativeError(await run.y.data(), referenceForward([layer], x))).toBeLessThanOrEqual(1e-5)
          expect(relativeError(await run.gradX.data(), expected.x)).toBeLessThanOrEqual(1e-5)
          expect(relativeError(await run.gradC.data(), expected.coefficients[0] ?? [])).toBeLessThanOrEqual(
            1e-5,
          )
          // The results are in the memory of the device.
          expect(deviceBytes()).toBeGreaterThan(0)
          tf.dispose(run)
        },
      )

      it('can be calibrated, which leaves no tensors', async () => {
        const before = [tf.memory().numTensors, deviceBytes()]
        const { sizes } = await calibrate({ sizes: [{ shape: [32, 24], tokens: 2, n: 20 }] })
        expect(Object.keys(sizes[0]?.milliseconds ?? {})).toEqual(['dense', 'factored', 'spectral'])
        expect([tf.memory().numTensors, deviceBytes()]).toEqual(before)
      })

      it('spectral does not use the FFT of TensorFlow.js', async () => {
        const spec = {
          shape: [24, 36] as const,
          entries: uniformEntries({ shape: [24, 36], n: 40, seed: 1 }),
          scaling: 1,
        }
        const { kernelNames } = await tf.profile(() => {
          tf.tidy(() => {
            fourierLinear(tf.ones([2, 36]), tf.ones([40]), spec, { strategy: 'spectral' })
          })
        })
        expect(kernelNames).toContain('BatchMatMul')
        expect(kernelNames.filter((name) => /FFT|Complex|Sin|Cos/.test(name))).toEqual([])
      })
    })

    describe('attach', () => {
      beforeAll(async () => {
        await open()
      })

      it.each(['dense', 'factored', 'spectral'] as const)(
        '%s: fit is gradient descent, changes only the coefficients and leaves no tensors',
        async (strategy) => {
          const live = [tf.memory().numTensors, deviceBytes()]
          const model = tfl.sequential({
            layers: [
              tfl.layers.dense({ name: 'hidden', units: 24, inputShape: [20], activation: 'tanh' }),
              tfl.layers.dense({ name: 'out', units: 4 }),
            ],
          })
          const kernels = await weightsOf(model)
          const x = tf.tensor2d(numbers(32 * 20, 4), [32, 20])
          const y = tf.tensor2d(numbers(32 * 4, 5), [32, 4])
          const adapters = attach(model)
          adapters.strategy = strategy
          adapters.addAdapter('default', {
            targetModules: ['hidden', 'out'],
            nFrequency: 60,
            scaling: 30,
            initWeights: true,
          })
          const rate = 0.1
          const optimizers = [tf.train.sgd(rate), tf.train.adam(0.05)] as const
          model.compile({ optimizer: optimizers[0], loss: 'meanSquaredError' })
          await expectDescent({
            variables: adapters.trainableVariables,
            rate,
            loss: () => meanSquaredError(y, model.apply(x) as tf.Tensor),
            train: () => model.fit(x, y, { epochs: 1, verbose: 0, yieldEvery: 'never' }),
          })
          model.compile({ optimizer: optimizers[1], loss: 'meanSquaredError' })
          await model.fit(x, y, { epochs: 4, batchSize: 16, verbose: 0, yieldEvery: 'never' })
          expect(await weightsOf(model)).toEqual(kernels)

          const trained = await data(model.predict(x) as tf.Tensor)
          adapters.disableAdapters()
          const base = await data(model.predict(x) as tf.Tensor)
          adapters.enableAdapters()
          await adapters.mergeAdapter()
          expect(relativeError(await data(model.predict(x) as tf.Tensor), trained)).toBeLessThanOrEqual(1e-5)
          expect(relativeError(base, trained)).toBeGreaterThan(0.01)
          adapters.unmergeAdapter()
          expect(await weightsOf(model)).toEqual(kernels)

          adapters.detach()
          model.dispose()
          for (const optimizer of optimizers) optimizer.dispose()
          tf.dispose([x, y])
          expect([tf.memory().numTensors, deviceBytes()]).toEqual(live)
        },
      )
    })
  })
}

/** Returns the bytes of device memory that tensors use. */
function deviceBytes(): number {
  return (tf.memory() as { numBytesInGPU?: number }).numBytesInGPU ?? Number.NaN
}

/** Returns pseudo-random numbers in `[−1, 1)`. */
function numbers(length: number, seed: number): Float32Array {
  let state = seed
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length)
  let largest = 0
  let error = 0
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]))
    error = Math.max(error, Math.abs(actual[i] - expected[i]))
  }
  return error / largest
}

async function data(tensor: tf.Tensor): Promise<Float32Array> {
  const values = Float32Array.from(await tensor.data())
  tensor.dispose()
  return values
}

/** Reads the weights of the base model. */
async function weightsOf(model: tfl.LayersModel): Promise<Float32Array[]> {
  const weights = model.layers.flatMap((layer) => layer.getWeights())
  return Promise.all(weights.map(async (weight) => Float32Array.from(await weight.data())))
}
