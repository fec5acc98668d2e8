/**
 * `EinsumDense` and `MultiHeadAttention`. TensorFlow.js does not export them. Bundlers can import their files, but Node cannot, because
 * the files are not valid ES modules for Node. So the tests run in a browser, on the backends `cpu` and `webgl`.
 */
import '@tensorflow/tfjs-backend-cpu'
import '@tensorflow/tfjs-backend-webgl'
import { loadAdapter, referenceBackward, referenceForward } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
// These layers call methods of tensors, which the package @tensorflow/tfjs registers.
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js'
import * as tfl from '@tensorflow/tfjs-layers'
import { EinsumDense } from '@tensorflow/tfjs-layers/dist/layers/nlp/einsum_dense.js'
import { MultiHeadAttention } from '@tensorflow/tfjs-layers/dist/layers/nlp/multihead_attention.js'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { expectDescent, meanSquaredError } from '../../src/__fixtures__/expect-descent.js'
import { attach } from '../../src/index.js'

const [N, BATCH] = [10, 4]
/** With this scaling, ΔW is about as large as W. */
const CONFIG = { targetModules: ['adapted'], nFrequency: N, scaling: 10, randomLocSeed: 5 }

/** Relative to the largest number: sums of at most 24 products, of numbers that are sums of 2·N products, and of 4·24 in gradients. */
const ROUNDINGS = (24 + 2 * N + 4 * 24 + 4) * 2 ** -24

const numbers = (tensor: tf.Tensor) => Float32Array.from(tensor.dataSync())

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, roundings = ROUNDINGS): void {
  expect(actual.length).toBe(expected.length)
  const largest = Math.max(1, ...Array.from(expected, Math.abs))
  const worst = Math.max(...Array.from(expected, (value, i) => Math.abs(actual[i] - value)))
  expect(worst).toBeLessThanOrEqual(roundings * largest)
}

interface Case {
  readonly equation: string
  readonly outputShape: (number | null)[]
  readonly biasAxes?: string
  readonly input: readonly number[]
  readonly shape: readonly [number, number]
}

const CASES: readonly Case[] = [
  { equation: 'ab,bc->ac', outputShape: [7], biasAxes: 'c', input: [6], shape: [7, 6] },
  { equation: 'abc,cd->abd', outputShape: [null, 5], input: [3, 6], shape: [5, 6] },
  { equation: 'abc,cde->abde', outputShape: [null, 2, 4], biasAxes: 'de', input: [3, 6], shape: [8, 6] },
  { equation: 'abcd,cde->abe', outputShape: [null, 6], biasAxes: 'e', input: [3, 2, 4], shape: [6, 8] },
]

function einsumDense({ equation, outputShape, biasAxes }: Omit<Case, 'input' | 'shape'>): EinsumDense {
  return new EinsumDense({
    name: 'adapted',
    equation,
    outputShape: outputShape,
    ...(biasAxes && { biasAxes }),
    kernelInitializer: 'glorotNormal',
    biasInitializer: 'randomNormal',
  })
}

function modelOf(layer: tfl.layers.Layer, shape: readonly number[]): tfl.LayersModel {
  const input = tfl.input({ shape: [...shape] })
  return tfl.model({ inputs: input, outputs: layer.apply(input) as tfl.SymbolicTensor })
}

