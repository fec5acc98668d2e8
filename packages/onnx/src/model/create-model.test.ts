/** New models run in ONNX Runtime and can be read again; contradictory ones are rejected. */
import { createLayer, referenceForward, uniformEntries } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { attachBranches } from '../attach/attach.js'
import { detachBranches } from '../attach/detach.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { createModel } from './create-model.js'
import type { NewGraph } from './encode.js'
import { readModel } from './model.js'
import { DataType } from './schema.js'

const floats = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer)

/** y = x·w + b, with the names that exporters give the module block.proj [3, 2]. */
const linear: NewGraph = {
  name: 'main_graph',
  inputs: [{ name: 'x', dataType: DataType.float, dims: ['tokens', 2] }],
  outputs: [{ name: 'y', dataType: DataType.float, dims: ['tokens', 3] }],
  initializers: [
    { name: 'onnx::MatMul_1', dims: [2, 3], dataType: DataType.float, data: floats(1, 2, 3, 4, 5, 6) },
    { name: 'block.proj.bias', dims: [3], dataType: DataType.float, data: floats(0.5, -0.5, 1) },
  ],
  nodes: [
    { name: '/block/proj/MatMul', opType: 'MatMul', inputs: ['x', 'onnx::MatMul_1'], outputs: ['product'] },
    { name: '/block/proj/Add', opType: 'Add', inputs: ['product', 'block.proj.bias'], outputs: ['y'] },
  ],
}
const x = new Tensor('float32', Float32Array.of(1, -1, 2, 0.5), [2, 2])

async function run(bytes: Uint8Array, feeds: Record<string, Tensor> = { x }): Promise<Float32Array> {
  const session = await createSession(bytes)
  const { y } = await session.run(feeds)
  await session.release()
  return y?.data as Float32Array
}

describe('createModel', () => {
  test.each([13, 17, 21])('of opset %i runs', async (opset) => {
    // Whole and half numbers: every sum is exact.
    expect(await run(createModel(linear, { opset }).toBytes())).toEqual(
      Float32Array.of(-2.5, -3.5, -2, 4.5, 6, 10),
    )
  })

  test('can be read again', () => {
    const created = createModel(linear, { opset: 17 })
    const bytes = created.toBytes()
    expect(bytes).toHaveLength(created.size)
    const read = readModel(bytes)
    expect(read.toBytes()).toEqual(bytes)
    for (const { irVersion, opsetImports, graph } of [created, read]) {
      expect(irVersion).toBe(8)
      expect([...opsetImports]).toEqual([['', 17]])
      expect(graph.nodes.map(({ name, opType }) => [name, opType])).toEqual(
        linear.nodes.map(({ name, opType }) => [name, opType]),
      )
      expect(graph.inputs).toEqual(linear.inputs)
      expect(graph.outputs).toEqual(linear.outputs)
      expect([...graph.initializers.keys()]).toEqual(['onnx::MatMul_1', 'block.proj.bias'])
    }
  })

  test('keeps views of the data until it is written', () => {
    const data = floats(...new Array<number>(2 ** 12).fill(7))
    const big = { name: 'big', dims: [2 ** 12], dataType: DataType.float, data }
    const model = createModel(
      { ...linear, initializers: [...(linear.initializers ?? []), big] },
      { opset: 17 },
    )
    expect(model.toParts().some((part) => part.buffer === data.buffer)).toBe(true)
  })

  test('may start empty', async () => {
    const model = createModel({ name: 'g', nodes: [], outputs: [] }, { opset: 17 })
    for (const input of linear.inputs ?? []) model.graph.addInput(input)
    model.graph.addInput({ name: 'y', dataType: DataType.float, dims: ['n'] })
    model.graph.addOutput({ name: 'y' })
    const y = Float32Array.of(3, 1)
    expect(await run(model.toBytes(), { x, y: new Tensor('float32', y, [2]) })).toEqual(y)
  })

  test('has layers that can be found, attached to and detached from', async () => {
    const model = createModel(linear, { opset: 17 })
    const bytes = model.toBytes()
    const [layer] = findLinearLayers(model)
    if (layer === undefined) throw new Error('there is no linear layer')
    expect(layer).toMatchObject({ module: 'block.proj', outFeatures: 3, inFeatures: 2 })
    const entries = uniformEntries({ shape: [3, 2], n: 4, seed: 3 })
    const coefficients = Float32Array.of(1, -2, 0.5, 3)
    attachBranches(model, [{ module: 'block.proj', layer, entries }])
    const attached = model.toBytes()
    const y = await run(attached, {
      x,
      'fourierft.block.proj': new Tensor('float32', coefficients, [1, 4]),
      'fourierft.rows': new Tensor('int64', BigInt64Array.of(0n), [1]),
    })
    const branch = createLayer({ name: 'block.proj', shape: [3, 2], entries, coefficients, scaling: 1 })
    const delta = referenceForward([branch], Float64Array.from(x.data))
    const base = [-2.5, -3.5, -2, 4.5, 6, 10]
    // float32: 4 coefficients, 6 products of a transform, and the base output; all numbers are at most 16.
    for (const [i, value] of y.entries())
      expect(Math.abs(value - base[i] - delta[i])).toBeLessThan(11 * 2 ** -24 * 16)
    const again = readModel(attached)
    detachBranches(again)
    expect(again.toBytes()).toEqual(bytes)
  })

  test.each([0, -1, 1.5, Number.NaN])('rejects opset %d', (opset) => {
    expect(() => createModel(linear, { opset })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining('opset') }),
    )
  })

  test('rejects a graph without a name', () => {
    expect(() => createModel({ ...linear, name: '' }, { opset: 17 })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION' }),
    )
  })

  test('rejects a value that two nodes write, with its name', () => {
    const [first, second] = linear.nodes
    if (first === undefined || second === undefined) throw new Error('the model has no second node')
    for (const nodes of [
      [first, { ...second, outputs: ['product'] }],
      [first, { ...second, outputs: ['x'] }],
      [{ ...first, outputs: ['block.proj.bias'] }, second],
    ])
      expect(() => createModel({ ...linear, nodes }, { opset: 17, file: 'new.onnx' })).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(/new\.onnx.*"\w/) }),
      )
  })

  test('rejects data whose length does not fit their dims', () => {
    const initializers = [{ name: 'w', dims: [2, 3], dataType: DataType.float, data: floats(1, 2, 3) }]
    expect(() => createModel({ ...linear, nodes: [], initializers }, { opset: 17 })).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH', message: expect.stringContaining('"w"') }),
    )
  })
})
