/**
 * PEFT loads adapters with new heads into `AutoModelForSequenceClassification` and `AutoModelForTokenClassification`, and gives the same logits. The
 * recorded logits need no Python: the adapters are made again, and their files are compared with those that PEFT has loaded. To record them,
 * set FOURIERFT_PYTHON to a Python with PEFT, and FOURIERFT_RECORD.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { encodeFloats, type Tensor as StoredTensor, writeSafetensors } from '@fourierft/core'
import { DataType, findLinearLayers, readLayer, readModel } from '@fourierft/onnx'
import { AutoModel, AutoModelForSequenceClassification, env, Tensor } from '@huggingface/transformers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { attach } from '../src/attach.js'

const FIXTURES = fileURLToPath(new URL('__fixtures__', import.meta.url))
const python = process.env.FOURIERFT_PYTHON
const script = fileURLToPath(new URL('python/heads_in_peft.py', import.meta.url))
const recording = fileURLToPath(new URL('python/heads_in_peft.json', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'fourierft-heads-in-peft-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
beforeAll(() => {
  env.localModelPath = FIXTURES
  env.allowRemoteModels = false
})

interface Result {
  readonly type: string
  readonly shape: readonly number[]
  readonly logits: readonly number[]
}

/** `root`: what the names in the file lack. */
const CASES = [
  { name: 'roberta', root: 'roberta.', task: 'text-classification', taskType: 'SEQ_CLS', labels: 4 },
  { name: 'roberta', root: 'roberta.', task: 'text-classification', taskType: null, labels: 2 },
  { name: 'roberta', root: 'roberta.', task: 'token-classification', taskType: 'TOKEN_CLS', labels: 3 },
  { name: 'bert', root: '', task: 'text-classification', taskType: 'SEQ_CLS', labels: 5 },
] as const
type Case = (typeof CASES)[number]
const CLASSES = {
  'text-classification': 'AutoModelForSequenceClassification',
  'token-classification': 'AutoModelForTokenClassification',
} as const
const INPUT = [5, 17, 44, 91, 23, 8]
const describeCase = ({ name, task, labels, taskType }: Case) =>
  `${name}, ${task}, ${labels} labels, ${taskType}`

/** Makes the adapter with its head, writes it, and returns the logits, with and without the coefficients. */
async function run({ name, task, taskType, labels }: Case, directory: string) {
  const loader = name === 'roberta' ? AutoModel : AutoModelForSequenceClassification
  const model = await loader.from_pretrained(name, { dtype: 'fp32' })
  const adapters = await attach(model, { head: task })
  const config = {
    targetModules: ['query', 'value', 'dense'],
    excludeModules: ['pooler.dense'],
    nFrequency: 60,
    scaling: 60,
    initWeights: false,
    baseModelNameOrPath: null,
  }
  await adapters.addAdapter('mine', config, { initialSeed: 5 })
  const names = Array.from({ length: labels }, (_, i) => `class ${i}`)
  await adapters.giveHead('mine', { names }, { seed: 11, taskType })
  await adapters.savePretrained(directory)
  const ids = BigInt64Array.from(INPUT, BigInt)
  const dims = [1, ids.length]
  const inputs = {
    input_ids: new Tensor('int64', ids, dims),
    attention_mask: new Tensor(
      'int64',
      ids.map(() => 1n),
      dims,
    ),
    ...(name === 'bert' && {
      token_type_ids: new Tensor(
        'int64',
        ids.map(() => 0n),
        dims,
      ),
    }),
  }
  const { logits } = await model(inputs)
  adapters.setScale('mine', 0)
  const { logits: unchanged } = await model(inputs)
  await model.dispose()
  const hash = createHash('sha256')
  for (const file of ['adapter_config.json', 'adapter_model.safetensors'])
    hash.update(readFileSync(join(directory, file)))
  return { logits, unchanged, digest: hash.digest('hex') }
}

