/** Models whose weights are left in their file: the same models, for a reader and for ONNX Runtime, and no weight is read. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FourierFTError, uniformEntries } from '@fourierft/core'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { afterAll, describe, expect, test } from 'vitest'
import { attachBranches } from '../attach/attach.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { readModel } from './model.js'
import { readModelFile } from './read-model-file.js'

const fixtures = new URL('../__fixtures__/', import.meta.url)
const names = readdirSync(fixtures).filter((name) => name.endsWith('.onnx'))
const bytesOf = (name: string) => new Uint8Array(readFileSync(new URL(name, fixtures)))

const folder = mkdtempSync(join(tmpdir(), 'fourierft-left-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** What is read of a file, and how much. */
function reader(bytes: Uint8Array) {
  const read = { count: 0, at: async (offset: number, length: number) => part(offset, length) }
  const part = (offset: number, length: number) => {
    read.count += length
    return bytes.slice(offset, offset + length)
  }
  return read
}

function feedsOf({ inputMetadata }: InferenceSession): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = {}
  for (const input of inputMetadata) {
    if (!input.isTensor) continue
    const dims = input.shape.map((size) => (typeof size === 'number' ? size : 2))
    const length = dims.reduce((product, size) => product * size, 1)
    feeds[input.name] =
      input.type === 'float32'
        ? new Tensor(
            'float32',
            Float32Array.from({ length }, (_, i) => Math.sin(i)),
            dims,
          )
        : new Tensor(
            'int64',
            BigInt64Array.from({ length }, (_, i) => BigInt((3 * i) % 20)),
            dims,
          )
  }
  return feeds
}

describe.each(names)('%s', (name) => {
  const bytes = bytesOf(name)
  const options = { size: bytes.length, location: name, inlineUpTo: 64 }

  test('each tensor is where the file has it', async () => {
    const left = await readModelFile(reader(bytes).at, options)
    const whole = readModel(bytes)
    const tensors = left.graph.graphs().flatMap(({ initializers }) => [...initializers.values()])
    const expected = whole.graph.graphs().flatMap(({ initializers }) => [...initializers.values()])
    expect(tensors.map((tensor) => tensor.name)).toEqual(expected.map((tensor) => tensor.name))
    for (const [i, { external, data }] of tensors.entries()) {
      const own = external
        ? bytes.slice(external.offset, external.offset + (external.length ?? Number.NaN))
        : data()
      expect(own && Buffer.compare(own, expected[i]?.data() ?? new Uint8Array(1))).toBe(
        expected[i]?.data() ? 0 : undefined,
      )
    }
    expect(tensors.some(({ external }) => external)).toBe(true)
    expect(findLinearLayers(left).map(({ module }) => module)).toEqual(
      findLinearLayers(whole).map(({ module }) => module),
    )
  })

  test('ONNX Runtime runs it with the bits of the file, with branches too', async () => {
    writeFileSync(join(folder, name), bytes)
    const extra = { session: { model_external_initializers_file_folder_path: folder } }
    const model = await readModelFile(reader(bytes).at, options)
    const plain = await InferenceSession.create(model.toBytes(), { extra })
    const layers = findLinearLayers(model)
    const inputs = attachBranches(
      model,
      layers.map((layer, i) => {
        const shape = [layer.outFeatures, layer.inFeatures] as const
        return { module: `module.${i}`, layer, entries: uniformEntries({ shape, n: 4, seed: i }) }
      }),
    )
    const attached = await InferenceSession.create(model.toBytes(), { extra })
    const original = await InferenceSession.create(bytes)
    const feeds = feedsOf(original)
    const idle = { ...feeds, [inputs.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]) }
    for (const input of inputs.coefficients.values())
      Object.assign(idle, { [input]: new Tensor('float32', new Float32Array(0), [0, 4]) })
    const expected = await original.run(feeds)
    const [received, again] = [await plain.run(feeds), await attached.run(idle)]
    for (const output of original.outputNames) {
      expect(received[output]?.data).toEqual(expected[output]?.data)
      // ONNX Runtime's CPU computes float16 in float32 and rounds at other places beside a branch.
      if (!/half|f16/.test(name)) expect(again[output]?.data).toEqual(expected[output]?.data)
    }
  })
})

test('large weights are not read', async () => {
  const model = readModel(bytesOf('bert-torchscript.onnx'))
  const size = 2 ** 24
  model.graph.addInitializer({ name: 'large', dims: [size / 4], dataType: 1, data: new Uint8Array(size) })
  const bytes = model.toBytes()
  const read = reader(bytes)
  const left = await readModelFile(read.at, { size: bytes.length, location: 'large.onnx' })
  expect(left.graph.initializers.get('large')?.external?.length).toBe(size)
  // Nothing is read twice but at the ends of what is read at once, 64 KiB.
  expect(read.count).toBeLessThan(bytes.length - size + 4 * 65_536)
})

test('cut off at any byte: refused, or a shorter model', async () => {
  const model = readModel(bytesOf('bert-torchscript.onnx'))
  model.graph.removeNodes(model.graph.nodes.slice(3))
  model.graph.removeInitializers(new Set([...model.graph.initializers.keys()].slice(2)))
  const bytes = model.toBytes()
  let refusals = 0
  for (let length = 0; length < bytes.length; length++) {
    const cut = bytes.subarray(0, length)
    const options = { size: length, location: 'cut.onnx', inlineUpTo: 16 }
    const code = await readModelFile(reader(cut).at, options).then(
      () => 'read',
      (error) => (FourierFTError.isInstance(error) ? error.code : error),
    )
    expect(['read', 'INVALID_ONNX']).toContain(code)
    if (code === 'INVALID_ONNX') refusals++
  }
  expect(refusals).toBeGreaterThan(bytes.length / 2)
})
