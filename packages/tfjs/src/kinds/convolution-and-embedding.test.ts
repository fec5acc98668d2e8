/** Convolutions and embeddings; `attach.test.ts` tests the behaviour that all layers share. */
import { type Adapter, FourierFTError, loadAdapter, referenceDelta } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { expectDescent, meanSquaredError } from '../__fixtures__/expect-descent.js'
import { useBackend } from '../__fixtures__/use-backend.js'
import { attach } from '../attach/attach.js'

const N = 10
/** With this scaling, ΔW is about as large as W. */
const CONFIG = { targetModules: ['adapted'], nFrequency: N, scaling: 10, randomLocSeed: 5 }

interface Case {
  readonly layer: () => tfl.layers.Layer
  readonly input: readonly number[]
  readonly shape: readonly [number, number]
  /** TensorFlow.js itself has no gradient for dilated convolutions. */
  readonly hasPlainGradient?: false
  readonly allowsAdapterPerRow?: true
  readonly ids?: true
}

const random = {
  name: 'adapted',
  kernelInitializer: tfl.initializers.glorotNormal({ seed: 1 }),
  biasInitializer: tfl.initializers.randomNormal({ seed: 2 }),
}

const CASES: Readonly<Record<string, Case>> = {
  'conv2d 3×2, strides 2×1, same, tanh': {
    layer: () =>
      tfl.layers.conv2d({
        ...random,
        filters: 5,
        kernelSize: [3, 2],
        strides: [2, 1],
        padding: 'same',
        activation: 'tanh',
      }),
    input: [7, 6, 3],
    shape: [5, 18],
  },
  'conv2d 3×3, valid, strides that skip the last pixels, no bias': {
    layer: () => tfl.layers.conv2d({ ...random, filters: 4, kernelSize: 3, strides: 2, useBias: false }),
    input: [6, 8, 2],
    shape: [4, 18],
  },
  'conv2d 2×3, dilated, same': {
    layer: () =>
      tfl.layers.conv2d({
        ...random,
        filters: 4,
        kernelSize: [2, 3],
        dilationRate: [3, 2],
        padding: 'same',
        activation: 'sigmoid',
      }),
    input: [6, 7, 2],
    shape: [4, 12],
    hasPlainGradient: false,
  },
  'conv2d 2×2, dilated, valid, channels first, softmax': {
    layer: () =>
      tfl.layers.conv2d({
        ...random,
        filters: 4,
        kernelSize: 2,
        dilationRate: 2,
        dataFormat: 'channelsFirst',
        activation: 'softmax',
      }),
    input: [3, 5, 6],
    shape: [4, 12],
    hasPlainGradient: false,
  },
  'conv2d 1×1': {
    layer: () => tfl.layers.conv2d({ ...random, filters: 5, kernelSize: 1, activation: 'tanh' }),
    input: [4, 3, 6],
    shape: [5, 6],
    allowsAdapterPerRow: true,
  },
  'conv2d 1×1, channels first': {
    layer: () => tfl.layers.conv2d({ ...random, filters: 5, kernelSize: 1, dataFormat: 'channelsFirst' }),
    input: [6, 4, 3],
    shape: [5, 6],
    allowsAdapterPerRow: true,
  },
  'conv2d 1×1, strides 2': {
    layer: () => tfl.layers.conv2d({ ...random, filters: 5, kernelSize: 1, strides: 2 }),
    input: [5, 4, 6],
    shape: [5, 6],
  },
  'conv1d 3, same': {
    layer: () => tfl.layers.conv1d({ ...random, filters: 4, kernelSize: 3, padding: 'same', strides: 2 }),
    input: [9, 3],
    shape: [4, 9],
  },
  'conv1d 2, dilated': {
    layer: () =>
      tfl.layers.conv1d({ ...random, filters: 4, kernelSize: 2, dilationRate: 3, activation: 'tanh' }),
    input: [9, 3],
    shape: [4, 6],
    hasPlainGradient: false,
  },
  'conv1d 1': {
    layer: () => tfl.layers.conv1d({ ...random, filters: 4, kernelSize: 1 }),
    input: [9, 3],
    shape: [4, 3],
    allowsAdapterPerRow: true,
  },
  embedding: {
    layer: () =>
      tfl.layers.embedding({
        name: 'adapted',
        inputDim: 11,
        outputDim: 6,
        embeddingsInitializer: tfl.initializers.randomNormal({ seed: 1 }),
      }),
    input: [7],
    shape: [6, 11],
    allowsAdapterPerRow: true,
    ids: true,
  },
}

const BATCH = 4

/** The learning rate of gradient descent. */
const RATE = 0.1

/** The step of central differences, and the limit for their error, which is of order `H²·y‴/y′`; a wrong term would be of order 1. */
const H = 2 ** -6
const DIFFERENCES = 0.01

