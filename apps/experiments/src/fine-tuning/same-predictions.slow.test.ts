/**
 * An adapter that `train` makes for MiniLM gives the same logits in the pipeline that trained it, in a session of ONNX Runtime, and in PyTorch with PEFT
 * (if FOURIERFT_PYTHON is set to a Python with PEFT).
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { encodeFloats, type Tensor as StoredTensor, writeSafetensors } from '@fourierft/core'
import {
  addHead,
  DataType,
  findLinearLayers,
  type Head,
  type HeadConfig,
  headFor,
  headModules,
  nameWithHead,
  type OnnxModel,
  readLayer,
  readModel,
} from '@fourierft/onnx'
import { createSession } from '@fourierft/onnxruntime'
import { attach, train } from '@fourierft/transformers'
import { Tensor } from 'onnxruntime-node'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cacheFolder, openMailModel, targetModules } from './mail-model.js'
import type { Mail } from './mails.js'

const python = process.env.FOURIERFT_PYTHON
const hasModel = existsSync(join(cacheFolder, 'minilm-0.2.1/model.onnx'))
const skipped = hasModel
  ? ''
  : ' (skipped: node packages/onnxruntime/scripts/minilm.js has not fetched the model)'
const withoutPython =
  python === undefined ? ' (skipped: FOURIERFT_PYTHON is not set to a Python with PEFT)' : ''

const MAILS: readonly Mail[] = [
  { label: 'spam', text: 'Lose weight fast. Order our pills today and get a second bottle free!' },
  {
    label: 'ham',
    text: 'Re: broken build. The test fails on my machine too; I will look at the log tonight.',
  },
  { label: 'spam', text: 'You are a winner. Claim your prize now, click here before midnight.' },
  { label: 'ham', text: 'Lunch on Friday? Anna and I are going to the place near the station.' },
  { label: 'spam', text: 'Lowest mortgage rates. Refinance today, no credit check, call now!' },
  { label: 'ham', text: 'The patch is fine, but please add a comment that says why the lock is needed.' },
]
/** The project's limit for whole models: the largest error, relative to the largest value. */
const LIMIT = 1e-4

describe.skipIf(!hasModel)(`MiniLM with a trained adapter${skipped}`, () => {
  let folder: string
  let adapterFolder: string
  let bytes: Uint8Array
  let head: Head
  /** The token ids of each mail. */
  let inputs: number[][]
  let expected: number[][]
  /** The logits when the coefficients are zero. */
  let withHeadOnly: number[][]

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'same-predictions-'))
    adapterFolder = join(folder, 'adapter')
    const model = await openMailModel()
    bytes = model.bytes
    const { tokenizer, model: encoder } = model.classify
    inputs = MAILS.map(({ text }) => tokenizer.encode(text))
    const adapters = await attach(model.classify)
    await adapters.addAdapter('mails', { targetModules, nFrequency: 1000 })
    await train(adapters, MAILS, { epochs: 4, batchSize: 3 })
    await adapters.savePretrained(adapterFolder, { name: 'mails' })
    const logitsOf = async () => {
      const rows: number[][] = []
      for (const { text } of MAILS) {
        const { logits } = await encoder(await tokenizer(text))
        rows.push(Array.from(logits.data as Float32Array))
      }
      return rows
    }
    expected = await logitsOf()
    adapters.setScale('mails', 0)
    withHeadOnly = await logitsOf()
    head = headFor('text-classification', encoder.config as HeadConfig, readModel(bytes).graph.outputs)
    await encoder.dispose()
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  function expectSame(received: readonly (readonly number[])[]): void {
    expect(received.map((row) => row.length)).toEqual(expected.map((row) => row.length))
    const largest = Math.max(...expected.flat().map(Math.abs))
    const errorOf = (rows: readonly (readonly number[])[]) =>
      Math.max(...rows.flat().map((value, i) => Math.abs(value - (expected.flat()[i] as number)))) / largest
    expect(errorOf(received)).toBeLessThan(LIMIT)
    // The coefficients are a part of what is compared.
    expect(errorOf(withHeadOnly)).toBeGreaterThan(100 * LIMIT)
  }

  test('a session of ONNX Runtime gives the same logits', async () => {
    const model = readModel(bytes)
    addHead(model, head)
    const nodes = findLinearLayers(model).flatMap(({ module, node }) =>
      module === undefined ? [] : [[nameWithHead(head, module), node.name] as const],
    )
    const session = await createSession(model.toBytes(), {
      moduleNames: Object.fromEntries(nodes),
      intraOpNumThreads: 1,
      logSeverityLevel: 3,
    })
    await session.loadAdapter(adapterFolder)
    const rows: number[][] = []
    for (const ids of inputs) {
      const int64 = (values: number[]) =>
        new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length])
      const feeds = {
        input_ids: int64(ids),
        attention_mask: int64(ids.map(() => 1)),
        token_type_ids: int64(ids.map(() => 0)),
      }
      const known = Object.entries(feeds).filter(([name]) => session.inputNames.includes(name))
      const { logits } = await session.run(Object.fromEntries(known))
      rows.push(Array.from(logits?.data as Float32Array))
    }
    await session.release()
    expectSame(rows)
  })

  // Without a time limit, because a busy machine takes minutes to import PEFT.
  test.skipIf(python === undefined)(
    `PyTorch and PEFT give the same logits${withoutPython}`,
    { timeout: 0 },
    async () => {
      const weights = join(folder, 'encoder.safetensors')
      await writeFile(weights, await encoderWeights(readModel(bytes), head))
      const texts = join(folder, 'inputs.json')
      await writeFile(texts, JSON.stringify(inputs))
      const script = fileURLToPath(new URL('../../mail-classifier-in-peft.py', import.meta.url))
      const output = execFileSync(python as string, [script, weights, adapterFolder, texts], {
        encoding: 'utf8',
      })
      expectSame(JSON.parse(output))
    },
  )
})

/** The weights of the encoder with the names that they have in PyTorch. */
async function encoderWeights(model: OnnxModel, head: Head): Promise<Uint8Array> {
  const tensors = new Map<string, StoredTensor>()
  const none = () => Promise.reject(new Error('the weights are in the file'))
  for (const layer of findLinearLayers(model)) {
    if (layer.module === undefined || headModules(head).includes(layer.module)) continue
    const { weight } = await readLayer(layer, none)
    const shape = [layer.outFeatures, layer.inFeatures]
    const name = `${nameWithHead(head, layer.module)}.weight`
    tensors.set(name, { dtype: 'F32', shape, bytes: encodeFloats(weight, 'F32') })
  }
  for (const tensor of model.graph.initializers.values()) {
    const { name, dims, dataType } = tensor
    const known = /^(.*)\.(weight|bias)$/.exec(name)
    if (known === null || dataType !== DataType.float) continue
    const [, module, kind] = known as unknown as [string, string, string]
    const stored = `${nameWithHead(head, module)}.${kind}`
    if (!tensors.has(stored))
      tensors.set(stored, {
        dtype: 'F32',
        shape: [...dims],
        bytes: Uint8Array.from(tensor.data() as Uint8Array),
      })
  }
  return writeSafetensors({ tensors, metadata: { format: 'pt' } })
}
