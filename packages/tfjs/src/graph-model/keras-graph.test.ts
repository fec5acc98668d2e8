/** A graph that TensorFlow made from a Keras model (`make-keras-graph.py`): module names, shapes, outputs, gradients. */
import { readFileSync } from 'node:fs'
import { type GraphModel, loadGraphModel } from '@tensorflow/tfjs-converter'
import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, expect, test } from 'vitest'
import { useBackend } from '../__fixtures__/use-backend.js'
import { attachGraphModel } from './attach-graph-model.js'

const fixture = JSON.parse(readFileSync(new URL('__fixtures__/keras-graph.json', import.meta.url), 'utf8'))

const MODULES = {
  'functional_1.patches_1': [4, 18],
  'functional_1.project_1': [8, 4],
  'functional_1.attention_1.query_1': [8, 8],
  'functional_1.attention_1.key_1': [8, 8],
  'functional_1.attention_1.value_1': [8, 8],
  'functional_1.attention_1.attention_output_1': [8, 8],
  'functional_1.hidden_1': [16, 8],
  'functional_1.out_1': [5, 16],
}

function load(): Promise<GraphModel> {
  const bytes = fixture.weights.map(({ data }: { data: string }) => Buffer.from(data, 'base64'))
  const weightSpecs = fixture.weights.map(
    ({ name, shape, dtype }: Record<'name' | 'shape' | 'dtype', unknown>) => ({
      name,
      shape,
      dtype,
    }),
  )
  const joined = Buffer.concat(bytes)
  const weightData = joined.buffer.slice(joined.byteOffset, joined.byteOffset + joined.byteLength)
  return loadGraphModel(tf.io.fromMemory({ modelTopology: fixture.topology, weightSpecs, weightData }))
}

const image = () =>
  tf.tensor4d(
    Float32Array.from({ length: 2 * 6 * 6 * 2 }, (_, i) => Math.sin(i)),
    [2, 6, 6, 2],
  )

/** `max |a − b|` over `max |b|`. */
function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const values = Array.from(b)
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return values.reduce((most, value, i) => Math.max(most, Math.abs(a[i] - value)), 0) / largest
}

// Seven layers in float32, each of which sums at most 36 terms: 7·36 roundings of 2^-24 are 1.5e-5 at most.
const LIMIT = 1.5e-5

beforeAll(() => useBackend('cpu'))

test('finds all layers by name, adapts and merges them, and computes their gradients', async () => {
  const model = await load()
  const x = image()
  const run = () => (model.predict(x) as tf.Tensor).dataSync() as Float32Array
  const plain = run()
  expect(difference(plain, fixture.output.values)).toBeLessThan(LIMIT)

  const adapters = attachGraphModel(model)
  expect(adapters.shapes).toEqual(MODULES)
  expect(run()).toEqual(plain)
  // Without the convolution, whose ΔW is applied differently.
  adapters.addAdapter('default', {
    targetModules: ['query_1', 'value_1', 'attention_output_1', 'out_1'],
    nFrequency: 20,
    scaling: 20,
  })
  const adapted = run()
  expect(difference(adapted, plain)).toBeGreaterThan(0.01)

  const { grads } = tf.variableGrads(() => tf.sum(model.predict(x) as tf.Tensor))
  expect(Object.keys(grads)).toHaveLength(4)
  for (const gradient of Object.values(grads)) {
    const values = gradient.dataSync() as Float32Array
    expect(values.every(Number.isFinite) && values.some((value) => value !== 0)).toBe(true)
  }
  // The largest component of one gradient is compared with a difference quotient.
  const query = adapters.coefficients('default', 'functional_1.attention_1.query_1')
  const gradient = grads[query.name].dataSync() as Float32Array
  const at = gradient.reduce((best, value, i) => (Math.abs(value) > Math.abs(gradient[best]) ? i : best), 0)
  const sumAt = (step: number) => {
    const moved = Float32Array.from(query.dataSync() as Float32Array, (value, i) =>
      i === at ? value + step : value,
    )
    adapters.setCoefficients('default', { 'functional_1.attention_1.query_1': moved })
    const sum = run().reduce((total, value) => total + value, 0)
    adapters.setCoefficients('default', {
      'functional_1.attention_1.query_1': moved.map((value, i) => (i === at ? value - step : value)),
    })
    return sum
  }
  const step = 0.5
  const quotient = (sumAt(step) - sumAt(-step)) / (2 * step)
  // The error of a central difference of a smooth function in float32 is a few per cent.
  expect(Math.abs(quotient - gradient[at])).toBeLessThan(0.05 * Math.abs(gradient[at]))

  await adapters.mergeAdapter()
  expect(difference(run(), adapted)).toBeLessThan(LIMIT)
  adapters.detach()
  expect(run()).toEqual(plain)
  model.dispose()
})