/**
 * Relative to the largest number: a layer sums at most 18 products of kernels, which are sums of 2·10 products themselves; gradients also
 * sum over at most 4·42 pixels. Each term is rounded to float32.
 */
const ROUNDINGS = (18 + 2 * N + 4 * 42 + 4) * 2 ** -24

function numbers(tensor: tf.Tensor | tf.Tensor[]): Float32Array {
  return Float32Array.from((Array.isArray(tensor) ? tensor[0] : tensor).dataSync())
}

const allWeights = (model: tfl.LayersModel) => model.weights.map((weight) => numbers(weight.read()))

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(actual.length).toBe(expected.length)
  const largest = Math.max(1, ...Array.from(expected, Math.abs))
  const worst = Math.max(...Array.from(expected, (value, i) => Math.abs(actual[i] - value)))
  expect(worst).toBeLessThanOrEqual(ROUNDINGS * largest)
}

async function errorOf(run: () => unknown): Promise<unknown> {
  try {
    await run()
  } catch (error) {
    return error
  }
  return 'nothing thrown'
}

describe.each(['cpu', 'wasm'] as const)('convolutions and embeddings on %s', (backend) => {
  beforeAll(() => useBackend(backend))

  describe.each(Object.entries(CASES))('%s', (_, { layer: make, input, shape, ...only }) => {
    let layer: tfl.layers.Layer
    let model: tfl.LayersModel
    let x: tf.Tensor
    let tensorsBefore: number
    beforeEach(() => {
      tensorsBefore = tf.memory().numTensors
      layer = make()
      model = modelOf(layer)
      x = only.ids
        ? tf.tidy(() => tf.cast(tf.randomUniform([BATCH, ...input], 0, 11, 'float32', 5), 'int32'))
        : tf.randomNormal([BATCH, ...input], 0, 1, 'float32', 5)
    })
    afterEach(() => {
      model.dispose()
      x.dispose()
      expect(tf.memory().numTensors).toBe(tensorsBefore)
    })

    function modelOf(layer: tfl.layers.Layer): tfl.LayersModel {
      const inputs = tfl.input({ shape: [...input] })
      return tfl.model({ inputs, outputs: layer.apply(inputs) as tfl.SymbolicTensor })
    }

    function predict(of = model): Float32Array {
      const output = of.predict(x)
      const values = numbers(output)
      tf.dispose(output)
      return values
    }

    /** Computes the output of a layer without adapters whose kernel includes the reference's ΔW. */
    function outputOfChangedKernel(adapter: Adapter): Float32Array {
      const change = referenceDelta(adapter.layer('adapted', shape))
      const [outputs, inputs] = shape
      const plain = modelOf(make())
      const [kernel, ...rest] = layer.getWeights() as [tf.Tensor, ...tf.Tensor[]]
      const changed = numbers(kernel).map((value, i) => {
        const [q, p] = [Math.floor(i / outputs), i % outputs]
        return value + change[p * inputs + q]
      })
      tf.tidy(() => plain.setWeights([tf.tensor(changed, kernel.shape), ...rest]))
      const values = predict(plain)
      plain.dispose()
      return values
    }

    it('applies ΔW, merges it, restores the original weights bit for bit, and detaches completely', async () => {
      const weights = allWeights(model)
      const base = predict()
      const properties = Object.getOwnPropertyNames(layer)
      const adapters = attach(model)
      expect(adapters.shapes).toEqual({ adapted: shape })
      expect(predict()).toEqual(base)
      adapters.addAdapter('a', CONFIG)
      const adapter = await adapters.getAdapter()
      const adapted = predict()
      expectClose(adapted, outputOfChangedKernel(adapter))
      expect(Math.max(...adapted.map((value, i) => Math.abs(value - base[i])))).toBeGreaterThan(0.01)
      await adapters.mergeAdapter()
      expectClose(predict(), adapted)
      adapters.unmergeAdapter()
      expect(allWeights(model)).toEqual(weights)
      expect(predict()).toEqual(adapted)
      adapters.disableAdapters()
      expect(predict()).toEqual(base)
      await adapters.loadAdapter(await loadAdapter(adapter.toBytes()), { name: 'again' })
      adapters.enableAdapters()
      adapters.setAdapter('again')
      expect(predict()).toEqual(adapted)
      expect((await adapters.getAdapter()).toBytes()).toEqual(adapter.toBytes())
      adapters.detach()
      expect(predict()).toEqual(base)
      expect(allWeights(model)).toEqual(weights)
      expect(Object.getOwnPropertyNames(layer)).toEqual(properties)
    })

    it('adds two adapters with different entries', async () => {
      const adapters = attach(model)
      adapters.addAdapter('a', CONFIG, { initialSeed: 1 })
      adapters.addAdapter('b', { ...CONFIG, randomLocSeed: 6 }, { initialSeed: 2 })
      adapters.setAdapter(['a', 'b'])
      const both = predict()
      await adapters.mergeAdapter()
      expectClose(predict(), both)
      adapters.detach()
    })

    /** Computes `Σ w·y`, with a different weight for each output. */
    function weighted(y: tf.Tensor): tf.Scalar {
      return tf.sum(tf.mul(y, tf.randomNormal(y.shape, 0, 1, 'float32', 9)))
    }

    it('computes the gradient for the coefficients', async () => {
      const adapters = attach(model, CONFIG)
      const c = adapters.coefficients('default', 'adapted')
      const start = numbers(c)
      const loss = () => weighted(model.apply(x) as tf.Tensor)
      const gradient = tf.tidy(() => {
        const { grads } = tf.variableGrads(loss)
        expect(Object.keys(grads)).toEqual([c.name])
        return numbers(grads[c.name])
      })
      // The error of central differences is of order h²; the error of the losses, 2⁻²⁴·|loss|/h, is far below.
      const largest = Math.max(...gradient.map(Math.abs))
      const lossAt = (values: Float32Array) => {
        adapters.setCoefficients('default', { adapted: values })
        return tf.tidy(() => numbers(loss())[0])
      }
      for (let l = 0; l < N; l++) {
        const [up, down] = [H, -H].map((step) =>
          lossAt(start.map((value, i) => (i === l ? value + step : value))),
        ) as [number, number]
        expect(Math.abs((up - down) / (2 * H) - gradient[l])).toBeLessThanOrEqual(DIFFERENCES * largest)
      }
      adapters.detach()
    })

    const gradientOfX = () => tf.tidy(() => numbers(tf.grad((x) => weighted(model.apply(x) as tf.Tensor))(x)))

    if (!only.ids) {
      it('computes the gradient for x: a step along a direction has the expected difference quotient', () => {
        const adapters = attach(model, CONFIG)
        const gradient = gradientOfX()
        const [slope, expected] = tf.tidy(() => {
          const direction = tf.randomNormal(x.shape, 0, 1, 'float32', 11)
          const at = (step: number) =>
            numbers(weighted(model.apply(tf.add(x, tf.mul(direction, step))) as tf.Tensor))[0]
          const along = numbers(direction).reduce((sum, v, i) => sum + v * gradient[i], 0)
          return [(at(H) - at(-H)) / (2 * H), along]
        })
        expect(Math.abs(slope - expected)).toBeLessThanOrEqual(
          DIFFERENCES * Math.max(...gradient.map(Math.abs)),
        )
        adapters.detach()
      })
    }
    // On wasm TensorFlow.js has no gradient for the convolutions of a merged layer.
    if (backend === 'cpu' && !only.ids && only.hasPlainGradient !== false) {
      it('computes the same gradient for x as the merged layer', async () => {
        const adapters = attach(model, CONFIG)
        const gradient = gradientOfX()
        await adapters.mergeAdapter()
        expectClose(gradient, gradientOfX())
        adapters.detach()
      })
    }

    it('trains only the coefficients, by gradient descent', async () => {
      const weights = allWeights(model)
      const adapters = attach(model, { ...CONFIG, initWeights: true })
      const optimizer = tf.train.sgd(RATE)
      model.compile({ optimizer, loss: 'meanSquaredError' })
      const target = tf.tidy(() => {
        adapters.setCoefficients('default', {
          adapted: Float32Array.from({ length: N }, (_, l) => 1 - l / 5),
        })
        const output = (model.predict(x) as tf.Tensor).clone()
        adapters.setCoefficients('default', { adapted: new Float32Array(N) })
        return output
      })
      await expectDescent({
        variables: adapters.trainableVariables,
        rate: RATE,
        loss: () => meanSquaredError(target, model.apply(x) as tf.Tensor),
        train: () => model.fit(x, target, { epochs: 1, verbose: 0 }),
      })
      expect(allWeights(model)).toEqual(weights)
      const { numTensors } = tf.memory()
      await model.trainOnBatch(x, target)
      expect(tf.memory().numTensors).toBe(numTensors)
      adapters.detach()
      tf.dispose(target)
      optimizer.dispose()
    })

    it(
      only.allowsAdapterPerRow ? 'gives each row its own adapter' : 'rejects an adapter for each row',
      async () => {
        const adapters = attach(model)
        adapters.addAdapter('a', CONFIG, { initialSeed: 1 })
        adapters.addAdapter('b', { ...CONFIG, randomLocSeed: 6 }, { initialSeed: 2 })
        const names = ['b', null, 'a', 'b']
        if (only.allowsAdapterPerRow) {
          const mixed = adapters.withAdapterPerRow(names, () => predict())
          const rowLength = mixed.length / BATCH
          for (const [row, name] of names.entries()) {
            if (name === null) adapters.disableAdapters()
            else {
              adapters.enableAdapters()
              adapters.setAdapter(name)
            }
            expectClose(
              mixed.subarray(row * rowLength, (row + 1) * rowLength),
              predict().subarray(row * rowLength, (row + 1) * rowLength),
            )
          }
        } else {
          const before = predict()
          const error = await errorOf(() => adapters.withAdapterPerRow(names, () => predict()))
          expect(error).toBeInstanceOf(FourierFTError)
          expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining("'adapted'") })
          expect(predict()).toEqual(before)
        }
        adapters.detach()
      },
    )
  })

  it('trains all kinds in one model, also inside TimeDistributed', async () => {
    const tensorsBefore = tf.memory().numTensors
    const { conv1d, conv2d, dense, embedding, globalAveragePooling2d, reshape, timeDistributed } = tfl.layers
    const model = tfl.sequential({
      layers: [
        embedding({ name: 'tokens', inputDim: 9, outputDim: 4, inputLength: 6 }),
        conv1d({ name: 'line', filters: 4, kernelSize: 3, padding: 'same', activation: 'tanh' }),
        reshape({ targetShape: [2, 3, 4, 1] }),
        timeDistributed({ name: 'steps', layer: conv2d({ name: 'image', filters: 4, kernelSize: 2 }) }),
        timeDistributed({ layer: globalAveragePooling2d({}) }),
        dense({ name: 'out', units: 2 }),
      ],
    })
    const targetModules = ['tokens', 'line', 'image', 'out']
    const adapters = attach(model, { targetModules, nFrequency: 4, scaling: 10 })
    expect(adapters.shapes).toEqual({
      tokens: [4, 9],
      line: [4, 12],
      'steps.image': [4, 4],
      out: [2, 4],
    })
    const weights = allWeights(model)
    const before = (await adapters.getAdapter()).modules
    const optimizer = tf.train.sgd(RATE)
    model.compile({ optimizer, loss: 'meanSquaredError' })
    const x = tf.tensor2d([0, 1, 2, 3, 4, 5, 8, 7, 6, 5, 4, 3], [2, 6])
    const y = tf.ones([2, 2, 2])
    await expectDescent({
      variables: adapters.trainableVariables,
      rate: RATE,
      loss: () => meanSquaredError(y, model.apply(x) as tf.Tensor),
      train: () => model.fit(x, y, { epochs: 1, verbose: 0 }),
    })
    expect(allWeights(model)).toEqual(weights)
    for (const [module, { coefficients }] of (await adapters.getAdapter()).modules) {
      expect(coefficients).not.toEqual(before.get(module)?.coefficients)
    }
    adapters.detach()
    expect(allWeights(model)).toEqual(weights)
    model.dispose()
    optimizer.dispose()
    tf.dispose([x, y])
    expect(tf.memory().numTensors).toBe(tensorsBefore)
  })

  it('adapts the Dense layers with all-linear, and rejects layers that cannot have adapters', async () => {
    const { conv1d, conv2d, dense, depthwiseConv2d, flatten, reshape, separableConv2d } = tfl.layers
    const model = tfl.sequential({
      layers: [
        conv2d({ name: 'conv', filters: 3, kernelSize: 2, inputShape: [6, 6, 2] }),
        depthwiseConv2d({ name: 'depthwise', kernelSize: 2 }),
        separableConv2d({ name: 'separable', filters: 3, kernelSize: 2 }),
        reshape({ targetShape: [16, 3] }),
        conv1d({ name: 'causal', filters: 2, kernelSize: 2, padding: 'causal' }),
        flatten(),
        dense({ name: 'out', units: 2 }),
      ],
    })
    const adapters = attach(model, { targetModules: 'all-linear', nFrequency: 4 })
    expect([...(await adapters.getAdapter()).modules.keys()]).toEqual(['out'])
    for (const [module, kind] of [
      ['depthwise', 'DepthwiseConv2D'],
      ['separable', 'SeparableConv2D'],
      ['causal', 'Conv1D'],
    ] as const) {
      const error = await errorOf(() => adapters.addAdapter('b', { targetModules: ['conv', module] }))
      expect(error).toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringContaining(`'${module}' is a ${kind}`),
      })
    }
    const config = { targetModules: ['out'], modulesToSave: ['conv'], nFrequency: 4 }
    expect(await errorOf(() => adapters.addAdapter('b', config))).toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining("'conv' is a Conv2D"),
    })
    expect(adapters.listAdapters()).toEqual(['default'])
    adapters.detach()
    model.dispose()
  })
})
