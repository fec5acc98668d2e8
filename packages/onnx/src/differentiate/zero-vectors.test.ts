/** Gradients that central differences cannot show: those of zero vectors, where a norm has a kink. */
import { Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { createModel } from '../model/create-model.js'
import { DataType } from '../model/schema.js'
import { integers, one } from './__fixtures__/check-gradient.js'
import { differentiate } from './differentiate.js'

test.each([
  // x/|x| = (0.6, 0.8), as PyTorch computes it, with 0 for the zero vector.
  ['ReduceL2', one('ReduceL2', ['x', 'axes']), [0, 0, 0.6, 0.8]],
  // (g − y·Σ g·y)/|x| with y = (0.6, 0.8) and g = (1, 1).
  ['LpNormalization', one('LpNormalization', ['x']), [0, 0, (1 - 0.6 * 1.4) / 5, (1 - 0.8 * 1.4) / 5]],
])('the gradient of %s is 0 for a zero vector', async (_, node, expected) => {
  const columns = node.opType === 'ReduceL2' ? 1 : 2
  const dataType = DataType.float
  const model = createModel(
    {
      name: 'main',
      nodes: [node],
      inputs: [
        { name: 'x', dataType, dims: [2, 2] },
        { name: 'seed', dataType, dims: [2, columns] },
      ],
      outputs: [{ name: 'y' }],
      initializers: [integers('axes', [1])],
    },
    { opset: 18 },
  )
  const { gradients } = differentiate(model, { seeds: new Map([['y', 'seed']]), targets: ['x'] })
  const gradient = gradients.get('x') as string
  model.graph.addOutput({ name: gradient })
  const session = await createSession(model.toBytes())
  const results = await session.run({
    x: new Tensor('float32', Float32Array.of(0, 0, 3, 4), [2, 2]),
    seed: new Tensor('float32', new Float32Array(2 * columns).fill(1), [2, columns]),
  })
  await session.release()
  // Half a dozen roundings of numbers below 2.
  for (const [i, value] of expected.entries()) expect(results[gradient].data[i]).toBeCloseTo(value, 6)
})