describe.each(['cpu', 'webgl'] as const)('EinsumDense on %s', (backend) => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true)
    await tf.ready()
  })

  describe.each(CASES)('$equation', (layerConfig) => {
    const { input, shape } = layerConfig
    const [d1] = shape
    let layer: EinsumDense
    let model: tfl.LayersModel
    let x: tf.Tensor
    let tensorsBefore: number
    beforeEach(() => {
      tensorsBefore = tf.memory().numTensors
      layer = einsumDense(layerConfig)
      model = modelOf(layer, input)
      x = tf.randomNormal([BATCH, ...input], 0, 1, 'float32', 5)
    })
    afterEach(() => {
      model.dispose()
      x.dispose()
      expect(tf.memory().numTensors).toBe(tensorsBefore)
    })

    const predict = () => tf.tidy(() => numbers(model.predict(x, { batchSize: BATCH }) as tf.Tensor))
    const weights = () => model.weights.map((weight) => numbers(weight.read()))

    it('equals the reference for one adapter and for several, merges, and restores the original weights', async () => {
      const before = weights()
      const base = predict()
      const adapters = attach(model)
      expect(adapters.shapes).toEqual({ adapted: shape })
      expect(predict()).toEqual(base)
      adapters.addAdapter('a', CONFIG, { initialSeed: 1 })
      adapters.addAdapter('b', { ...CONFIG, randomLocSeed: 6 }, { initialSeed: 2 })
      const [a, b] = await Promise.all(
        ['a', 'b'].map(async (name) => (await adapters.getAdapter(name)).layer('adapted', shape)),
      )
      if (!a || !b) throw new Error('two adapters')
      const both = referenceForward([a, b], numbers(x), base)
      for (const strategy of ['dense', 'factored', 'spectral', 'auto'] as const) {
        adapters.strategy = strategy
        adapters.setAdapter('a')
        expectClose(predict(), referenceForward([a], numbers(x), base))
        adapters.setAdapter(['a', 'b'])
        expectClose(predict(), both)
      }
      await adapters.mergeAdapter()
      expectClose(predict(), both)
      adapters.unmergeAdapter()
      expect(weights()).toEqual(before)
      adapters.disableAdapters()
      expect(predict()).toEqual(base)
      adapters.detach()
    })

    it('computes the gradients of the reference', async () => {
      const adapters = attach(model, CONFIG)
      const ofLayer = (await adapters.getAdapter()).layer('adapted', shape)
      const c = adapters.coefficients('default', 'adapted')
      const gradY = tf.randomNormal([BATCH * (numbers(x).length / BATCH / shape[1]) * d1], 0, 1, 'float32', 9)
      const gradients = (by: tf.Tensor[]) =>
        tf.tidy(() => {
          const loss = (x: tf.Tensor) => tf.sum(tf.mul(tf.reshape(model.apply(x) as tf.Tensor, [-1]), gradY))
          return tf.grads(loss)(by).map(numbers)
        })
      const [byX = [], byC = []] = gradients([x, c])
      const reference = referenceBackward([ofLayer], numbers(x), numbers(gradY))
      expectClose(byC, reference.coefficients[0] ?? [])
      // The gradient for x is that of the frozen layer, through the gradient of einsum, plus that of the branch.
      adapters.disableAdapters()
      const [frozen = []] = gradients([x])
      expectClose(
        byX,
        reference.x.map((value, i) => value + frozen[i]),
      )
      adapters.detach()
      gradY.dispose()
    })

    it('gives each row its own adapter', () => {
      const adapters = attach(model)
      adapters.addAdapter('a', CONFIG, { initialSeed: 1 })
      adapters.addAdapter('b', { ...CONFIG, randomLocSeed: 6 }, { initialSeed: 2 })
      const rows = ['b', null, 'a', 'b']
      const mixed = adapters.withAdapterPerRow(rows, predict)
      const rowLength = mixed.length / BATCH
      for (const [row, name] of rows.entries()) {
        if (name === null) adapters.disableAdapters()
        else {
          adapters.enableAdapters()
          adapters.setAdapter(name)
        }
        const rowOf = (all: Float32Array) => all.subarray(row * rowLength, (row + 1) * rowLength)
        expectClose(rowOf(mixed), rowOf(predict()))
      }
      adapters.detach()
    })

    it('can be trained and saved as a whole layer, as a matrix', async () => {
      const input = tfl.input({ shape: [...layerConfig.input] })
      const other = tfl.layers.dense({ name: 'other', units: 3 })
      const replaced = einsumDense(layerConfig)
      const outputs = other.apply(replaced.apply(input)) as tfl.SymbolicTensor
      const both = tfl.model({ inputs: input, outputs })
      const predict = () => tf.tidy(() => numbers(both.predict(x) as tf.Tensor))
      const config = { ...CONFIG, nFrequency: 5, targetModules: ['other'], modulesToSave: ['adapted'] }
      const adapters = attach(both, config)
      const before = predict()
      const optimizer = tf.train.sgd(0.1)
      optimizer.minimize(() => tf.mean(tf.square(both.apply(x) as tf.Tensor)) as tf.Scalar)
      const trained = predict()
      expect(trained).not.toEqual(before)
      const saved = await adapters.getAdapter()
      const tensors = Array.from(saved.savedTensors, ([name, { shape }]) => [name, shape])
      expect(Object.fromEntries(tensors)).toEqual({
        'base_model.model.adapted.weight': shape,
        ...(layerConfig.biasAxes && { 'base_model.model.adapted.bias': [d1] }),
      })
      await adapters.loadAdapter(await loadAdapter(saved.toBytes()), { name: 'again' })
      adapters.setAdapter('again')
      expect(predict()).toEqual(trained)
      await adapters.mergeAndUnload()
      expectClose(predict(), trained)
      optimizer.dispose()
      both.dispose()
    })
  })

  it.each([
    { equation: 'abc,dc->abd', outputShape: [null, 5] },
    { equation: 'abc,bcd->abd', outputShape: [3, 5] },
    { equation: 'abc,cd->adb', outputShape: [5, 3] },
    { equation: 'abc,cde->abde', outputShape: [null, 2, 4], biasAxes: 'e' },
  ])('rejects $equation $biasAxes, which is not a dense layer', (layerConfig) => {
    const model = modelOf(einsumDense(layerConfig), [3, 6])
    const adapters = attach(model)
    expect(adapters.shapes).toEqual({})
    expect(() => adapters.addAdapter('a', CONFIG)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining('EinsumDense with') }),
    )
    adapters.detach()
    model.dispose()
  })
})

