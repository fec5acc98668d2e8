/** LoRA's branch: what it computes, its start, its gradients, and its training. */
import { createModel, crossEntropy, DataType, makeTrainingGraph, readModel } from '@fourierft/onnx'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { GraphTrainer, type TrainedInput } from './graph-trainer.js'
import { attachLora } from './lora-graph.js'

const [WIDTH, HIDDEN, CLASSES, RANK, ALPHA, ROWS] = [6, 5, 3, 2, 3, 4]
const loss = crossEntropy('y')

const wave = (length: number, phase: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(1.3 * i + phase))

/** y = tanh(x·A)·B. */
function smallModel(first = wave(WIDTH * HIDDEN, 1), second = wave(HIDDEN * CLASSES, 2)) {
  const float = (name: string, dims: readonly (number | string)[]) => ({
    name,
    dims,
    dataType: DataType.float,
  })
  const weight = (name: string, dims: readonly number[], values: Float32Array) => ({
    name,
    dims,
    dataType: DataType.float,
    data: new Uint8Array(Float32Array.from(values).buffer),
  })
  return createModel(
    {
      name: 'main',
      nodes: [
        { name: '/query/MatMul', opType: 'MatMul', inputs: ['x', 'query.weight'], outputs: ['h'] },
        { name: '/tanh', opType: 'Tanh', inputs: ['h'], outputs: ['t'] },
        { name: '/value/MatMul', opType: 'MatMul', inputs: ['t', 'value.weight'], outputs: ['y'] },
      ],
      inputs: [float('x', ['batch', WIDTH])],
      outputs: [float('y', ['batch', CLASSES])],
      initializers: [
        weight('query.weight', [WIDTH, HIDDEN], first),
        weight('value.weight', [HIDDEN, CLASSES], second),
      ],
    },
    { opset: 17 },
  )
}

/** @param start the values of `up`; LoRA starts at zero */
function withLora(start: (length: number, phase: number) => Float32Array) {
  const model = smallModel()
  const layers = attachLora(model, { targetModules: ['query', 'value'], rank: RANK, alpha: ALPHA })
  const inputs = layers.flatMap(({ down, up, inFeatures, outFeatures }, i): TrainedInput[] => [
    { name: down, dims: [inFeatures, RANK], values: wave(inFeatures * RANK, 3 + i), learningRate: 0.05 },
    { name: up, dims: [RANK, outFeatures], values: start(outFeatures * RANK, 5 + i), learningRate: 0.05 },
  ])
  return { bytes: model.toBytes(), layers, inputs }
}

const x = new Tensor('float32', wave(ROWS * WIDTH, 7), [ROWS, WIDTH])
const batch = {
  feeds: { x },
  labels: new Tensor('int64', BigInt64Array.from([0n, 2n, 1n, 2n]), [ROWS]),
}

async function outputOf(bytes: Uint8Array, inputs: readonly TrainedInput[] = []): Promise<Float32Array> {
  const session = await InferenceSession.create(bytes, { intraOpNumThreads: 1 })
  const feeds = inputs.map(({ name, dims, values }) => [name, new Tensor('float32', values, dims)] as const)
  const { y } = await session.run({ x, ...Object.fromEntries(feeds) })
  await session.release()
  return y?.data as Float32Array
}

const difference = (a: Float32Array, b: Float32Array) =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))), 0)

test('adds two matrices to each layer that is named, and changes nothing while one of them is zero', async () => {
  const { bytes, layers, inputs } = withLora((length) => new Float32Array(length))
  expect(layers.map(({ module, inFeatures, outFeatures }) => [module, inFeatures, outFeatures])).toEqual([
    ['query', WIDTH, HIDDEN],
    ['value', HIDDEN, CLASSES],
  ])
  expect(difference(await outputOf(bytes, inputs), await outputOf(smallModel().toBytes()))).toBe(0)
})

