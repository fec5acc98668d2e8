/** A decoder with an `If` of two subgraphs: each layer is found once, and adapters change it in both subgraphs. */
import { createLayer, referenceForward, uniformEntries } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { attachBranches } from '../attach/attach.js'
import { bakeBranches } from '../attach/bake.js'
import { detachBranches } from '../attach/detach.js'
import { createModel } from '../model/create-model.js'
import type { NewGraph } from '../model/encode.js'
import { readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { findLinearLayers } from './linear-layers.js'

const SHAPE = [6, 4] as const
const weight = Float32Array.from({ length: 24 }, (_, i) => Math.sin(i + 1))
const x = Float32Array.of(1, -2, 0.5, 3, 0.25, 1, -1, 2)

/** Creates the subgraph y = scale·x·w. */
const subgraph = (name: string, scale: number): NewGraph => ({
  name,
  outputs: [{ name: `${name}.y` }],
  initializers: [{ name: 'scale', dims: [], dataType: DataType.float, data: bytes([scale]) }],
  nodes: [
    { name: '/block/proj/MatMul', opType: 'MatMul', inputs: ['x', 'onnx::MatMul_7'], outputs: ['product'] },
    { name: '/Mul', opType: 'Mul', inputs: ['product', 'scale'], outputs: [`${name}.y`] },
  ],
})
const bytes = (values: ArrayLike<number>) => new Uint8Array(Float32Array.from(values).buffer)
const file = createModel(
  {
    name: 'main_graph',
    inputs: [
      { name: 'x', dataType: DataType.float, dims: ['tokens', 4] },
      { name: 'is_first', dataType: DataType.bool, dims: [] },
    ],
    outputs: [{ name: 'y', dataType: DataType.float, dims: ['tokens', 6] }],
    initializers: [{ name: 'onnx::MatMul_7', dims: [4, 6], dataType: DataType.float, data: bytes(weight) }],
    nodes: [
      {
        name: '/If',
        opType: 'If',
        inputs: ['is_first'],
        outputs: ['y'],
        attributes: {
          then_branch: { graph: subgraph('first', 1) },
          else_branch: { graph: subgraph('next', 2) },
        },
      },
    ],
  },
  { opset: 17 },
).toBytes()

const entries = uniformEntries({ shape: SHAPE, n: 5, seed: 777 })
const coefficients = Float32Array.of(0.5, -0.25, 1, 0.125, -2)
const adapter = createLayer({ name: 'block.proj', shape: SHAPE, entries, coefficients, scaling: 20 })

async function run(model: Uint8Array, isFirst: boolean, feeds: Record<string, Tensor> = {}) {
  const session = await createSession(model)
  const { y } = await session.run({
    x: new Tensor('float32', x, [2, 4]),
    is_first: new Tensor('bool', [isFirst], []),
    ...feeds,
  })
  await session.release()
  return y?.data as Float32Array
}

/** Computes x·(W + ΔW)ᵀ in float64. */
function expected(isFirst: boolean): number[] {
  const base = Float64Array.from({ length: 12 }, (_, i) => {
    const [t, p] = [Math.floor(i / 6), i % 6]
    return [0, 1, 2, 3].reduce((sum, q) => sum + x[4 * t + q] * weight[6 * q + p], 0)
  })
  const y = referenceForward([adapter], x, base)
  return Array.from(y, (value) => value * (isFirst ? 1 : 2))
}

function expectNear(received: Float32Array, wanted: number[]): void {
  // 4 products and 5 coefficients: at most 9 roundings of 2⁻²⁴ of the largest value on each side.
  const limit = 2 * 9 * 2 ** -24 * Math.max(...wanted.map(Math.abs))
  expect(received).toHaveLength(wanted.length)
  for (const [i, value] of wanted.entries()) expect(Math.abs(received[i] - value)).toBeLessThan(limit)
}

test('finds a layer of both subgraphs once', () => {
  const [layer, ...others] = findLinearLayers(readModel(file))
  expect(others).toEqual([])
  expect(layer?.module).toBe('block.proj')
  expect(layer?.others?.map(({ module }) => module)).toEqual(['block.proj'])
  expect(layer?.others?.[0]?.graph).not.toBe(layer?.graph)
})

describe.each([true, false])('first step: %s', (isFirst) => {
  test('branches change the layer; detaching gives the original bytes', async () => {
    const model = readModel(file)
    const [layer] = findLinearLayers(model)
    const inputs = attachBranches(model, [{ module: 'block.proj', layer: layer, entries }])
    const attached = model.toBytes()
    const feed = (values: Float32Array) => ({
      [inputs.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
      [inputs.coefficients.get('block.proj') as string]: new Tensor('float32', values, [
        values.length / 5,
        5,
      ]),
    })
    expect(await run(attached, isFirst, feed(new Float32Array(0)))).toEqual(await run(file, isFirst))
    const scaled = Float32Array.from(coefficients, (c) => 20 * c)
    expectNear(await run(attached, isFirst, feed(scaled)), expected(isFirst))
    const again = readModel(attached)
    detachBranches(again)
    expect(again.toBytes()).toEqual(file)
  })

  test('baked weights change the layer', async () => {
    const model = readModel(file)
    const [layer] = findLinearLayers(model)
    await bakeBranches(model, [{ layer: layer, adapters: [adapter] }])
    expect([...model.graph.initializers.keys()]).toEqual(['onnx::MatMul_7'])
    expectNear(await run(model.toBytes(), isFirst), expected(isFirst))
  })
})
