/** Every strategy on webgl with float16 textures, as on many phones, compared with `core`'s float64 reference. */
import '@tensorflow/tfjs-backend-webgl'
import { createLayer, referenceBackward, referenceForward, uniformEntries } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { attach, disposeTables, fourierLinear } from '../../src/index.js'
import { chooseStrategy } from '../../src/strategies/choose-strategy.js'

beforeAll(async () => {
  tf.env().set('WEBGL_FORCE_F16_TEXTURES', true)
  tf.env().set('WEBGL_CPU_FORWARD', false)
  expect(await tf.setBackend('webgl')).toBe(true)
})
afterAll(disposeTables)

/**
 * Relative to the largest number, in unit roundoffs u of float16. Shaders sum in float32 and round the numbers that they store: x and the
 * other operand, the coefficients twice, four tables, and the results between products. Each number passes through at most 12 roundings.
 * Their errors are independent and at most u each, u/√3 in the mean square, so together √(12/3)·u = 2u of the root mean square of the
 * result. Of some thousand results, the largest error is about 5 standard deviations, and the largest result is 3.3 root mean squares: 3u.
 * The roundings of the constant factor and of the result do not average out: 2u.
 */
const TOLERANCE = 5 * 2 ** -11

it('TensorFlow.js computes with a precision of 16 bits', async () => {
  expect(tf.env().getBool('WEBGL_RENDER_FLOAT32_ENABLED')).toBe(false)
  expect(tf.backend().floatPrecision()).toBe(16)
  expect(tf.backend().epsilon()).toBe(1e-4)
  // Constants are also stored in float16: 1/768² loses bits.
  const factor = tf.tidy(() => tf.mul(tf.scalar(1), 1 / 768 ** 2).dataSync()[0])
  expect(Math.abs(factor * 768 ** 2 - 1)).toBeGreaterThan(2 ** -11)
})

it('rejects spectral if its indices are not exact, and auto does not choose it', () => {
  // The cause: TensorFlow.js reads the wrong element for index 2049.
  const read = tf.tidy(() =>
    tf.gather(tf.mod(tf.range(0, 4096), 2), tf.tensor1d([2047, 2049], 'int32')).dataSync(),
  )
  expect(Array.from(read)).toEqual([1, 0])
  for (const [d, n] of [
    [1025, 10],
    [64, 2049],
  ] as const) {
    const spec = {
      shape: [d, 64] as const,
      entries: uniformEntries({ shape: [d, 64], n, seed: 1 }),
      scaling: 1,
    }
    const [x, c] = [tf.ones([1, 64]), tf.ones([n])]
    expect(() => fourierLinear(x, c, spec, { strategy: 'spectral' })).toThrow('at most 1024 features')
    expect(chooseStrategy({ tokens: 1, shape: [d, 64], n })).not.toBe('spectral')
    tf.dispose([x, c])
  }
  const size = { tokens: 64, shape: [1024, 1024], n: 1000 } as const
  expect(chooseStrategy(size)).toBe('spectral')
  expect(chooseStrategy({ ...size, shape: [4096, 4096] })).not.toBe('spectral')
})

const [D, N, T] = [768, 1000, 3]

// `dense` runs once, because it takes 20 s on a software GPU.
it.each([
  ['dense', 1, 1],
  ['factored', 1, 1],
  ['factored', 300, 1],
  ['factored', 300, 1e-3],
  ['spectral', 1, 1],
  ['spectral', 300, 1],
  ['spectral', 300, 1e-3],
] as const)(
  '%s: forward and backward are the reference with α = %d and gradients of about %d',
  async (strategy, scaling, size) => {
    const layer = createLayer({
      name: 'query',
      shape: [D, D],
      entries: uniformEntries({ shape: [D, D], n: N, seed: 2024 }),
      coefficients: normals(N, 1),
      scaling,
    })
    const x = normals(T * D, 2)
    const gradY = normals(T * D, 3).map((value) => value * size)
    const expected = referenceBackward([layer], x, gradY)
    const run = tf.tidy(() => {
      const xs = tf.tensor2d(x, [T, D])
      const c = tf.tensor1d(Float32Array.from(layer.coefficients))
      const apply = (x: tf.Tensor, c: tf.Tensor) => fourierLinear(x, c, layer, { strategy })
      const [gradX, gradC] = tf.grads(apply)([xs, c], tf.tensor2d(gradY, [T, D])) as [tf.Tensor, tf.Tensor]
      return { y: apply(xs, c), gradX, gradC }
    })
    expect(relativeError(await run.y.data(), referenceForward([layer], x))).toBeLessThanOrEqual(TOLERANCE)
    expect(relativeError(await run.gradX.data(), expected.x)).toBeLessThanOrEqual(TOLERANCE)
    expect(relativeError(await run.gradC.data(), expected.coefficients[0] ?? [])).toBeLessThanOrEqual(
      TOLERANCE,
    )
    tf.dispose(run)
  },
)

