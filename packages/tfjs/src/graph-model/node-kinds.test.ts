/** Nodes other than plain and fused `MatMul`: their results equal the float64 reference, or the node is rejected. */
import { FourierFTError, referenceForward } from '@fourierft/core'
import { type GraphModel, loadGraphModel } from '@tensorflow/tfjs-converter'
import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, test } from 'vitest'
import { useBackend } from '../__fixtures__/use-backend.js'
import { attachGraphModel } from './attach-graph-model.js'

const FLOAT = { type: 'DT_FLOAT' }
const WEIGHT = 'StatefulPartitionedCall/model/query/kernel'

const numbers = (count: number, phase: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i + phase))

/** A graph from `x` to its last node, with one weight. */
function load(nodes: readonly object[], shape: number[], values: Float32Array): Promise<GraphModel> {
  const node = [
    { name: 'x', op: 'Placeholder', attr: { dtype: FLOAT } },
    { name: WEIGHT, op: 'Const', attr: { dtype: FLOAT } },
    ...nodes,
  ]
  const modelTopology = { node, library: {}, versions: { producer: 1 } }
  const weightSpecs = [{ name: WEIGHT, shape, dtype: 'float32' as const }]
  return loadGraphModel(
    tf.io.fromMemory({ modelTopology, weightSpecs, weightData: Float32Array.from(values).buffer }),
  )
}

const batched = (name: string, input: string) => ({
  name,
  op: 'BatchMatMulV2',
  input: [input, WEIGHT],
  attr: { T: FLOAT, adj_x: { b: false }, adj_y: { b: false } },
})

const pointwise = {
  name: 'y',
  op: 'Conv2D',
  input: ['x', WEIGHT],
  attr: {
    T: FLOAT,
    strides: { list: { i: ['1', '1', '1', '1'] } },
    dilations: { list: { i: ['1', '1', '1', '1'] } },
    padding: { s: 'VkFMSUQ=' }, // VALID
    data_format: { s: 'TkhXQw==' }, // NHWC
  },
}

// The conformance suite's limit for levels 4 and 5 in float32.
const LIMIT = 1e-5

const options = { targetModules: ['query'], nFrequency: 30, scaling: 20 }

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(() => useBackend(backend))

  test.each([
    { form: 'BatchMatMulV2', nodes: [batched('y', 'x')], kernel: [8, 8], input: [2, 3, 8], times: 1 },
    {
      form: 'two nodes of one weight',
      nodes: [batched('first', 'x'), batched('y', 'first')],
      kernel: [8, 8],
      input: [2, 3, 8],
      times: 2,
    },
    { form: '1×1 Conv2D', nodes: [pointwise], kernel: [1, 1, 8, 8], input: [2, 3, 1, 8], times: 1 },
  ])('$form gives the reference, with a branch and merged', async ({ nodes, kernel, input, times }) => {
    const values = numbers(64, 0.2)
    const model = await load(nodes, kernel, values)
    const x = tf.tensor(numbers(48, 0.1), input)
    const run = () => tf.tidy(() => (model.predict(x) as tf.Tensor).dataSync() as Float32Array)
    const plain = run()
    const adapters = attachGraphModel(model, options)
    const layer = (await adapters.getAdapter('default')).layer('model.query', [8, 8])
    let expected: Float64Array = Float64Array.from(numbers(48, 0.1))
    for (let i = 0; i < times; i++) expected = referenceForward([layer], expected, product(expected, values))
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    const error = () =>
      run().reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0) / largest
    expect(error()).toBeLessThan(LIMIT)
    await adapters.mergeAdapter()
    expect(error()).toBeLessThan(LIMIT)
    adapters.detach()
    expect(run()).toEqual(plain)
    model.dispose()
    x.dispose()
  })

  test('rejects a transposed weight by name, and changes nothing', async () => {
    const node = {
      name: 'y',
      op: 'MatMul',
      input: ['x', WEIGHT],
      attr: { T: FLOAT, transpose_a: { b: false }, transpose_b: { b: true } },
    }
    const model = await load([node], [4, 8], numbers(32, 0.2))
    const tensors = tf.memory().numTensors
    const attach = () => attachGraphModel(model, options)
    expect(attach).toThrow(FourierFTError)
    expect(attach).toThrow(/model\.query/)
    expect(tf.memory().numTensors).toBe(tensors)
    model.dispose()
  })
})

/** `x · kernel` in float64, for a kernel `[8, 8]`. */
function product(x: Float64Array, kernel: Float32Array): Float64Array {
  return x.map((_, i) => {
    const [row, p] = [i - (i % 8), i % 8]
    let sum = 0
    for (let q = 0; q < 8; q++) sum += x[row + q] * kernel[q * 8 + p]
    return sum
  })
}
