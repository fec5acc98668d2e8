/** `mergeModel`: the saved model gives the outputs of a session whose adapters are merged. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdapter, createConfig } from '@fourierft/core'
import { readModel } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { afterAll, expect, test } from 'vitest'
import { SHAPES, twoLayers } from './__fixtures__/two-layers.js'
import { createSession } from './create-session.js'
import { type MergedModel, mergeModel } from './merge-model.js'

const folder = mkdtempSync(join(tmpdir(), 'fourierft-merge-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
const both = createAdapter(config, SHAPES, { initialSeed: 1 })
const first = createAdapter(config, { 'block.first': SHAPES['block.first'] }, { initialSeed: 2 })
const feeds = {
  x: new ort.Tensor(
    'float32',
    Float32Array.from({ length: 36 }, (_, i) => Math.sin(0.7 * i)),
    [3, 12],
  ),
}

async function outputOf(model: string | Uint8Array) {
  const session =
    typeof model === 'string' ? ort.InferenceSession.create(model) : ort.InferenceSession.create(model)
  return (await (await session).run(feeds)).y?.data
}

/** Writes a merged model, and returns its path. */
async function write({ bytes, externalData }: MergedModel, name: string): Promise<string> {
  mkdirSync(join(folder, name), { recursive: true })
  writeFileSync(join(folder, name, 'model.onnx'), bytes)
  const parts: Uint8Array[] = []
  for await (const part of externalData?.parts ?? []) parts.push(part)
  if (externalData) writeFileSync(join(folder, name, externalData.location), Buffer.concat(parts))
  return join(folder, name, 'model.onnx')
}

test('the merged model gives the outputs of a session with merged adapters, bit for bit', async () => {
  const session = await createSession(twoLayers(), { adapters: { both, first } })
  await session.mergeAdapter(['both', 'first'])
  const expected = (await session.run(feeds)).y?.data
  const { bytes, externalData } = await mergeModel(twoLayers(), [both, first])
  expect(externalData).toBeUndefined()
  expect(await outputOf(bytes)).toEqual(expected)
  expect(expected).not.toEqual(await outputOf(twoLayers()))
  await session.release()
})

test('external data move to one new file, changed or not', async () => {
  const model = readModel(twoLayers(), { file: 'model.onnx' })
  for (const tensor of model.graph.initializers.values()) {
    const data = tensor.data() as Uint8Array
    // The file has other data in front.
    writeFileSync(join(folder, `${tensor.name}.bin`), Buffer.concat([Buffer.alloc(64, 7), data]))
    const range = { location: `${tensor.name}.bin`, offset: 64, length: data.length }
    tensor.setData(tensor.name === 'block.second.weight' ? { ...range, length: undefined } : range)
  }
  const path = join(folder, 'model.onnx')
  writeFileSync(path, model.toBytes())
  const before = readFileSync(path)
  const merged = await mergeModel(path, first, { location: 'weights.bin' })
  expect(merged.externalData?.location).toBe('weights.bin')
  expect(await outputOf(await write(merged, 'merged'))).toEqual(
    await outputOf((await mergeModel(twoLayers(), first)).bytes),
  )
  expect(readFileSync(path)).toEqual(before)
})

test('a cut-off file of external data is rejected', async () => {
  const model = readModel(twoLayers(), { file: 'model.onnx' })
  const tensor = model.graph.initializers.get('block.second.weight')
  tensor?.setData({ location: 'short.bin', offset: 0, length: 8 * 20 * 4 })
  writeFileSync(join(folder, 'short.bin'), Buffer.alloc(100))
  writeFileSync(join(folder, 'short.onnx'), model.toBytes())
  const merged = await mergeModel(join(folder, 'short.onnx'), first)
  await expect(write(merged, 'short')).rejects.toMatchObject({ code: 'IO_ERROR' })
})

test.each([
  ['no adapters', [], 'INVALID_OPTION'],
  ['an adapter of another model', [createAdapter(config, { other: [8, 8] })], 'MODULE_NOT_FOUND'],
])('%s are rejected', async (_, adapters, code) => {
  await expect(mergeModel(twoLayers(), adapters)).rejects.toMatchObject({ code })
})
