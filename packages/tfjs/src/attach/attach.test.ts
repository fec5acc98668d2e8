import { mkdtemp, readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type Adapter,
  createAdapter,
  createConfig,
  FourierFTError,
  loadAdapter,
  referenceDelta,
  savePretrained,
} from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { categoricalCrossentropy, expectDescent } from '../__fixtures__/expect-descent.js'
import { useBackend } from '../__fixtures__/use-backend.js'
import { attach } from './attach.js'

const CONFIG = { targetModules: ['query', 'value'], nFrequency: 12, scaling: 40, randomLocSeed: 7 }

/** query [10 → 8] relu, norm, value [8 → 6] linear without bias, head [6 → 3] softmax. */
function makeModel(): tfl.Sequential {
  const kernelInitializer = tfl.initializers.glorotNormal({ seed: 1 })
  const biasInitializer = tfl.initializers.randomNormal({ seed: 2 })
  const random = { kernelInitializer, biasInitializer }
  return tfl.sequential({
    layers: [
      tfl.layers.dense({ name: 'query', units: 8, inputShape: [10], activation: 'relu', ...random }),
      tfl.layers.batchNormalization({ name: 'norm' }),
      tfl.layers.dense({ name: 'value', units: 6, useBias: false, kernelInitializer }),
      tfl.layers.dense({ name: 'head', units: 3, activation: 'softmax', ...random }),
    ],
  })
}

/** Three layers, each of which sums at most 10 + 2·12 products and a bias in float32. */
const ROUNDINGS = 3 * (10 + 2 * 12 + 2) * 2 ** -24

function numbers(tensor: tf.Tensor | tf.Tensor[]): Float32Array {
  return Float32Array.from((Array.isArray(tensor) ? tensor[0] : tensor).dataSync())
}

function predict(model: tfl.LayersModel, x: tf.Tensor): Float32Array {
  const output = model.predict(x)
  const values = numbers(output)
  tf.dispose(output)
  return values
}

const allWeights = (model: tfl.LayersModel) => model.weights.map((weight) => numbers(weight.read()))
const flags = (model: tfl.LayersModel) =>
  model.weights.map((weight) => [weight.trainable, (weight.read() as tf.Variable).trainable])

async function codeOf(run: () => unknown): Promise<unknown> {
  try {
    await run()
  } catch (error) {
    return FourierFTError.isInstance(error) ? error.code : error
  }
  return 'nothing thrown'
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(actual.length).toBe(expected.length)
  for (let i = 0; i < expected.length; i++) {
    expect(Math.abs(actual[i] - expected[i])).toBeLessThanOrEqual(tolerance)
  }
}

