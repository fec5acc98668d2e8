/**
 * Adapters of GraphModels. The graphs are written by hand, with the nodes that the Python converter of tfjs-converter writes. Results are
 * compared with the float64 reference.
 */
import {
  createConfig,
  FourierFTError,
  type Layer,
  referenceBackward,
  referenceForward,
} from '@fourierft/core'
import { type GraphModel, loadGraphModel } from '@tensorflow/tfjs-converter'
import * as tf from '@tensorflow/tfjs-core'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { expectDescent, meanSquaredError } from '../__fixtures__/expect-descent.js'
import { useBackend } from '../__fixtures__/use-backend.js'
import type { Adapters } from '../attach/adapters.js'
import { attachGraphModel } from './attach-graph-model.js'
import { moduleNameOf } from './attachable-graph-model.js'

const FLOAT = { type: 'DT_FLOAT' }

const numbers = (count: number, phase: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i + phase))

interface Constant {
  readonly shape: readonly number[]
  readonly values: Float32Array
}

/** A model from the contents of `model.json` and its weights, loaded as users load theirs. */
async function load(
  nodes: readonly object[],
  constants: Readonly<Record<string, Constant>>,
  inputShape: readonly number[],
): Promise<GraphModel> {
  const shapeOf = (shape: readonly number[]) => ({
    shape: { dim: shape.map((size) => ({ size: String(size) })) },
  })
  const modelTopology = {
    node: [
      { name: 'x', op: 'Placeholder', attr: { dtype: FLOAT, shape: shapeOf(inputShape) } },
      ...Object.entries(constants).map(([name, { shape }]) => ({
        name,
        op: 'Const',
        attr: { dtype: FLOAT, value: { tensor: { dtype: 'DT_FLOAT', tensorShape: shapeOf(shape).shape } } },
      })),
      ...nodes,
    ],
    library: {},
    versions: { producer: 1 },
  }
  const weightSpecs = Object.entries(constants).map(([name, { shape }]) => ({
    name,
    shape: [...shape],
    dtype: 'float32' as const,
  }))
  const weightData = Float32Array.from(Object.values(constants).flatMap(({ values }) => [...values])).buffer
  return loadGraphModel(tf.io.fromMemory({ modelTopology, weightSpecs, weightData }))
}

const root = 'StatefulPartitionedCall/model'

/** relu(x·W₁ + b₁), which the converter fuses, then ·W₂ and + b₂ as separate nodes. */
function network(): Promise<GraphModel> {
  return load(
    [
      {
        name: `${root}/hidden/Relu`,
        op: '_FusedMatMul',
        input: ['x', `${root}/hidden/MatMul/ReadVariableOp`, `${root}/hidden/BiasAdd/ReadVariableOp`],
        attr: {
          T: FLOAT,
          fused_ops: { list: { s: ['Qmlhc0FkZA==', 'UmVsdQ=='] } }, // BiasAdd, Relu
          num_args: { i: '1' },
          epsilon: { f: 0 },
          transpose_a: { b: false },
          transpose_b: { b: false },
        },
      },
      {
        name: `${root}/out/MatMul`,
        op: 'MatMul',
        input: [`${root}/hidden/Relu`, `${root}/out/MatMul/ReadVariableOp`],
        attr: { T: FLOAT, transpose_a: { b: false }, transpose_b: { b: false } },
      },
      {
        name: 'Identity',
        op: 'AddV2',
        input: [`${root}/out/MatMul`, `${root}/out/BiasAdd/ReadVariableOp`],
        attr: { T: FLOAT },
      },
    ],
    {
      [`${root}/hidden/MatMul/ReadVariableOp`]: { shape: [20, 24], values: numbers(480, 0.2) },
      [`${root}/hidden/BiasAdd/ReadVariableOp`]: { shape: [24], values: numbers(24, 0.3) },
      [`${root}/out/MatMul/ReadVariableOp`]: { shape: [24, 6], values: numbers(144, 0.4) },
      [`${root}/out/BiasAdd/ReadVariableOp`]: { shape: [6], values: numbers(6, 0.5) },
    },
    [-1, 20],
  )
}

const config = createConfig({ targetModules: ['hidden', 'out'], nFrequency: 40, scaling: 30 })
const batch = 5
const input = numbers(batch * 20, 0.1)

/** `max |a − b|` over `max |b|`. */
function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const values = Array.from(b)
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return values.reduce((most, value, i) => Math.max(most, Math.abs(a[i] - value)), 0) / largest
}

