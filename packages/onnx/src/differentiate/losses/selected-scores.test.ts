/** Scores are computed for the tokens that count only, and losses and gradients stay the same. */
import { Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { createSession } from '../../__fixtures__/onnx-runtime.js'
import { createModel } from '../../model/create-model.js'
import type { NewNode } from '../../model/encode.js'
import { DataType } from '../../model/schema.js'
import { numbers } from '../__fixtures__/check-gradient.js'
import { makeTrainingGraph } from '../training-graph.js'
import { crossEntropy } from './cross-entropy.js'

const [WIDTH, CLASSES] = [4, 5]
const LABELS = [3, -100, 0, -100, -100, 2]

const floats = (name: string, dims: number[], seed: number) => ({
  name,
  dims,
  dataType: DataType.float,
  data: new Uint8Array(Float32Array.from(numbers(dims, seed).data).buffer),
})

const node = (opType: string, inputs: readonly string[], output: string): NewNode => ({
  opType,
  inputs,
  outputs: [output],
})

/** The scores of three tokens in two rows, computed from `x`. */
const HEADS: Readonly<Record<string, readonly NewNode[]>> = {
  product: [node('MatMul', ['x', 'weight'], 'scores')],
  'product with a bias': [
    node('MatMul', ['x', 'weight'], 'product'),
    node('Add', ['bias', 'product'], 'scores'),
  ],
  'limited product': [
    node('MatMul', ['x', 'weight'], 'product'),
    node('Div', ['product', 'cap'], 'small'),
    node('Tanh', ['small'], 'limited'),
    node('Mul', ['limited', 'cap'], 'scores'),
  ],
  'product of tied embeddings': [
    { ...node('Transpose', ['embeddings'], 'tied'), attributes: { perm: { ints: [1, 0] } } },
    node('MatMul', ['x', 'tied'], 'scores'),
  ],
}

async function train(nodes: readonly NewNode[]) {
  const value = (name: string, size: number) => ({
    name,
    dataType: DataType.float,
    dims: ['rows', 'tokens', size],
  })
  const model = createModel(
    {
      name: 'main',
      nodes,
      inputs: [value('x', WIDTH)],
      outputs: [value('scores', CLASSES)],
      initializers: [
        floats('weight', [WIDTH, CLASSES], 1),
        floats('bias', [CLASSES], 2),
        floats('cap', [], 3),
        floats('embeddings', [CLASSES, WIDTH], 4),
      ],
    },
    { opset: 17 },
  )
  const training = makeTrainingGraph(model, { loss: crossEntropy('scores'), targets: ['x'] })
  const session = await createSession(model.toBytes())
  const results = await session.run({
    x: new Tensor('float32', Float32Array.from(numbers([2, 3, WIDTH], 5).data), [2, 3, WIDTH]),
    [training.labels as string]: new Tensor('int64', BigInt64Array.from(LABELS, BigInt), [2, 3]),
  })
  await session.release()
  const [loss, count, gradient] = [training.loss, training.count, training.gradients.get('x') ?? ''].map(
    (name) => Array.from(results[name].data as Float32Array),
  )
  return { graph: model.graph, loss, count, gradient }
}

test.each(Object.entries(HEADS))('%s', async (_, nodes) => {
  const selected = await train(nodes)
  const readers = selected.graph.consumersOf('x').map(({ opType }) => opType)
  expect(readers).not.toContain('MatMul')
  // A negation, which is not looked through, twice.
  const inverted = nodes.map((one) => (one.outputs[0] === 'scores' ? { ...one, outputs: ['whole'] } : one))
  const whole = await train([
    ...inverted,
    node('Neg', ['whole'], 'negative'),
    node('Neg', ['negative'], 'scores'),
  ])
  expect(whole.graph.consumersOf('x').map(({ opType }) => opType)).toContain('MatMul')
  expect(selected.count).toEqual(whole.count)
  // Two dozen roundings of numbers below 10.
  expect(selected.loss[0]).toBeCloseTo(whole.loss[0], 5)
  for (const [i, value] of selected.gradient.entries()) expect(value).toBeCloseTo(whole.gradient[i], 5)
  expect(selected.gradient.slice(WIDTH, 2 * WIDTH)).toEqual(new Array(WIDTH).fill(0))
})

test('scores that something else reads are not copied', async () => {
  const { graph } = await train([
    node('MatMul', ['x', 'weight'], 'product'),
    node('Relu', ['product'], 'positive'),
    node('Add', ['product', 'positive'], 'scores'),
  ])
  expect(graph.consumersOf('x').map(({ opType }) => opType)).toContain('MatMul')
})