describe.each(['cpu', 'wasm'] as const)('attach on %s', (backend) => {
  beforeAll(() => useBackend(backend))

  let model: tfl.Sequential
  let optimizers: tf.Optimizer[]
  let x: tf.Tensor2D
  let y: tf.Tensor2D
  let tensorsBefore: number
  beforeEach(() => {
    tensorsBefore = tf.memory().numTensors
    optimizers = []
    model = makeModel()
    x = tf.randomNormal([16, 10], 0, 1, 'float32', 5)
    // Not tf.oneHot: with float32 it gives wrong numbers on wasm.
    y = tf.tensor2d(
      Float32Array.from({ length: 16 * 3 }, (_, i) => (i % 3 === Math.floor(i / 3) % 3 ? 1 : 0)),
      [16, 3],
    )
  })
  afterEach(() => {
    model.dispose()
    tf.dispose([x, y])
    for (const optimizer of optimizers) optimizer.dispose()
    // Each test frees its model, optimizers and adapters.
    expect(tf.memory().numTensors).toBe(tensorsBefore)
  })

  function adam(): tf.Optimizer {
    const optimizer = tf.train.adam(0.05)
    optimizers.push(optimizer)
    return optimizer
  }

  /**
   * The output of a plain model whose weights include ΔW of the adapters. `limit` is the largest error that rounding explains, for the
   * largest number before an activation.
   */
  function expectedOutput(adapters: readonly Adapter[]): { values: Float32Array; limit: number } {
    let largest = 1
    const output = tf.tidy(() => {
      let h: tf.Tensor = x
      for (const layer of model.layers) {
        const [kernel, bias] = layer.getWeights() as [tf.Tensor, tf.Tensor?]
        if (layer.name === 'norm') {
          h = layer.apply(h) as tf.Tensor
          continue
        }
        let total = kernel
        for (const adapter of adapters) {
          if (!adapter.modules.has(layer.name)) continue
          const shape = [kernel.shape[1] as number, kernel.shape[0]] as const
          const delta = referenceDelta(adapter.layer(layer.name, shape))
          total = tf.add(total, tf.transpose(tf.tensor2d(Float32Array.from(delta), [...shape])))
        }
        h = tf.matMul(h, total)
        if (bias) h = tf.add(h, bias)
        largest = Math.max(largest, ...numbers(h).map(Math.abs))
        if (layer.name === 'query') h = tf.relu(h)
        if (layer.name === 'head') h = tf.softmax(h)
      }
      return h
    })
    const values = numbers(output)
    output.dispose()
    return { values, limit: ROUNDINGS * largest }
  }

  function expectOutput(adapters: readonly Adapter[]): void {
    const { values, limit } = expectedOutput(adapters)
    expectClose(predict(model, x), values, limit)
  }

  it('changes nothing until an adapter is active, and detaches completely', async () => {
    const base = predict(model, x)
    for (const weight of model.layers[1]?.weights ?? []) weight.trainable = false
    const weights = allWeights(model)
    const before = flags(model)
    const layerProperties = model.layers.map((layer) => Object.getOwnPropertyNames(layer))
    const modelProperties = Object.getOwnPropertyNames(model)
    const adapters = attach(model)
    expect(predict(model, x)).toEqual(base)
    adapters.addAdapter('a', CONFIG)
    expect(predict(model, x)).not.toEqual(base)
    adapters.detach()
    expect(predict(model, x)).toEqual(base)
    expect(allWeights(model)).toEqual(weights)
    expect(flags(model)).toEqual(before)
    expect(model.layers.map((layer) => Object.getOwnPropertyNames(layer))).toEqual(layerProperties)
    expect(Object.getOwnPropertyNames(model)).toEqual(modelProperties)
    expect(await codeOf(() => adapters.setAdapter('a'))).toBe('INVALID_STATE')
  })

  it.each(['dense', 'factored', 'auto'] as const)(
    'applies ΔW before bias and activation (%s)',
    async (strategy) => {
      const adapters = attach(model, CONFIG, { strategy })
      expectOutput([await adapters.getAdapter()])
      adapters.detach()
    },
  )

  it('adds, disables, enables and deletes adapters', async () => {
    const base = predict(model, x)
    const adapters = attach(model)
    adapters.addAdapter('a', CONFIG, { initialSeed: 1 })
    adapters.addAdapter(
      'b',
      { ...CONFIG, randomLocSeed: 8, targetModules: ['value', 'head'] },
      { initialSeed: 2 },
    )
    adapters.addAdapter('c', { ...CONFIG, scaling: -30 }, { initialSeed: 3 })
    expect(adapters.listAdapters()).toEqual(['a', 'b', 'c'])
    expect(adapters.activeAdapters).toEqual(['a'])
    const a = predict(model, x)
    adapters.setAdapter(['a', 'b', 'c'])
    expectOutput(await Promise.all(['a', 'b', 'c'].map((name) => adapters.getAdapter(name))))
    adapters.disableAdapters()
    expect(predict(model, x)).toEqual(base)
    adapters.enableAdapters()
    adapters.deleteAdapter('b')
    adapters.deleteAdapter('c')
    expect(predict(model, x)).toEqual(a)
    adapters.deleteAdapter('a')
    expect(predict(model, x)).toEqual(base)
    expect(adapters.listAdapters()).toEqual([])
    adapters.detach()
  })

  it('gives each row of a batch its own adapter', async () => {
    const adapters = attach(model)
    adapters.addAdapter('a', CONFIG, { initialSeed: 1 })
    adapters.addAdapter('b', { ...CONFIG, scaling: 90 }, { initialSeed: 2 })
    adapters.addAdapter('c', { ...CONFIG, randomLocSeed: 9 }, { initialSeed: 2 })
    const single = new Map<string | null, Float32Array>()
    let limit = 0
    for (const name of ['a', 'b', 'c']) {
      adapters.setAdapter(name)
      single.set(name, predict(model, x))
      limit = Math.max(limit, expectedOutput([await adapters.getAdapter()]).limit)
    }
    adapters.disableAdapters()
    single.set(null, predict(model, x))
    adapters.enableAdapters()
    const cycle = ['a', null, 'b', 'c'] as const
    const names = Array.from({ length: 16 }, (_, i) => cycle[i % 4] as string | null)
    const mixed = adapters.withAdapterPerRow(names, () => predict(model, x))
    names.forEach((name, i) => {
      expectClose(
        mixed.subarray(3 * i, 3 * i + 3),
        (single.get(name) as Float32Array).subarray(3 * i, 3 * i + 3),
        limit,
      )
    })
    expect(predict(model, x)).toEqual(single.get('c'))
    expect(() => adapters.withAdapterPerRow(['a'], () => predict(model, x))).toThrow(
      /a batch of 1 rows.*received 16 rows/,
    )
    expect(() => adapters.withAdapterPerRow(['z'], () => predict(model, x))).toThrow(/no adapter 'z'/)
    adapters.detach()
  })

  it.each(['before', 'after'])('trains only the coefficients if attached %s compile', async (when) => {
    const rate = 0.1
    const sgd = tf.train.sgd(rate)
    optimizers.push(sgd)
    const compile = () => model.compile({ optimizer: sgd, loss: 'categoricalCrossentropy' })
    if (when === 'after') compile()
    const weights = allWeights(model)
    const adapters = attach(model, { ...CONFIG, initWeights: true })
    if (when === 'before') compile()
    const start = await adapters.getAdapter()
    await expectDescent({
      variables: adapters.trainableVariables,
      rate,
      loss: () => categoricalCrossentropy(y, model.apply(x) as tf.Tensor),
      train: () => model.fit(x, y, { epochs: 1, verbose: 0 }),
    })
    await model.fit(x, y, { epochs: 29, verbose: 0 })
    expect(allWeights(model)).toEqual(weights)
    const trained = await adapters.getAdapter()
    for (const [name, { coefficients }] of trained.modules) {
      expect(coefficients).not.toEqual(start.modules.get(name)?.coefficients)
    }
    expectOutput([trained])
    const evaluated = model.evaluate(x, y, { verbose: 0 }) as tf.Scalar
    const probabilities = expectedOutput([trained]).values
    const logarithms = Array.from(numbers(y), (label, i) => (label === 1 ? Math.log(probabilities[i]) : 0))
    const loss = -logarithms.reduce((sum, logarithm) => sum + logarithm) / 16
    expect(Math.abs(numbers(evaluated)[0] - loss)).toBeLessThanOrEqual(1e-4 * loss)
    evaluated.dispose()
    adapters.detach()
    expect(allWeights(model)).toEqual(weights)
    model.compile({ optimizer: adam(), loss: 'categoricalCrossentropy' })
    await model.fit(x, y, { epochs: 1, verbose: 0 })
    expect(allWeights(model)).not.toEqual(weights)
  })

  it('trains with trainOnBatch and in a custom training loop', async () => {
    const adapters = attach(model, CONFIG)
    const weights = allWeights(model)
    model.compile({ optimizer: 'sgd', loss: 'categoricalCrossentropy' })
    const first = await adapters.getAdapter()
    await model.trainOnBatch(x, y)
    const second = await adapters.getAdapter()
    expect(second.modules.get('query')?.coefficients).not.toEqual(first.modules.get('query')?.coefficients)
    const optimizer = tf.train.sgd(0.1)
    const loss = () =>
      tf.tidy(() => tf.losses.softmaxCrossEntropy(y, model.apply(x) as tf.Tensor) as tf.Scalar)
    // Without a list, all trainable variables: those of the base model are frozen.
    optimizer.minimize(loss)
    optimizer.minimize(loss, false, adapters.trainableVariables)
    const third = await adapters.getAdapter()
    expect(third.modules.get('query')?.coefficients).not.toEqual(second.modules.get('query')?.coefficients)
    expect(allWeights(model)).toEqual(weights)
    optimizer.dispose()
    adapters.detach()
  })

  it('continues to train an adapter after a switch, and rejects an optimizer with moments of another adapter', async () => {
    const adapters = attach(model, CONFIG)
    adapters.addAdapter('b', CONFIG)
    model.compile({ optimizer: adam(), loss: 'categoricalCrossentropy' })
    await model.fit(x, y, { epochs: 1, verbose: 0 })
    adapters.setAdapter('b')
    predict(model, x)
    adapters.setAdapter('default')
    await model.fit(x, y, { epochs: 1, verbose: 0 })
    adapters.setAdapter('b')
    const before = await adapters.getAdapter()
    expect(await codeOf(() => model.fit(x, y, { epochs: 1, verbose: 0 }))).toBe('INVALID_STATE')
    expect((await adapters.getAdapter()).modules).toEqual(before.modules)
    model.compile({ optimizer: adam(), loss: 'categoricalCrossentropy' })
    await model.fit(x, y, { epochs: 1, verbose: 0 })
    expect((await adapters.getAdapter()).modules).not.toEqual(before.modules)
    adapters.disableAdapters()
    expect(await codeOf(() => model.fit(x, y, { epochs: 1, verbose: 0 }))).toBe('INVALID_STATE')
    adapters.detach()
  })

  it('rejects an optimizer that has moments of the base model', async () => {
    model.compile({ optimizer: adam(), loss: 'categoricalCrossentropy' })
    await model.fit(x, y, { epochs: 1, verbose: 0 })
    const adapters = attach(model, CONFIG)
    expect(await codeOf(() => model.fit(x, y, { epochs: 1, verbose: 0 }))).toBe('INVALID_STATE')
    model.compile({ optimizer: adam(), loss: 'categoricalCrossentropy' })
    await model.fit(x, y, { epochs: 1, verbose: 0 })
    adapters.detach()
  })

  it('trains from a dataset', async () => {
    const weights = allWeights(model)
    const adapters = attach(model, CONFIG)
    model.compile({ optimizer: 'sgd', loss: 'categoricalCrossentropy' })
    const before = await adapters.getAdapter()
    let batches = 0
    const iterator = { next: async () => ({ done: batches++ >= 3, value: { xs: x.clone(), ys: y.clone() } }) }
    type Dataset = Parameters<typeof model.fitDataset>[0]
    const dataset = { iterator: async () => iterator, size: 3 } as unknown as Dataset
    await model.fitDataset(dataset, { epochs: 1, verbose: 0 })
    expect((await adapters.getAdapter()).modules).not.toEqual(before.modules)
    expect(allWeights(model)).toEqual(weights)
    adapters.detach()
  })

  it('does not change the averages of batch normalisation', async () => {
    const weights = allWeights(model)
    const adapters = attach(model, CONFIG)
    model.compile({ optimizer: 'sgd', loss: 'categoricalCrossentropy' })
    await model.fit(x, y, { epochs: 2, verbose: 0 })
    adapters.detach()
    expect(allWeights(model)).toEqual(weights)
    await model.fit(x, y, { epochs: 2, verbose: 0 })
    expect(allWeights(model).slice(-2)).not.toEqual(weights.slice(-2))
  })

  it('accepts integers, as the layer itself does', () => {
    const adapters = attach(model, CONFIG)
    const ones = tf.ones([2, 10])
    const integers = tf.ones([2, 10], 'int32')
    const [expected, actual] = [ones, integers].map((input) => {
      const output = model.layers[0]?.apply(input) as tf.Tensor
      return [numbers(output), output.dispose()][0]
    })
    expect(actual).toEqual(expected)
    tf.dispose([ones, integers])
    adapters.detach()
  })

  it('can be detached after the model was disposed of', async () => {
    const adapters = attach(model, CONFIG)
    await adapters.mergeAdapter()
    model.dispose()
    adapters.detach()
    model = makeModel()
  })

  it('merges, and gives the original weights back bit for bit', async () => {
    const weights = allWeights(model)
    const adapters = attach(model, CONFIG)
    const unmerged = predict(model, x)
    const { limit } = expectedOutput([await adapters.getAdapter()])
    await adapters.mergeAdapter()
    expect(allWeights(model)).not.toEqual(weights)
    expectClose(predict(model, x), unmerged, limit)
    expect(await codeOf(() => adapters.mergeAdapter())).toBe('INVALID_STATE')
    expect(await codeOf(() => model.fit(x, y))).toBe('INVALID_STATE')
    adapters.unmergeAdapter()
    expect(allWeights(model)).toEqual(weights)
    expect(predict(model, x)).toEqual(unmerged)
    await adapters.mergeAdapter()
    adapters.disableAdapters()
    expect(allWeights(model)).toEqual(weights)
    adapters.enableAdapters()
    await adapters.mergeAdapter()
    adapters.detach()
    expect(allWeights(model)).toEqual(weights)
  })

  it('merges permanently with mergeAndUnload', async () => {
    const before = flags(model)
    const adapters = attach(model, { ...CONFIG, modulesToSave: ['head'] })
    model.compile({ optimizer: 'sgd', loss: 'categoricalCrossentropy' })
    await model.fit(x, y, { epochs: 2, verbose: 0 })
    const trained = predict(model, x)
    const { limit } = expectedOutput([await adapters.getAdapter()])
    expect(await adapters.mergeAndUnload()).toBe(model)
    expectClose(predict(model, x), trained, limit)
    expect(flags(model)).toEqual(before)
  })

  it('trains, saves and loads whole layers (modulesToSave)', async () => {
    const weights = allWeights(model)
    const base = predict(model, x)
    const adapters = attach(model, { ...CONFIG, modulesToSave: ['head'] })
    model.compile({ optimizer: 'sgd', loss: 'categoricalCrossentropy' })
    await model.fit(x, y, { epochs: 2, verbose: 0 })
    expect(allWeights(model)).toEqual(weights)
    const trained = predict(model, x)
    const adapter = await adapters.getAdapter()
    expect([...adapter.savedTensors.keys()]).toEqual([
      'base_model.model.head.weight',
      'base_model.model.head.bias',
    ])
    expect(adapter.savedTensors.get('base_model.model.head.weight')?.shape).toEqual([3, 6])
    await adapters.loadAdapter(await loadAdapter(adapter.toBytes()), { name: 'again' })
    adapters.setAdapter('again')
    expect(predict(model, x)).toEqual(trained)
    adapters.disableAdapters()
    expect(predict(model, x)).toEqual(base)
    expect(await codeOf(() => adapters.setAdapter(['default', 'again']))).toBe('UNSUPPORTED')
    adapters.detach()
    expect(allWeights(model)).toEqual(weights)
  })

  it('saves the bytes that it loaded', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'fourierft-tfjs-'))
    const shapes = { query: [8, 10], value: [6, 8] } as const
    await savePretrained(createAdapter(createConfig(CONFIG), shapes), join(directory, 'first'))
    const adapters = attach(model)
    await adapters.loadAdapter(join(directory, 'first'))
    expect(adapters.activeAdapters).toEqual(['default'])
    const loaded = predict(model, x)
    await adapters.savePretrained(join(directory, 'second'))
    expect(await readdir(join(directory, 'second'))).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
    ])
    const [first, second] = await Promise.all(
      ['first', 'second'].map((name) => loadAdapter(join(directory, name))),
    )
    expect(second?.toBytes()).toEqual(first?.toBytes())
    await adapters.loadAdapter(join(directory, 'second'), { name: 'second' })
    adapters.setAdapter('second')
    expect(predict(model, x)).toEqual(loaded)
    adapters.detach()
  })

  it('excludes adapters from model.save and getWeights', async () => {
    const adapters = attach(model, CONFIG)
    expect(model.getWeights().map(numbers)).toEqual(model.weights.map((weight) => numbers(weight.read())))
    expect(model.layers[0]?.getWeights().length).toBe(2)
    let saved: tf.io.ModelArtifacts | undefined
    await model.save(
      tf.io.withSaveHandler(async (artifacts) => {
        saved = artifacts
        return { modelArtifactsInfo: tf.io.getModelArtifactsInfoForJSON(artifacts) }
      }),
    )
    const copy = await tfl.loadLayersModel(tf.io.fromMemory(saved as tf.io.ModelArtifacts))
    adapters.disableAdapters()
    expect(predict(copy, x)).toEqual(predict(model, x))
    copy.dispose()
    adapters.detach()
  })

  it('rejects invalid calls, and changes nothing', async () => {
    const adapters = attach(model, CONFIG)
    const before = { output: predict(model, x), tensors: tf.memory().numTensors }
    expect(await codeOf(() => adapters.addAdapter('default', CONFIG))).toBe('ADAPTER_EXISTS')
    expect(await codeOf(() => adapters.addAdapter('', CONFIG))).toBe('INVALID_OPTION')
    expect(await codeOf(() => adapters.addAdapter('b', { targetModules: ['quer'] }))).toBe('MODULE_NOT_FOUND')
    expect(() => adapters.addAdapter('b', { targetModules: ['quer'] })).toThrow(/query/)
    expect(await codeOf(() => adapters.addAdapter('b', {}))).toBe('INVALID_OPTION')
    expect(await codeOf(() => adapters.addAdapter('b', { targetModules: ['norm'] }))).toBe('UNSUPPORTED')
    expect(await codeOf(() => adapters.addAdapter('b', { targetModules: ['query'], nFrequency: 81 }))).toBe(
      'INVALID_ENTRY_COUNT',
    )
    expect(await codeOf(() => adapters.addAdapter('b', { ...CONFIG, bias: 'all' }))).toBe('UNSUPPORTED')
    expect(await codeOf(() => adapters.addAdapter('b', { ...CONFIG, modulesToSave: ['haed'] }))).toBe(
      'MODULE_NOT_FOUND',
    )
    const otherShape = createAdapter(createConfig({ nFrequency: 4 }), { query: [8, 11] })
    expect(await codeOf(() => adapters.loadAdapter(otherShape, { name: 'b' }))).toBe('SHAPE_MISMATCH')
    const unknownModule = createAdapter(createConfig({ nFrequency: 4 }), { key: [8, 10] })
    expect(await codeOf(() => adapters.loadAdapter(unknownModule, { name: 'b' }))).toBe('MODULE_NOT_FOUND')
    expect(await codeOf(() => adapters.setAdapter('b'))).toBe('ADAPTER_NOT_FOUND')
    for (const invalid of [undefined, null, 3] as unknown as string[][]) {
      expect(await codeOf(() => adapters.setAdapter(invalid))).toBe('INVALID_OPTION')
      expect(await codeOf(() => adapters.withAdapterPerRow(invalid, () => 0))).toBe('INVALID_OPTION')
    }
    expect(await codeOf(() => adapters.mergeAdapter(null as unknown as string[]))).toBe('INVALID_OPTION')
    expect(adapters.activeAdapters).toEqual(['default'])
    expect(await codeOf(() => adapters.deleteAdapter('b'))).toBe('ADAPTER_NOT_FOUND')
    expect(await codeOf(() => adapters.mergeAdapter('b'))).toBe('ADAPTER_NOT_FOUND')
    expect(await codeOf(() => adapters.setCoefficients('default', { query: new Float32Array(3) }))).toBe(
      'SHAPE_MISMATCH',
    )
    expect(await codeOf(() => adapters.setCoefficients('default', { head: new Float32Array(12) }))).toBe(
      'MODULE_NOT_FOUND',
    )
    expect(await codeOf(() => attach(model))).toBe('INVALID_STATE')
    expect(adapters.listAdapters()).toEqual(['default'])
    expect(predict(model, x)).toEqual(before.output)
    expect(tf.memory().numTensors).toBe(before.tensors)
    adapters.detach()
    expect(await codeOf(() => attach(model, { targetModules: ['no'] }))).toBe('MODULE_NOT_FOUND')
    attach(model).detach()
  })

  it('holds as many tensors after 1,000 swaps as before', () => {
    const adapters = attach(model)
    adapters.addAdapter('a', CONFIG)
    adapters.addAdapter('b', CONFIG, { initialSeed: 1 })
    const swap = (i: number) => {
      adapters.setAdapter(i % 2 === 0 ? 'a' : 'b')
      tf.tidy(() => void model.predict(x))
    }
    swap(0)
    const before = tf.memory()
    for (let i = 1; i <= 1000; i++) swap(i)
    expect(tf.memory().numTensors).toBe(before.numTensors)
    expect(tf.memory().numBytes).toBe(before.numBytes)
    adapters.detach()
  })

  it('holds as many tensors after many training steps as after one', async () => {
    const adapters = attach(model, { ...CONFIG, modulesToSave: ['head'] })
    model.compile({ optimizer: adam(), loss: 'categoricalCrossentropy' })
    await model.trainOnBatch(x, y)
    const before = tf.memory()
    for (let i = 0; i < 200; i++) await model.trainOnBatch(x, y)
    expect(tf.memory().numTensors).toBe(before.numTensors)
    expect(tf.memory().numBytes).toBe(before.numBytes)
    adapters.detach()
  })

  it('can be used inside tidy', () => {
    const adapters = tf.tidy(() => {
      const inside = attach(model, CONFIG)
      inside.addAdapter('b', CONFIG)
      inside.setAdapter(['default', 'b'])
      predict(model, x)
      return inside as unknown as tf.TensorContainer
    }) as unknown as ReturnType<typeof attach>
    const once = predict(model, x)
    expect(predict(model, x)).toEqual(once)
    tf.tidy(() => adapters.setCoefficients('b', { query: new Float32Array(12) }))
    expect(predict(model, x)).not.toEqual(once)
    adapters.detach()
  })

  it('adapts layers inside nested models and TimeDistributed, and uses the names of moduleNames', async () => {
    const kernelInitializer = tfl.initializers.glorotNormal({ seed: 3 })
    const encoder = tfl.sequential({
      name: 'encoder',
      layers: [
        tfl.layers.timeDistributed({
          name: 'steps',
          layer: tfl.layers.dense({ name: 'query', units: 4, kernelInitializer }),
          inputShape: [5, 3],
        }),
      ],
    })
    const input = tfl.input({ shape: [5, 3] })
    const shared = tfl.layers.dense({ name: 'out', units: 4, kernelInitializer })
    const twice = shared.apply(shared.apply(encoder.apply(input))) as tfl.SymbolicTensor
    const nested = tfl.model({ inputs: input, outputs: twice })
    const xs = tf.randomNormal([2, 5, 3], 0, 1, 'float32', 6)
    const base = predict(nested, xs)
    const adapters = attach(
      nested,
      { ...CONFIG, targetModules: ['query', 'out'] },
      { moduleNames: { out: 'classifier.out' } },
    )
    expect(adapters.shapes).toEqual({ 'encoder.steps.query': [4, 3], 'classifier.out': [4, 4] })
    const adapted = predict(nested, xs)
    expect(adapted).not.toEqual(base)
    await adapters.mergeAdapter()
    expectClose(predict(nested, xs), adapted, ROUNDINGS * Math.max(...adapted.map(Math.abs)))
    adapters.detach()
    expect(predict(nested, xs)).toEqual(base)
    nested.dispose()
    // The layer counts two uses, and the model releases only one of them.
    shared.dispose()
    xs.dispose()
  })
})

describe('attach', () => {
  it.each([
    ['an object that is not a model', () => attach({} as tfl.LayersModel), 'attachGraphModel'],
    ['an unknown option', () => attach(makeModel(), undefined, { strat: 'dense' } as object), 'strategy'],
    [
      'an unknown strategy',
      () => attach(makeModel(), undefined, { strategy: 'fast' as 'auto' }),
      'expected one of auto, dense',
    ],
  ])('rejects %s', (_, run, words) => {
    expect(run).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining(words) }),
    )
  })
})