// The conformance suite's limit for levels 4 and 5 in float32.
const LIMIT = 1e-5

/** x·Wᵀ + b in float64, for a kernel `[in, out]`. */
function dense(x: Float64Array, kernel: Float32Array, bias: Float32Array): Float64Array {
  const outputs = bias.length
  const inputs = kernel.length / outputs
  return Float64Array.from({ length: (x.length / inputs) * outputs }, (_, i) => {
    const [t, p] = [Math.floor(i / outputs), i % outputs]
    let sum = bias[p]
    for (let q = 0; q < inputs; q++) sum += x[t * inputs + q] * kernel[q * outputs + p]
    return sum
  })
}

/** The network with the layers' Δy, in float64; `rows` as in `referenceForward`. */
function expected(hidden: Layer[], out: Layer[], rows?: Int32Array): { y: Float64Array; h: Float64Array } {
  const x = Float64Array.from(input)
  const options = rows ? { rows } : {}
  const before = referenceForward(hidden, x, dense(x, numbers(480, 0.2), numbers(24, 0.3)), options)
  const h = before.map((value) => Math.max(0, value))
  return { y: referenceForward(out, h, dense(h, numbers(144, 0.4), numbers(6, 0.5)), options), h }
}

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  let model: GraphModel
  let x: tf.Tensor2D
  let adapters: Adapters<GraphModel>

  beforeAll(() => useBackend(backend))
  beforeEach(async () => {
    model = await network()
    x = tf.tensor2d(input, [batch, 20])
    adapters = attachGraphModel(model)
  })
  afterEach(() => {
    adapters.detach()
    model.dispose()
    x.dispose()
  })

  const run = () => {
    const y = model.predict(x) as tf.Tensor
    const values = y.dataSync() as Float32Array
    y.dispose()
    return values
  }
  const layerOf = async (name: string, module: string) => {
    const adapter = await adapters.getAdapter(name)
    const shape = adapters.shapes[module]
    return adapter.layer(module, shape)
  }

  test('lists the names and shapes of the modules', () => {
    expect(adapters.shapes).toEqual({ 'model.hidden': [24, 20], 'model.out': [6, 24] })
  })

  test('applies active adapters before bias and activation, and does not change the output without them', async () => {
    const plain = run()
    adapters.addAdapter('a', config)
    adapters.addAdapter('b', { ...config, randomLocSeed: 5 })
    for (const names of [['a'], ['b'], ['a', 'b']]) {
      adapters.setAdapter(names)
      const hidden = await Promise.all(names.map((name) => layerOf(name, 'model.hidden')))
      const out = await Promise.all(names.map((name) => layerOf(name, 'model.out')))
      const received = run()
      expect(difference(received, expected(hidden, out).y)).toBeLessThan(LIMIT)
      expect(received).not.toEqual(plain)
      expect(await asynchronously()).toEqual(received)
    }
    adapters.disableAdapters()
    expect(run()).toEqual(plain)
    adapters.enableAdapters()
    expect(run()).not.toEqual(plain)
    adapters.detach()
    expect(run()).toEqual(plain)
    adapters = attachGraphModel(model)
    expect(run()).toEqual(plain)

    async function asynchronously() {
      const y = (await model.executeAsync(x)) as tf.Tensor
      const values = await y.data()
      y.dispose()
      return values
    }
  })

  test('applies a different adapter to each row', async () => {
    adapters.addAdapter('a', config)
    adapters.addAdapter('b', config)
    const names = ['a', null, 'b', 'b', 'a']
    const y = adapters.withAdapterPerRow(names, () => model.predict(x) as tf.Tensor)
    const rows = Int32Array.of(0, -1, 1, 1, 0)
    const hidden = [await layerOf('a', 'model.hidden'), await layerOf('b', 'model.hidden')]
    const out = [await layerOf('a', 'model.out'), await layerOf('b', 'model.out')]
    expect(difference(y.dataSync(), expected(hidden, out, rows).y)).toBeLessThan(LIMIT)
    y.dispose()
  })

  test('merges, restores the original weights bit for bit, and merges permanently', async () => {
    const plain = run()
    adapters.addAdapter('a', config)
    const adapted = run()
    await adapters.mergeAdapter()
    expect(difference(run(), adapted)).toBeLessThan(LIMIT)
    adapters.unmergeAdapter()
    adapters.disableAdapters()
    expect(run()).toEqual(plain)
    adapters.enableAdapters()
    expect(await adapters.mergeAndUnload()).toBe(model)
    const merged = run()
    expect(difference(merged, adapted)).toBeLessThan(LIMIT)
    adapters = attachGraphModel(model)
    expect(run()).toEqual(merged)
  })

  test('computes the gradients of the reference for the coefficients, through both layers', async () => {
    adapters.addAdapter('a', config)
    const [hidden, out] = [await layerOf('a', 'model.hidden'), await layerOf('a', 'model.out')]
    const { h } = expected([hidden], [out])
    const gradY = numbers(batch * 6, 0.9)
    const g = tf.tensor2d(gradY, [batch, 6])
    const { value, grads } = tf.variableGrads(() => tf.sum(tf.mul(model.predict(x) as tf.Tensor, g)))
    // The backward pass: the out layer with its base, relu, the hidden layer.
    const second = referenceBackward([out], h, gradY)
    const base = transposedProduct(gradY, numbers(144, 0.4), 24)
    const gradH = second.x.map((change, i) => (h[i] > 0 ? change + base[i] : 0))
    const first = referenceBackward([hidden], Float64Array.from(input), gradH)
    const names = ['model.hidden', 'model.out'].map((module) => adapters.coefficients('a', module).name)
    expect(Object.keys(grads).sort()).toEqual([...names].sort())
    expect(difference(grads[names[0]]?.dataSync() ?? [], first.coefficients[0])).toBeLessThan(LIMIT)
    expect(difference(grads[names[1]]?.dataSync() ?? [], second.coefficients[0])).toBeLessThan(LIMIT)
    tf.dispose([value, g])
    tf.dispose(grads)
  })

  test('an optimizer trains the coefficients, and a saved adapter can be loaded again', async () => {
    adapters.addAdapter('a', config)
    const target = tf.zeros([batch, 6])
    const rate = 0.001
    const optimizer = tf.train.sgd(rate)
    const loss = () => meanSquaredError(target, model.predict(x) as tf.Tensor)
    await expectDescent({
      variables: adapters.trainableVariables,
      rate,
      loss,
      train: () => optimizer.minimize(() => loss() as tf.Scalar),
    })
    const trained = run()
    const saved = (await adapters.getAdapter('a')).toBytes()
    await adapters.loadAdapter(saved, { name: 'again' })
    adapters.setAdapter('again')
    expect(run()).toEqual(trained)
    optimizer.dispose()
    target.dispose()
  })

  test('leaks no tensors', async () => {
    const before = tf.memory().numTensors
    adapters.addAdapter('a', config)
    adapters.addAdapter('b', { ...config, randomLocSeed: 5 })
    run()
    adapters.setAdapter('b')
    run()
    const used = tf.memory().numTensors
    for (let i = 0; i < 200; i++) {
      adapters.setAdapter(i % 2 ? 'a' : ['a', 'b'])
      run()
    }
    adapters.setAdapter('b')
    expect(tf.memory().numTensors).toBe(used)
    await adapters.mergeAdapter()
    adapters.unmergeAdapter()
    expect(tf.memory().numTensors).toBe(used)
    adapters.deleteAdapter('a')
    adapters.deleteAdapter('b')
    expect(tf.memory().numTensors).toBe(before)
  })

  test('no tensor is left after detach() and dispose(), in either order', async () => {
    const others = tf.memory().numTensors
    for (const detachFirst of [true, false]) {
      const other = await network()
      const attached = attachGraphModel(other, config)
      await attached.mergeAdapter()
      if (detachFirst) attached.detach()
      other.dispose()
      if (!detachFirst) attached.detach()
      expect(tf.memory().numTensors).toBe(others)
    }
  })

  test('rejects invalid calls, and changes nothing', () => {
    const plain = run()
    const codeOf = (f: () => unknown) => {
      try {
        f()
      } catch (error) {
        return FourierFTError.isInstance(error) ? error.code : error
      }
      return undefined
    }
    const tensors = tf.memory().numTensors
    expect(codeOf(() => attachGraphModel(model))).toBe('INVALID_STATE')
    expect(codeOf(() => adapters.addAdapter('a', { targetModules: ['nowhere'] }))).toBe('MODULE_NOT_FOUND')
    expect(tf.memory().numTensors).toBe(tensors)
    expect(run()).toEqual(plain)
  })
})