/** Writes the weights of a fixture under their names in PyTorch. */
async function writeWeights({ name, root }: Case): Promise<string> {
  const model = readModel(readFileSync(join(FIXTURES, name, 'onnx/model.onnx')))
  const tensors = new Map<string, StoredTensor>()
  const none = () => Promise.reject(new Error('the weights are in the file'))
  for (const layer of findLinearLayers(model)) {
    const { weight } = await readLayer(layer, none)
    const shape = [layer.outFeatures, layer.inFeatures]
    tensors.set(`${root}${layer.module}.weight`, { dtype: 'F32', shape, bytes: encodeFloats(weight, 'F32') })
  }
  for (const tensor of model.graph.initializers.values()) {
    const { name: initializer, dims, dataType } = tensor
    if (
      !/\.(weight|bias)$/.test(initializer) ||
      tensors.has(root + initializer) ||
      dataType !== DataType.float
    )
      continue
    const bytes = tensor.data()
    if (bytes)
      tensors.set(root + initializer, { dtype: 'F32', shape: [...dims], bytes: Uint8Array.from(bytes) })
  }
  const path = join(folder, `${name}.safetensors`)
  writeFileSync(path, writeSafetensors({ tensors, metadata: { format: 'pt' } }))
  return path
}

function expectSame(logits: Tensor, unchanged: Tensor, { shape, logits: expected }: Result): void {
  expect(logits.dims).toEqual(shape)
  const largest = Math.max(...expected.map(Math.abs))
  const errorOf = ({ data }: Tensor) =>
    Math.max(...Array.from(data as Float32Array, (value, i) => Math.abs(value - (expected[i] as number)))) /
    largest
  // Twelve consecutive layers, each a sum of at most 64 products and 60 coefficients: 2⁻²⁴ for each addition.
  const limit = 12 * 124 * 2 ** -24
  expect(errorOf(logits)).toBeLessThan(limit)
  expect(errorOf(unchanged)).toBeGreaterThan(100 * limit)
}

const recorded: Readonly<Record<string, Result & { readonly digest: string }>> = JSON.parse(
  readFileSync(recording, 'utf8'),
)

test.each(CASES.map((one) => [describeCase(one), one] as const))(
  '%s: the logits are those that PEFT gave',
  async (title, one) => {
    const { logits, unchanged, digest } = await run(one, join(folder, `recorded ${title}`))
    const result = recorded[title] as Result & { readonly digest: string }
    expect(digest).toBe(result.digest)
    expectSame(logits, unchanged, result)
  },
)

const reason = python === undefined ? ' (skipped: FOURIERFT_PYTHON is not set to a Python with PEFT)' : ''
// Without a time limit, because a busy machine takes minutes to import PEFT.
describe.skipIf(python === undefined)(`PEFT${reason}`, { timeout: 0 }, () => {
  test('loads the adapters with their heads, and gives the same logits', async () => {
    const runs = []
    for (const one of CASES) {
      const adapter = join(folder, describeCase(one))
      const {
        id2label: _,
        architectures: __,
        transformers_version: ___,
        ...config
      } = JSON.parse(readFileSync(join(FIXTURES, one.name, 'config.json'), 'utf8'))
      const weights = await writeWeights(one)
      const input = {
        class: CLASSES[one.task],
        config,
        weights,
        adapter,
        labels: one.labels,
        inputIds: INPUT,
      }
      runs.push({ one, input, result: await run(one, adapter) })
    }
    const args = [script, JSON.stringify(runs.map(({ input }) => input))]
    const output = execFileSync(python as string, args, { encoding: 'utf8' })
    const { versions, results }: { versions: object; results: Result[] } = JSON.parse(output)
    const found: Record<string, unknown> = { versions }
    for (const [
      i,
      {
        one,
        result: { logits, unchanged, digest },
      },
    ] of runs.entries()) {
      const result = results[i] as Result
      if (process.env.FOURIERFT_RECORD) found[describeCase(one)] = { digest, ...result }
      else expectSame(logits, unchanged, result)
    }
    if (process.env.FOURIERFT_RECORD) writeFileSync(recording, `${JSON.stringify(found)}\n`)
  })
})
