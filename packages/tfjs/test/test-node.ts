/** The tests of tfjs-node and tfjs-node-gpu: the conformance suite, TensorFlow's FFTs and the native operator. */
import { testBackend } from '@fourierft/conformance/vitest'
import {
  createLayer,
  explicitEntries,
  FourierFTError,
  referenceForward,
  uniformEntries,
} from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { afterAll, describe, expect, it } from 'vitest'
import { expectDescent, meanSquaredError } from '../src/__fixtures__/expect-descent.js'
import { expectStrategy, LAYER_SIZES } from '../src/__fixtures__/expect-strategy.js'
import { createTfjsBackend } from '../src/conformance.js'
import { attach, fourierLinear, TableCache } from '../src/index.js'
import { hasNativeKernel } from '../src/strategies/native.js'
import type { StrategyInput } from '../src/strategies/strategy-function.js'
import { tensorflowSpectral } from '../src/strategies/tensorflow-spectral.js'

/** @param options.quick runs only the small cases of the suite */
export async function testNode(
  name: 'node' | 'node-gpu',
  { quick = false }: { readonly quick?: boolean } = {},
): Promise<void> {
  process.env.TF_CPP_MIN_LOG_LEVEL = '3'
  const opened = await createTfjsBackend(name).catch(unsupported)
  if (opened instanceof Error) {
    it.skip(`tfjs-${name} (skipped: ${opened.message})`, () => {})
    return
  }

  describe(`tfjs-${name} on ${opened.device}`, () => {
    testBackend(() => opened, { quick })

    describe.each(['segments', 'slots'] as const)(
      "spectral with TensorFlow's FFTs, summed by %s",
      (summation) => {
        const tables = new TableCache()
        afterAll(() => tables.dispose())
        const branch = (input: StrategyInput) => tensorflowSpectral(input, summation)

        it.each([...LAYER_SIZES, [768, 1021, 1000, 6]] as const)(
          '[%i, %i], n = %i, T = %i: forward and backward equal the reference, with one adapter and with one for each row',
          (d1, d2, n, tokens) => {
            expectStrategy(branch, uniformEntries({ shape: [d1, d2], n, seed: 3 }), tokens, tables)
          },
        )

        it('sums many entries with few frequencies, and repeats the result bit for bit', () => {
          const entries = explicitEntries({
            shape: [60, 64],
            rows: Uint32Array.from({ length: 300 }, (_, l) => l % 5),
            columns: Uint32Array.from({ length: 300 }, (_, l) => Math.floor(l / 5)),
          })
          expectStrategy(branch, entries, 4, tables)
          const run = () =>
            tf.tidy(() =>
              branch({
                x: tf.ones([4, 64]),
                c: tf.linspace(-1, 1, 300),
                rows: undefined,
                entries,
                tables,
              }).dataSync(),
            )
          expect(run()).toEqual(run())
        })

        it('leaves no tensors except its tables', () => {
          const entries = uniformEntries({ shape: [24, 36], n: 40, seed: 1 })
          const f = (x: tf.Tensor, c: tf.Tensor) =>
            tf.tidy(() => branch({ x: x as tf.Tensor2D, c, rows: undefined, entries, tables }))
          const once = () => {
            const [x, c] = [tf.ones([2, 36]), tf.ones([40])]
            tf.dispose([x, c, ...tf.grads(f)([x, c])])
          }
          once()
          const before = tf.memory().numTensors
          once()
          expect(tf.memory().numTensors).toBe(before)
        })
      },
    )

    it('spectral uses these operators, not the portable form', async () => {
      const entries = uniformEntries({ shape: [24, 36], n: 40, seed: 1 })
      const spec = { shape: [24, 36] as const, entries, scaling: 1 }
      const { kernelNames } = await tf.profile(() =>
        tf.tidy(() => {
          fourierLinear(tf.ones([2, 36]), tf.ones([40]), spec, { strategy: 'spectral' })
        }),
      )
      expect(kernelNames).not.toContain('BatchMatMul')
    })

    const skipReason = hasNativeKernel()
      ? ''
      : ' (skipped: no compiled kernel, or TensorFlow computes on a GPU)'
    describe.skipIf(!hasNativeKernel())(`the native operator${skipReason}`, () => {
      const spec = {
        shape: [48, 40] as const,
        entries: uniformEntries({ shape: [48, 40], n: 50, seed: 3 }),
        scaling: 20,
      }
      const c = Float32Array.from({ length: 50 }, (_, l) => Math.sin(l))

      it('adds to the output of the frozen layer, of any rank', () => {
        const x = tf.randomNormal([2, 3, 40])
        const base = tf.randomNormal([2, 3, 48])
        const y = fourierLinear(x, tf.tensor1d(c), spec, { base, strategy: 'native' })
        const layer = createLayer({ ...spec, name: 'layer', coefficients: c })
        const expected = referenceForward(
          [layer],
          x.dataSync() as Float32Array,
          base.dataSync() as Float32Array,
        )
        expect(y.shape).toEqual([2, 3, 48])
        const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
        y.dataSync().forEach((value, i) => {
          expect(Math.abs(value - expected[i])).toBeLessThanOrEqual(1e-5 * largest)
        })
      })

      it('does not change the base that it adds to', () => {
        const x = tf.randomNormal([5, 40])
        const base = tf.randomNormal([5, 48])
        const before = base.dataSync().slice()
        const f = (base: tf.Tensor) => fourierLinear(x, tf.tensor1d(c), spec, { base, strategy: 'native' })
        const gradient = tf.grad(f)(base, tf.ones([5, 48]))
        expect(base.dataSync()).toEqual(before)
        expect(gradient.dataSync()).toEqual(new Float32Array(5 * 48).fill(1))
      })

      it.each(['one', 'two added', 'two with other entries', 'one for each row'])(
        'gives a layer the same output and gradients as the other strategies; adapters: %s',
        (form) => {
          const model = tfl.sequential({
            layers: [tfl.layers.dense({ name: 'layer', units: 48, inputShape: [3, 40] })],
          })
          const adapters = attach(model)
          const config = { targetModules: ['layer'], nFrequency: 50, scaling: 20 }
          adapters.addAdapter('a', config)
          adapters.addAdapter('b', {
            ...config,
            scaling: 7,
            randomLocSeed: form === 'two with other entries' ? 5 : 777,
          })
          if (form !== 'one') adapters.setAdapter(['a', 'b'])
          const c = adapters.coefficients('a', 'layer')
          const d = adapters.coefficients('b', 'layer')
          const bias = model.getLayer('layer').weights[1]?.read() as tf.Variable
          bias.assign(tf.randomNormal([48], 0, 1, 'float32', 3))
          const x = tf.randomNormal([4, 3, 40], 0, 1, 'float32', 1)
          // Positive, so that the sum below does not cancel.
          const weights = tf.randomUniform([4, 3, 48], 0, 1, 'float32', 2)
          const inputs = form === 'one' ? [x, c] : [x, c, d]
          const run = (strategy: 'native' | 'spectral', inputs: tf.Tensor[]) => {
            adapters.strategy = strategy
            const f = (x: tf.Tensor) => {
              const y = model.apply(x) as tf.Tensor
              return tf.sum(tf.mul(tf.square(y), weights))
            }
            return tf.tidy(() => {
              const once = () => {
                const { value, grads } = tf.valueAndGrads(f)(inputs)
                return [value, ...grads].map((tensor) => tensor.dataSync())
              }
              return form === 'one for each row'
                ? adapters.withAdapterPerRow(['a', 'b', null, 'b'], once)
                : once()
            })
          }
          // Both sum at most 4·3·48 products, in different orders: 576 roundings of 2⁻²⁴ of the sum.
          const close = (values: Float32Array, expected: Float32Array) => {
            const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
            values.forEach((value, i) => {
              expect(Math.abs(value - expected[i])).toBeLessThanOrEqual(576 * 2 ** -24 * largest)
            })
          }
          const compare = (inputs: tf.Tensor[]) => {
            const expected = run('spectral', inputs)
            run('native', inputs).forEach((values, i) => {
              close(values as Float32Array, expected[i] as Float32Array)
            })
          }
          compare(inputs)
          // A bias that the user trains also has a gradient.
          bias.trainable = true
          compare([...inputs, bias])
          adapters.detach()
          model.dispose()
        },
      )

      it('is chosen by auto', async () => {
        const { kernelNames } = await tf.profile(() => fourierLinear(tf.ones([4, 40]), tf.tensor1d(c), spec))
        expect(kernelNames.filter((kernel) => kernel === 'BatchMatMul')).toEqual([])
      })

      it('trains a model by gradient descent, changes only the coefficients and leaves no tensors', async () => {
        const before = tf.memory().numTensors
        const model = tfl.sequential({
          layers: [
            tfl.layers.dense({ name: 'query', units: 24, inputShape: [16], activation: 'relu' }),
            tfl.layers.dense({ name: 'out', units: 4 }),
          ],
        })
        const kernel = model.getLayer('query').getWeights()[0]?.dataSync().slice()
        const adapters = attach(model)
        adapters.addAdapter('mine', { targetModules: ['query'], nFrequency: 80, scaling: 50 })
        const rate = 0.1
        const optimizer = tf.train.sgd(rate)
        model.compile({ loss: 'meanSquaredError', optimizer })
        const x = tf.randomNormal([64, 16], 0, 1, 'float32', 1)
        const target = tf.randomNormal([64, 4], 0, 1, 'float32', 2)
        await expectDescent({
          variables: adapters.trainableVariables,
          rate,
          loss: () => meanSquaredError(target, model.apply(x) as tf.Tensor),
          train: () => model.fit(x, target, { batchSize: 64, epochs: 1, verbose: 0 }),
        })
        await model.fit(x, target, { epochs: 3, verbose: 0 })
        expect(model.getLayer('query').getWeights()[0]?.dataSync()).toEqual(kernel)
        adapters.detach()
        model.dispose()
        optimizer.dispose()
        tf.dispose([x, target])
        expect(tf.memory().numTensors).toBe(before)
      })

      it('rejects invalid shapes, and works afterwards', () => {
        expect(() => fourierLinear(tf.ones([2, 39]), tf.tensor1d(c), spec, { strategy: 'native' })).toThrow(
          /x: expected \[\.\.\., 40\]/,
        )
        expect(() =>
          fourierLinear(tf.ones([2, 40]), tf.tensor1d(c), spec, {
            strategy: 'native',
            base: tf.ones([2, 47]),
          }),
        ).toThrow(/base/)
        expect(fourierLinear(tf.ones([2, 40]), tf.tensor1d(c), spec, { strategy: 'native' }).shape).toEqual([
          2, 48,
        ])
      })
    })
  })
}

/** Only a missing binding skips the tests; any other error fails them. */
function unsupported(error: unknown): Error {
  if (FourierFTError.isInstance(error) && error.code === 'UNSUPPORTED') return error
  throw error
}