const [WIDTH, STEPS] = [8, 5]

/** The learning rate of gradient descent. */
const RATE = 0.1

/** The number of roundings in sequence: embedding; query, scores, softmax, values, output, twice; head. */
const DEPTH = 1 + 2 * 5 + 1

/** `x + attention(x)`: users need such a layer, because `apply` of TensorFlow.js's attention does not accept a value in a model. */
class SelfAttention extends tfl.layers.Layer {
  static readonly className = 'SelfAttention'
  readonly attention = new MultiHeadAttention({ name: 'attention', numHeads: 2, keyDim: 4 })

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    const x = Array.isArray(inputs) ? inputs[0] : inputs
    return tf.tidy(() => tf.add(x, this.attention.call(x, { value: x })))
  }

  override computeOutputShape(shape: tfl.Shape): tfl.Shape {
    return shape
  }

  get projections(): EinsumDense[] {
    const { _queryDense, _keyDense, _valueDense, _outputDense } = this.attention
    return [_queryDense, _keyDense, _valueDense, _outputDense]
  }
}

describe.each(['cpu', 'webgl'] as const)('MultiHeadAttention on %s', (backend) => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true)
    await tf.ready()
  })

  let blocks: SelfAttention[]
  let model: tfl.LayersModel
  let x: tf.Tensor
  let y: tf.Tensor
  let base: Float32Array
  beforeEach(() => {
    blocks = ['first', 'second'].map((name) => new SelfAttention({ name }))
    model = tfl.sequential({
      layers: [
        tfl.layers.dense({ name: 'embed', units: WIDTH, inputShape: [STEPS, 3] }),
        ...blocks,
        tfl.layers.globalAveragePooling1d({}),
        tfl.layers.dense({ name: 'head', units: 2 }),
      ],
    })
    x = tf.randomNormal([16, STEPS, 3], 0, 1, 'float32', 3)
    y = tf.randomNormal([16, 2], 0, 1, 'float32', 4)
    // The first run creates the attention's weights; then they are set to the same numbers in each test.
    predict()
    for (const [i, weight] of weights().entries()) {
      const value = tf.randomNormal(weight.shape as number[], 0, 1 / Math.sqrt(WIDTH), 'float32', 10 + i)
      weight.write(value)
      value.dispose()
    }
    base = predict()
  })
  afterEach(() => {
    model.dispose()
    tf.dispose([x, y])
  })

  const predict = () => tf.tidy(() => numbers(model.predict(x, { batchSize: 16 }) as tf.Tensor))
  const weights = () =>
    [model, ...blocks.flatMap(({ projections }) => projections)].flatMap(({ weights }) => weights)
  const kernels = () => weights().map((weight) => numbers(weight.read()))

  it('trains adapters of query and value in two layers', async () => {
    const before = kernels()
    const config = { targetModules: ['query', 'value'], nFrequency: 20, scaling: 20, initWeights: true }
    const adapters = attach(model, config)
    expect([...(await adapters.getAdapter()).modules.keys()]).toEqual([
      'first.attention.query',
      'first.attention.value',
      'second.attention.query',
      'second.attention.value',
    ])
    const optimizer = tf.train.sgd(RATE)
    model.compile({ optimizer, loss: 'meanSquaredError' })
    await expectDescent({
      variables: adapters.trainableVariables,
      rate: RATE,
      loss: () => meanSquaredError(y, model.apply(x) as tf.Tensor),
      train: () => model.fit(x, y, { epochs: 1, verbose: 0, yieldEvery: 'never' }),
    })
    expect(kernels()).toEqual(before)
    for (const { coefficients } of (await adapters.getAdapter()).modules.values()) {
      expect(coefficients.some((value) => value !== 0)).toBe(true)
    }
    const { numTensors } = tf.memory()
    await model.trainOnBatch(x, y)
    expect(tf.memory().numTensors).toBe(numTensors)

    const trained = predict()
    await adapters.mergeAdapter()
    expectClose(predict(), trained, DEPTH * ROUNDINGS)
    adapters.unmergeAdapter()
    expect(kernels()).toEqual(before)
    adapters.detach()
    expect(predict()).toEqual(base)
    optimizer.dispose()
  })

  it('lets the layer before it train while attention is frozen', async () => {
    const before = kernels()
    const adapters = attach(model, {
      targetModules: ['embed'],
      nFrequency: 10,
      scaling: 20,
      initWeights: true,
    })
    const optimizer = tf.train.sgd(RATE)
    model.compile({ optimizer, loss: 'meanSquaredError' })
    await expectDescent({
      variables: adapters.trainableVariables,
      rate: RATE,
      loss: () => meanSquaredError(y, model.apply(x) as tf.Tensor),
      train: () => model.fit(x, y, { epochs: 1, verbose: 0, yieldEvery: 'never' }),
    })
    expect(kernels()).toEqual(before)
    adapters.detach()
    optimizer.dispose()
  })

  it('is included in all-linear, and can have a different adapter for each row', async () => {
    const adapters = attach(model)
    const config = { targetModules: 'all-linear', nFrequency: 6, scaling: 10 } as const
    adapters.addAdapter('a', config, { initialSeed: 1 })
    adapters.addAdapter('b', { ...config, randomLocSeed: 6 }, { initialSeed: 2 })
    expect([...(await adapters.getAdapter('a')).modules.keys()]).toEqual([
      'embed',
      ...['first', 'second'].flatMap((block) =>
        ['query', 'key', 'value', 'attentionOutput'].map((part) => `${block}.attention.${part}`),
      ),
      'head',
    ])
    const names = ['b', null, 'a']
    const rows = Array.from({ length: 16 }, (_, row) => names[row % 3] ?? null)
    const mixed = adapters.withAdapterPerRow(rows, predict)
    const single = new Map<string | null, Float32Array>([[null, base]])
    for (const name of ['a', 'b']) {
      adapters.setAdapter(name)
      single.set(name, predict())
    }
    const expected = rows.flatMap((name, row) => [
      ...(single.get(name)?.subarray(2 * row, 2 * row + 2) ?? []),
    ])
    expectClose(mixed, expected, DEPTH * ROUNDINGS)
    adapters.detach()
    expect(predict()).toEqual(base)
  })
})