/** g·W for `W` `[out, in]`, which is stored as its transpose. */
function transposedProduct(g: Float32Array, kernel: Float32Array, inputs: number): Float64Array {
  const outputs = kernel.length / inputs
  return Float64Array.from({ length: (g.length / outputs) * inputs }, (_, i) => {
    const [t, q] = [Math.floor(i / inputs), i % inputs]
    let sum = 0
    for (let p = 0; p < outputs; p++) sum += g[t * outputs + p] * kernel[q * outputs + p]
    return sum
  })
}

describe('convolutions', () => {
  beforeAll(() => useBackend('cpu'))

  test('a fused 3×3 convolution gives the same output with a branch and merged', async () => {
    const model = await load(
      [
        {
          name: 'conv/Relu',
          op: '_FusedConv2D',
          input: ['x', 'conv/Conv2D/ReadVariableOp', 'conv/BiasAdd/ReadVariableOp'],
          attr: {
            T: FLOAT,
            strides: { list: { i: ['1', '2', '2', '1'] } },
            dilations: { list: { i: ['1', '1', '1', '1'] } },
            padding: { s: 'U0FNRQ==' }, // SAME
            data_format: { s: 'TkhXQw==' }, // NHWC
            fused_ops: { list: { s: ['Qmlhc0FkZA==', 'UmVsdQ=='] } },
            num_args: { i: '1' },
            use_cudnn_on_gpu: { b: true },
            explicit_paddings: { list: {} },
            epsilon: { f: 0 },
          },
        },
      ],
      {
        'conv/Conv2D/ReadVariableOp': { shape: [3, 3, 2, 4], values: numbers(72, 0.2) },
        'conv/BiasAdd/ReadVariableOp': { shape: [4], values: numbers(4, 0.3) },
      },
      [-1, 6, 6, 2],
    )
    const x = tf.tensor4d(numbers(2 * 72, 0.1), [2, 6, 6, 2])
    const plain = (model.predict(x) as tf.Tensor).dataSync()
    const adapters = attachGraphModel(model, { targetModules: ['conv'], nFrequency: 30, scaling: 20 })
    expect(adapters.shapes).toEqual({ conv: [4, 18] })
    const adapted = (model.predict(x) as tf.Tensor).dataSync()
    expect(adapted).not.toEqual(plain)
    await adapters.mergeAdapter()
    expect(difference((model.predict(x) as tf.Tensor).dataSync(), adapted)).toBeLessThan(LIMIT)
    adapters.detach()
    expect((model.predict(x) as tf.Tensor).dataSync()).toEqual(plain)
  })
})