it('an attached model adds and merges two adapters', async () => {
  const model = tfl.sequential({
    layers: [tfl.layers.dense({ name: 'query', units: D, inputShape: [D], useBias: false })],
  })
  const kernel = normals(D * D, 4).map((value) => value / Math.sqrt(D))
  model.setWeights([tf.tensor2d(kernel, [D, D])])
  const adapters = attach(model)
  const config = { targetModules: ['query'], nFrequency: N, scaling: 300 }
  adapters.addAdapter('a', config)
  adapters.addAdapter('b', { ...config, scaling: 100 }, { initialSeed: 2 })
  adapters.setAdapter(['a', 'b'])
  adapters.strategy = 'spectral'
  const files = await Promise.all(['a', 'b'].map((name) => adapters.getAdapter(name)))
  const layers = files.map((adapter) => adapter.layer('query', [D, D]))
  const x = normals(T * D, 2)
  const base = Float64Array.from({ length: T * D }, (_, i) => {
    const [t, p] = [Math.floor(i / D), i % D]
    let sum = 0
    for (let q = 0; q < D; q++) sum += x[t * D + q] * kernel[q * D + p]
    return sum
  })
  const expected = referenceForward(layers, x).map((value, i) => value + base[i])
  const xs = tf.tensor2d(x, [T, D])
  const predict = async () => {
    const y = model.predict(xs) as tf.Tensor
    const values = await y.data()
    y.dispose()
    return values
  }
  expect(relativeError(await predict(), expected)).toBeLessThanOrEqual(TOLERANCE)
  await adapters.mergeAdapter()
  expect(relativeError(await predict(), expected)).toBeLessThanOrEqual(TOLERANCE)
  adapters.detach()
  model.dispose()
  xs.dispose()
})

it('convolutions and embeddings give the same output with a branch and merged', async () => {
  const cases = [
    {
      layer: tfl.layers.conv2d({ name: 'adapted', filters: 96, kernelSize: 3, inputShape: [5, 5, 64] }),
      x: tf.tensor4d(normals(1600, 5), [1, 5, 5, 64]),
    },
    {
      layer: tfl.layers.embedding({ name: 'adapted', inputDim: 512, outputDim: 96, inputLength: 4 }),
      x: tf.tensor2d([1, 77, 300, 511], [1, 4], 'int32'),
    },
  ]
  for (const { layer, x } of cases) {
    const model = tfl.sequential({ layers: [layer] })
    // The output is Δy, because all weights are zero.
    const zeros = model.getWeights().map((weight) => tf.zerosLike(weight))
    model.setWeights(zeros)
    const adapters = attach(model, { targetModules: ['adapted'], nFrequency: 200, scaling: 1 })
    const adapted = await (model.predict(x) as tf.Tensor).data()
    await adapters.mergeAdapter()
    // `core` computes the merged ΔW in float64.
    const merged = await (model.predict(x) as tf.Tensor).data()
    expect(Math.max(...adapted.map(Math.abs))).toBeGreaterThan(0)
    expect(relativeError(adapted, merged)).toBeLessThanOrEqual(TOLERANCE)
    adapters.detach()
    model.dispose()
  }
})

function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length)
  let [largest, error] = [0, 0]
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]))
    error = Math.max(error, Math.abs(actual[i] - expected[i]))
  }
  return error / largest
}

function normals(length: number, seed: number): Float32Array {
  let state = seed
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
  return Float32Array.from(
    { length },
    () => Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next()),
  )
}