test('computes what the weights W + (α/r)·A·B compute', async () => {
  const { bytes, inputs } = withLora(wave)
  const merged = (weight: Float32Array, [down, up]: readonly TrainedInput[], out: number) =>
    weight.map((value, p) => {
      const [row, column] = [Math.floor(p / out), p % out]
      let sum = 0
      for (let r = 0; r < RANK; r++)
        sum += (down?.values[row * RANK + r] as number) * (up?.values[r * out + column] as number)
      return value + (ALPHA / RANK) * sum
    })
  const first = merged(wave(WIDTH * HIDDEN, 1), inputs.slice(0, 2), HIDDEN)
  const second = merged(wave(HIDDEN * CLASSES, 2), inputs.slice(2), CLASSES)
  const [adapted, expected] = [
    await outputOf(bytes, inputs),
    await outputOf(smallModel(first, second).toBytes()),
  ]
  // Two products of sums of at most 6 + 2 numbers below 4.
  expect(difference(adapted, expected)).toBeLessThan(2 * 8 * 4 * 2 ** -23)
  expect(difference(adapted, await outputOf(smallModel().toBytes()))).toBeGreaterThan(0.1)
})

test('gradients equal central differences', async () => {
  const { bytes, inputs } = withLora(wave)
  const model = readModel(bytes)
  const graph = makeTrainingGraph(model, { loss, targets: inputs.map(({ name }) => name) })
  const session = await InferenceSession.create(model.toBytes(), { intraOpNumThreads: 1 })
  const run = async () => {
    const feeds = inputs.map(({ name, dims, values }) => [name, new Tensor('float32', values, dims)] as const)
    return session.run({ x, [graph.labels as string]: batch.labels, ...Object.fromEntries(feeds) })
  }
  const results = await run()
  const h = 2 ** -7
  for (const { name, values } of inputs) {
    const gradient = results[graph.gradients.get(name) as string]?.data as Float32Array
    expect(gradient.length).toBe(values.length)
    for (const [i, value] of Array.from(values).entries()) {
      const lossAt = async (step: number) => {
        values[i] = value + step
        return Number(((await run())[graph.loss] as Tensor).data[0])
      }
      const slope =
        (4 * ((await lossAt(h)) - (await lossAt(-h)))) / (6 * h) -
        ((await lossAt(2 * h)) - (await lossAt(-2 * h))) / (12 * h)
      values[i] = value
      // The loss, below 16, is rounded to 2⁻²¹ and divided by h.
      expect(Math.abs((gradient[i] as number) - slope)).toBeLessThan((3 * 2 ** -21) / h)
    }
  }
  await session.release()
})

test('learns: steps lower the loss, and the evaluation is that of the outputs', async () => {
  const { bytes, inputs } = withLora((length) => new Float32Array(length))
  const trainer = await GraphTrainer.open(bytes, { loss, inputs })
  const before = await trainer.evaluate([batch])
  expect(await trainer.step(batch)).toBeCloseTo(before.loss, 6)
  for (let i = 0; i < 60; i++) await trainer.step(batch)
  const after = await trainer.evaluate([batch, batch])
  expect(after.loss).toBeLessThan(before.loss / 10)
  expect(after.accuracy).toBe(1)
  const outputs = await outputOf(bytes, inputs)
  const logits = (row: number) => Array.from(outputs.subarray(row * CLASSES, (row + 1) * CLASSES))
  const losses = [0, 2, 1, 2].map((label, row) => {
    const sum = logits(row).reduce((total, value) => total + Math.exp(value), 0)
    return Math.log(sum) - (logits(row)[label] as number)
  })
  expect(after.loss).toBeCloseTo(losses.reduce((sum, value) => sum + value, 0) / ROWS, 5)
  await trainer.release()
})

test('a factor of 0 changes nothing, and the norm of the gradients is limited', async () => {
  const { bytes, inputs } = withLora(wave)
  const before = inputs.map(({ values }) => Float32Array.from(values))
  const trainer = await GraphTrainer.open(bytes, { loss, inputs, maxGradientNorm: 1e-12 })
  await trainer.step(batch, 0)
  expect(inputs.map(({ values }) => values)).toEqual(before)
  await trainer.step(batch)
  // AdamW divides by the size of the gradient, to which it adds 1e-8; the decay of 0.01 remains.
  for (const [i, { values }] of inputs.entries()) {
    const limit = 0.05 * (0.01 * Math.max(...values.map(Math.abs)) + 1e-4) + 2 ** -23
    expect(difference(values, before[i] as Float32Array)).toBeLessThan(limit)
  }
  await trainer.release()
})
