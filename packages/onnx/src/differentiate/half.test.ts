/** Gradients in float16, whose numbers end at 65504. */
import { Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { createModel } from '../model/create-model.js'
import { DataType } from '../model/schema.js'
import { scalarLoss } from './losses/scalar-loss.js'
import { makeTrainingGraph } from './training-graph.js'

test.each(['float16', 'float'] as const)('the mean of 70000 numbers in %s has a gradient', async (type) => {
  const length = 70_000
  const dataType = DataType[type]
  const model = createModel(
    {
      name: 'main',
      nodes: [
        { opType: 'Cast', inputs: ['x'], outputs: ['typed'], attributes: { to: { int: dataType } } },
        { opType: 'ReduceMean', inputs: ['typed'], outputs: ['y'], attributes: { keepdims: { int: 0 } } },
      ],
      inputs: [{ name: 'x', dataType: DataType.float, dims: [length] }],
      outputs: [{ name: 'y', dataType, dims: [] }],
    },
    { opset: 17 },
  )
  const { gradients, lossScale } = makeTrainingGraph(model, { loss: scalarLoss('y'), targets: ['x'] })
  expect(lossScale !== undefined).toBe(type === 'float16')
  const session = await createSession(model.toBytes())
  const scale = lossScale === undefined ? 1 : 2 ** 15
  const results = await session.run({
    x: new Tensor('float32', new Float32Array(length).fill(1), [length]),
    ...(lossScale && { [lossScale]: new Tensor('float32', Float32Array.of(scale), []) }),
  })
  await session.release()
  const gradient = results[gradients.get('x') as string].data as Float32Array
  expect(gradient).toHaveLength(length)
  // One rounding to 11 bits.
  for (const value of [gradient[0], gradient[length - 1]])
    expect(Math.abs((value / scale) * length - 1)).toBeLessThanOrEqual(2 ** -11)
})
