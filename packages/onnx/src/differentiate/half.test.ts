/** Gradients in float16, whose numbers end at 65504, compared with those of the same graph in float32. */
import { Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { createModel } from '../model/create-model.js'
import type { NewNode } from '../model/encode.js'
import { DataType } from '../model/schema.js'
import { roundEverywhere, WITHOUT_OPTIMISATIONS } from './__fixtures__/round-everywhere.js'
import { scalarLoss } from './losses/scalar-loss.js'
import { makeTrainingGraph } from './training-graph.js'

interface Case {
  /** From `typed`, which is x in the type, to the scalar y. */
  readonly nodes: readonly NewNode[]
  readonly x: Float32Array
}

/** The gradient of y, divided by the loss scale. */
async function gradientOf({ nodes, x }: Case, type: 'float16' | 'float'): Promise<Float32Array> {
  const dataType = DataType[type]
  const ones = (name: string, length: number) => ({
    name,
    dims: [length],
    dataType,
    data: new Uint8Array(
      type === 'float16'
        ? new Uint16Array(length).fill(0x3c00).buffer
        : new Float32Array(length).fill(1).buffer,
    ),
  })
  const model = createModel(
    {
      name: 'main',
      nodes: [
        { opType: 'Cast', inputs: ['x'], outputs: ['typed'], attributes: { to: { int: dataType } } },
        ...nodes,
      ],
      inputs: [{ name: 'x', dataType: DataType.float, dims: [x.length] }],
      outputs: [{ name: 'y', dataType, dims: [] }],
      initializers: [ones('ones', x.length)],
    },
    { opset: 17 },
  )
  const { gradients, lossScale } = makeTrainingGraph(model, { loss: scalarLoss('y'), targets: ['x'] })
  expect(lossScale !== undefined).toBe(type === 'float16')
  roundEverywhere(model)
  const session = await createSession(model.toBytes(), WITHOUT_OPTIMISATIONS)
  const scale = lossScale === undefined ? 1 : 2 ** 15
  const results = await session.run({
    x: new Tensor('float32', x, [x.length]),
    ...(lossScale && { [lossScale]: new Tensor('float32', Float32Array.of(scale), []) }),
  })
  await session.release()
  const gradient = results[gradients.get('x') as string].data as Float32Array
  return gradient.map((value) => value / scale)
}

const mean = (from: string): NewNode => ({
  opType: 'ReduceMean',
  inputs: [from],
  outputs: ['y'],
  attributes: { keepdims: { int: 0 } },
})

/** Whole numbers up to 300, which float16 can hold; their squares it cannot. */
const large = Float32Array.from({ length: 16 }, (_, i) => Math.round(300 * Math.sin(1.3 * i)))

test.each<[string, number, Case]>([
  // The division by the count.
  ['a mean of 70000 numbers', 1, { nodes: [mean('typed')], x: new Float32Array(70_000).fill(1) }],
  // The gradient g of the normalised numbers, which are below 2, has at most five roundings: those of the normalised number, its exponential and
  // the mean. The result is a sum of three terms with g, and is rounded.
  [
    'a layer normalisation of numbers above 255',
    3 * 5 + 1,
    {
      nodes: [
        { opType: 'LayerNormalization', inputs: ['typed', 'ones'], outputs: ['unit'] },
        { opType: 'Exp', inputs: ['unit'], outputs: ['exponential'] },
        mean('exponential'),
      ],
      x: large,
    },
  ],
])('%s has a gradient', async (_, roundings, given) => {
  const expected = await gradientOf(given, 'float')
  const received = await gradientOf(given, 'float16')
  const largest = Math.max(...expected.map(Math.abs))
  const error = received.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0)
  expect(error).toBeLessThanOrEqual(roundings * 2 ** -11 * largest)
})
