/** A module that the model calls twice, with a copy of its weight for each call. It is one module, even if its weights are not read with the model. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdapter, createConfig } from '@fourierft/core'
import { createModel, DataType } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { afterAll, expect, test } from 'vitest'
import { createSession, type SessionOptions } from './create-session.js'

/** The weights take 16 KB each, so they are not read with the model. */
const SIZE = 64
const sines = (length: number, phase: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(1.3 * i + phase) / 8)
const weight = sines(SIZE * SIZE, 1)

/** Returns a model of y = proj(tanh(proj(x))) that gives the second product another tensor as its weight. */
function modelWithTwoCalls(names: readonly [string, string], secondWeight: Float32Array): Uint8Array {
  const tensor = (name: string, values: Float32Array) => ({
    name,
    dims: [SIZE, SIZE],
    dataType: DataType.float,
    data: new Uint8Array(values.slice().buffer),
  })
  const graph = {
    name: 'main_graph',
    inputs: [{ name: 'x', dataType: DataType.float, dims: ['batch', SIZE] }],
    outputs: [{ name: 'y', dataType: DataType.float, dims: ['batch', SIZE] }],
    initializers: [tensor('w', weight), tensor('w_copy', secondWeight)],
    nodes: [
      { name: names[0], opType: 'MatMul', inputs: ['x', 'w'], outputs: ['u'] },
      { opType: 'Tanh', inputs: ['u'], outputs: ['v'] },
      { name: names[1], opType: 'MatMul', inputs: ['v', 'w_copy'], outputs: ['y'] },
    ],
  }
  return createModel(graph, { opset: 17 }).toBytes()
}

const NAMES = ['/block/proj/MatMul', '/block/proj_1/MatMul'] as const
const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
const adapter = createAdapter(config, { 'block.proj': [SIZE, SIZE] }, { initialSeed: 1 })
const both = createAdapter(
  config,
  { 'block.proj': [SIZE, SIZE], 'block.proj_1': [SIZE, SIZE] },
  { initialSeed: 1 },
)
for (const { coefficients } of both.modules.values())
  coefficients.set(adapter.layer('block.proj').coefficients)

const folder = await mkdtemp(join(tmpdir(), 'called-twice-'))
afterAll(() => rm(folder, { recursive: true }))

async function outputs(model: string | Uint8Array, options: SessionOptions): Promise<Float32Array[]> {
  const session = await createSession(model, { native: false, ...options })
  const feeds = { x: new ort.Tensor('float32', sines(2 * SIZE, 3), [2, SIZE]) }
  const unmerged = (await session.run(feeds)).y?.data as Float32Array
  await session.mergeAdapter()
  const merged = (await session.run(feeds)).y?.data as Float32Array
  await session.release()
  return [unmerged, merged]
}

test('gives the same outputs as two modules with one adapter each, from bytes and from a file, merged and not', async () => {
  const path = join(folder, 'copies.onnx')
  await writeFile(path, modelWithTwoCalls(NAMES, weight))
  // The same graph, with the names of two modules.
  const twoModules = modelWithTwoCalls(['/block/proj/MatMul', '/block/other/MatMul'], weight)
  const moduleNames = { 'block.proj_1': '/block/other/MatMul' }
  const expected = await outputs(twoModules, { adapters: both, moduleNames })
  expect(await outputs(modelWithTwoCalls(NAMES, weight), { adapters: adapter })).toEqual(expected)
  expect(await outputs(path, { adapters: adapter })).toEqual(expected)
})

test('changes only one module if the second weight differs', async () => {
  const path = join(folder, 'others.onnx')
  const other = sines(SIZE * SIZE, 2)
  await writeFile(path, modelWithTwoCalls(NAMES, other))
  const expected = await outputs(modelWithTwoCalls(['/block/proj/MatMul', '/block/other/MatMul'], other), {
    adapters: adapter,
  })
  expect(await outputs(path, { adapters: adapter })).toEqual(expected)
})

test('accepts a list of the nodes of one module in moduleNames', async () => {
  const nameless = modelWithTwoCalls(['first', 'second'], weight)
  const moduleNames = { 'block.proj': ['first', 'second'] }
  const expected = await outputs(modelWithTwoCalls(NAMES, weight), { adapters: adapter })
  expect(await outputs(nameless, { adapters: adapter, moduleNames })).toEqual(expected)
  await expect(
    createSession(nameless, { adapters: adapter, moduleNames: { 'block.proj': ['first', 'third'] } }),
  ).rejects.toMatchObject({ code: 'MODULE_NOT_FOUND' })
})