test.each([
  ['StatefulPartitionedCall/model/dense/MatMul/ReadVariableOp', 'model.dense'],
  ['model/encoder/layer_0/query/Tensordot/ReadVariableOp', 'model.encoder.layer_0.query'],
  ['StatefulPartitionedCall/StatefulPartitionedCall_1/dense_1/MatMul/ReadVariableOp', 'dense_1'],
  ['bert/encoder/layer_._0/attention/self/key/kernel', 'bert.encoder.layer_._0.attention.self.key'],
  ['conv/Conv2D/ReadVariableOp_1', 'conv'],
  ['functional_1/project_1/Cast/ReadVariableOp', 'functional_1.project_1'],
  ['functional_1/attention_1/query_1/Reshape', 'functional_1.attention_1.query_1'],
  ['functional_1/conv2d_1/convolution/ReadVariableOp', 'functional_1.conv2d_1'],
  ['MatMul', 'MatMul'],
])('the weight %s belongs to the module %s', (weight, module) => {
  expect(moduleNameOf(weight)).toBe(module)
})

describe('executeAsync', () => {
  beforeAll(() => useBackend('cpu'))

  test('rejects an output that mixes two sets of adapters, and frees it', async () => {
    const model = await network()
    const adapters = attachGraphModel(model, config)
    const x = tf.tensor2d(input, [batch, 20])
    const before = tf.memory().numTensors
    const expected = model.execute(x) as tf.Tensor
    const kept = (await model.executeAsync(x)) as tf.Tensor
    expect(kept.dataSync()).toEqual(expected.dataSync())
    const mixed = model.executeAsync(x)
    adapters.disableAdapters()
    await expect(mixed).rejects.toMatchObject({ code: 'INVALID_STATE' })
    adapters.enableAdapters()
    const unchanged = model.executeAsync(x)
    adapters.setAdapter('default')
    const again = (await unchanged) as tf.Tensor
    expect(again.dataSync()).toEqual(expected.dataSync())
    tf.dispose([expected, kept, again])
    expect(tf.memory().numTensors).toBe(before)
    adapters.detach()
    expect(Object.hasOwn(model, 'executeAsync')).toBe(false)
    tf.dispose(x)
    model.dispose()
  })
})
