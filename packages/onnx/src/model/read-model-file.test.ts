/** Models whose weights stay in their file: they are equal to models that are read as a whole, and run alike in ONNX Runtime. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FourierFTError, uniformEntries } from '@fourierft/core'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { afterAll, describe, expect, test } from 'vitest'
import { MODEL_NAMES, modelBytes, quickOrAllCases } from '../__fixtures__/model-files.js'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { attachBranches } from '../attach/attach.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { readModel } from './model.js'
import { readModelFile } from './read-model-file.js'

const NAMES = quickOrAllCases(MODEL_NAMES, (name) => ['bert-torchscript', 'llama-q4f16'].includes(name))

const folder = mkdtempSync(join(tmpdir(), 'fourierft-model-file-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Reads parts of a file, and counts the bytes that it reads. */
function countingReader(bytes: Uint8Array) {
  const reader = {
    count: 0,
    read: async (offset: number, length: number) => {
      reader.count += length
      return bytes.slice(offset, offset + length)
    },
  }
  return reader
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

describe.each(NAMES)('%s', (name) => {
  const bytes = modelBytes(name)
  const options = { size: bytes.length, location: `${name}.onnx`, inlineUpTo: 64 }

  test('each tensor is located in the file, or has the same data', async () => {
    const partial = await readModelFile(countingReader(bytes).read, options)
    const whole = readModel(bytes)
    const tensors = partial.graph.graphs().flatMap(({ initializers }) => [...initializers.values()])
    const expected = whole.graph.graphs().flatMap(({ initializers }) => [...initializers.values()])
    expect(tensors.map((tensor) => tensor.name)).toEqual(expected.map((tensor) => tensor.name))
    for (const [i, { external, data }] of tensors.entries()) {
      const received = external
        ? bytes.slice(external.offset, external.offset + (external.length ?? Number.NaN))
        : data()
      expect(received && Buffer.compare(received, expected[i]?.data() ?? new Uint8Array(1))).toBe(
        expected[i]?.data() ? 0 : undefined,
      )
    }
    expect(tensors.some(({ external }) => external)).toBe(true)
    expect(findLinearLayers(partial).map(({ module }) => module)).toEqual(
      findLinearLayers(whole).map(({ module }) => module),
    )
  })

  test('ONNX Runtime gives the output of the whole file, bit for bit, also with inactive branches', async () => {
    writeFileSync(join(folder, options.location), bytes)
    const extra = { session: { model_external_initializers_file_folder_path: folder } }
    const model = await readModelFile(countingReader(bytes).read, options)
    const plain = await createSession(model.toBytes(), { extra })
    const layers = findLinearLayers(model)
    const inputs = attachBranches(
      model,
      layers.map((layer, i) => {
        const shape = [layer.outFeatures, layer.inFeatures] as const
        return { module: `module.${i}`, layer, entries: uniformEntries({ shape, n: 4, seed: i }) }
      }),
    )
    const attached = await createSession(model.toBytes(), { extra })
    const original = await createSession(bytes)
    const feeds = feedsOf(original)
    const inactiveFeeds = { ...feeds, [inputs.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]) }
    for (const input of inputs.coefficients.values())
      Object.assign(inactiveFeeds, { [input]: new Tensor('float32', new Float32Array(0), [0, 4]) })
    const expected = await original.run(feeds)
    const [received, receivedInactive] = [await plain.run(feeds), await attached.run(inactiveFeeds)]
    for (const output of original.outputNames) {
      expect(received[output]?.data).toEqual(expected[output]?.data)
      // On CPUs, ONNX Runtime computes float16 in float32, and a branch changes where it rounds.
      if (!/half|f16/.test(name)) expect(receivedInactive[output]?.data).toEqual(expected[output]?.data)
    }
  })
})

test('large weights are not read', async () => {
  const model = readModel(modelBytes('bert-torchscript'))
  const size = 2 ** 24
  model.graph.addInitializer({ name: 'large', dims: [size / 4], dataType: 1, data: new Uint8Array(size) })
  const bytes = model.toBytes()
  const reader = countingReader(bytes)
  const partial = await readModelFile(reader.read, { size: bytes.length, location: 'large.onnx' })
  expect(partial.graph.initializers.get('large')?.external?.length).toBe(size)
  // The file is read in blocks of 64 KiB, whose ends may be read twice.
  expect(reader.count).toBeLessThan(bytes.length - size + 4 * 65_536)
})

test('a file cut off at any byte is rejected, or is a shorter model', async () => {
  const model = readModel(modelBytes('bert-torchscript'))
  model.graph.removeNodes(model.graph.nodes.slice(3))
  model.graph.removeInitializers(new Set([...model.graph.initializers.keys()].slice(2)))
  const bytes = model.toBytes()
  let rejections = 0
  for (let length = 0; length < bytes.length; length++) {
    const cut = bytes.subarray(0, length)
    const options = { size: length, location: 'cut.onnx', inlineUpTo: 16 }
    const code = await readModelFile(countingReader(cut).read, options).then(
      () => 'read',
      (error) => (FourierFTError.isInstance(error) ? error.code : error),
    )
    expect(['read', 'INVALID_ONNX']).toContain(code)
    if (code === 'INVALID_ONNX') rejections++
  }
  expect(rejections).toBeGreaterThan(bytes.length / 2)
})
