/** Tests `fourierft train` and `fourierft evaluate` on an exported BERT. */
import { cp, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { loadAdapter } from '@fourierft/core'
import { beforeAll, expect, test } from 'vitest'
import { capturedRun } from './captured-run.js'

const ROWS = [
  { text: 'the river runs down', label: 'calm' },
  { text: 'a storm and thunder', label: 'loud' },
  { text: 'the still lake', label: 'calm' },
  { text: 'the crowd shouts', label: 'loud' },
]

let directory: string
let model: string
let data: string

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fourierft-train-'))
  model = join(directory, 'model')
  data = join(directory, 'rows.jsonl')
  await cp(fileURLToPath(new URL('../../transformers/test/__fixtures__/bert', import.meta.url)), model, {
    recursive: true,
  })
  await writeFile(data, ROWS.map((row) => JSON.stringify(row)).join('\n'))
})

/** Smaller settings than the defaults, which are for real models. */
const SETTINGS = ['--n', '40', '--epochs', '2', '--batch-size', '2', '--target-modules', 'query,value']

test('train writes an adapter with its report; evaluate measures it and the base model', async () => {
  const out = join(directory, 'mine')
  const trained = await capturedRun(
    'train',
    '--model',
    model,
    '--data',
    data,
    '--eval',
    data,
    '--out',
    out,
    ...SETTINGS,
  )
  expect(trained).toMatchObject({ status: 0, stderr: '' })
  expect(trained.stdout).toMatch(
    /^epoch +loss +evaluation +accuracy +f1 +matthews\n +1 .*\n +2 .*\n4 rows, 4 for evaluation; labels: calm, loud; \d+ s\n/,
  )
  expect((await readdir(out)).sort()).toEqual([
    'adapter_config.json',
    'adapter_model.safetensors',
    'loss.svg',
    'training.json',
  ])
  const report = JSON.parse(await readFile(join(out, 'training.json'), 'utf8'))
  expect(report).toMatchObject({
    task: 'text-classification',
    rows: { training: 4, evaluation: 4 },
    stopped: 'end',
  })
  const { config, metadata } = await loadAdapter(pathToFileURL(out))
  expect(config).toMatchObject({ nFrequency: 40, targetModules: ['query', 'value'], taskType: 'SEQ_CLS' })
  expect(JSON.parse(metadata.id2label ?? '')).toEqual({ 0: 'calm', 1: 'loud' })

  const measured = await capturedRun('evaluate', '--model', model, '--adapter', out, '--data', data, '--json')
  expect(JSON.parse(measured.stdout).loss).toBeCloseTo(report.epochs[1].evaluationLoss, 5)
})

test('evaluate without an adapter measures the base model', async () => {
  const labels = JSON.parse(await readFile(join(model, 'config.json'), 'utf8')).id2label
  const rows = join(directory, 'base.csv')
  await writeFile(rows, `text,label\n${ROWS.map(({ text }) => `${text},${labels[0]}`).join('\n')}\n`)
  const { status, stdout, stderr } = await capturedRun('evaluate', '--model', model, '--data', rows)
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  expect(stdout).toMatch(/\nloss +[\d.]+\naccuracy +[\d.]+\n/)
})

test.each([
  ['FILE_NOT_FOUND', 1, () => ['--data', join(directory, 'missing.jsonl')]],
  ['IO_ERROR', 1, () => ['--data', data, '--out', data]],
  ['INVALID_OPTION', 1, () => ['--data', data, '--max-length', '100']],
  ['USAGE', 2, () => ['--data', data, '--resume']],
  ['USAGE', 2, () => ['--data', data, '--patience', '1']],
  ['USAGE', 2, () => ['--data', data, '--adapter', directory, '--n', '3']],
  ['MODEL', 1, () => ['--data', data, '--dtype', 'bnb4']],
  ['MODEL', 1, () => ['--data', data, '--task', 'text-generation']],
  ['MODULE_NOT_FOUND', 1, () => ['--data', data, '--target-modules', 'nothing']],
  ['USAGE', 2, () => ['--data', data, '--learning-rate', '-1']],
  ['USAGE', 2, () => ['--data', data, '--task', 'depth-estimation']],
])('train reports %s, and writes nothing', async (code, status, options) => {
  const out = join(directory, 'nothing')
  const result = await capturedRun('train', '--model', model, '--out', out, ...options())
  expect(result).toMatchObject({ status, stdout: '' })
  expect(result.stderr).toMatch(new RegExp(`^fourierft: ${code}: .*\n$`))
  expect(await readdir(directory)).not.toContain('nothing')
})
