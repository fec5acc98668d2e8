/** A model whose weight is in a separate file. Loading adapters leaves the weight in its file, and writes no files. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdapter, createConfig } from '@fourierft/core'
import * as ort from 'onnxruntime-node'
import { afterAll, expect, test } from 'vitest'
import { createSession } from '../src/create-session.js'

const [d1, d2] = [6, 10]
const folder = mkdtempSync(join(tmpdir(), 'fourierft-external-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Encodes a protobuf field: bytes, text or a small number. Only the graph is longer than 127 bytes. */
function field(number: number, value: number | string | readonly number[]): number[] {
  if (typeof value === 'number') return [number << 3, value]
  const bytes = typeof value === 'string' ? [...Buffer.from(value)] : value
  const length = bytes.length < 128 ? [bytes.length] : [(bytes.length & 127) | 128, bytes.length >> 7]
  return [(number << 3) | 2, ...length, ...bytes]
}

const floats = (name: string) => [...field(1, name), ...field(2, field(1, field(1, 1)))]

/** Returns a model of y = x·W with the node `/block/linear/MatMul`. The field numbers are those of onnx.proto. */
function model(weights: string): Uint8Array {
  const node = ['x', 'w'].flatMap((input) => field(1, input))
  node.push(...field(2, 'y'), ...field(3, '/block/linear/MatMul'), ...field(4, 'MatMul'))
  const location = [...field(1, 'location'), ...field(2, weights)]
  const tensor = [
    ...field(1, d2),
    ...field(1, d1),
    ...field(2, 1),
    ...field(8, 'w'),
    ...field(13, location),
    14 << 3,
    1,
  ]
  const graph = [...field(1, node), ...field(2, 'main'), ...field(5, tensor)]
  graph.push(...field(11, floats('x')), ...field(12, floats('y')))
  return Uint8Array.from([...field(1, 8), ...field(7, graph), ...field(8, field(2, 17))])
}

test.each([true, false])('leaves a weight in its file; native: %s', async (native) => {
  const path = join(folder, 'model.onnx')
  writeFileSync(path, model('weights.bin'))
  writeFileSync(
    join(folder, 'weights.bin'),
    Float32Array.from({ length: d1 * d2 }, (_, p) => Math.cos(p)),
  )
  const config = createConfig({ nFrequency: 8, scaling: 50, initWeights: false })
  const adapter = createAdapter(config, { 'block.linear': [d1, d2] })
  const session = await createSession(path, { native, adapters: adapter })
  const plain = await ort.InferenceSession.create(path)
  const feeds = { x: new ort.Tensor('float32', new Float32Array(2 * d2).fill(1), [2, d2]) }
  const expected = (await plain.run(feeds)).y?.data
  expect((await session.run(feeds)).y?.data).not.toEqual(expected)
  session.disableAdapters()
  expect((await session.run(feeds)).y?.data).toEqual(expected)
  expect(readdirSync(folder).sort()).toEqual(['model.onnx', 'weights.bin'])
  await session.release()
  await plain.release()
})

test('uses the portable function for weights in memory; the native kernel rejects them', async () => {
  const bytes = model('memory.bin')
  const data = new Uint8Array(Float32Array.from({ length: d1 * d2 }, (_, p) => Math.cos(p)).buffer)
  const externalData = [{ path: 'memory.bin', data }]
  const config = createConfig({ nFrequency: 8, scaling: 50, initWeights: false })
  const adapters = createAdapter(config, { 'block.linear': [d1, d2] })
  const session = await createSession(bytes, { adapters, externalData })
  expect(session.nativeProblem).toMatch(/externalData/)
  const plain = await ort.InferenceSession.create(bytes, { externalData })
  const feeds = { x: new ort.Tensor('float32', new Float32Array(2 * d2).fill(1), [2, d2]) }
  const expected = (await plain.run(feeds)).y?.data
  expect((await session.run(feeds)).y?.data).not.toEqual(expected)
  session.disableAdapters()
  expect((await session.run(feeds)).y?.data).toEqual(expected)
  await session.release()
  await plain.release()

  const unsupported = { code: 'UNSUPPORTED', message: expect.stringContaining('externalData') }
  await expect(createSession(bytes, { native: true, externalData })).rejects.toMatchObject(unsupported)
  await expect(createSession(async () => ({ bytes, externalData }), { native: true })).rejects.toMatchObject(
    unsupported,
  )
})
