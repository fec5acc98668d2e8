/** Tests `fourierft params`. */
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { presetNames } from '@fourierft/core'
import { beforeAll, expect, test } from 'vitest'
import { capturedRun } from './captured-run.js'

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fourierft-'))
})

async function shapesFile(content: string): Promise<string> {
  const file = join(directory, 'shapes.json')
  await writeFile(file, content)
  return file
}

test('prints one preset as JSON, with the numbers of the paper', async () => {
  const { status, stdout, stderr } = await capturedRun('params', '--preset', 'vit-base', '--json')
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  expect(JSON.parse(stdout)).toEqual([
    {
      model: 'vit-base',
      method: 'lora',
      rank: 8,
      layers: 24,
      parameters: 294912,
      bytes: 1179648,
      published: { parameters: '295K', bytes: '1.13MB' },
      note: null,
    },
    {
      model: 'vit-base',
      method: 'lora',
      rank: 16,
      layers: 24,
      parameters: 589824,
      bytes: 2359296,
      published: { parameters: '590K', bytes: '2.25MB' },
      note: null,
    },
    {
      model: 'vit-base',
      method: 'fourierft',
      n: 3000,
      layers: 24,
      parameters: 72000,
      bytes: 288000,
      published: { parameters: '72K', bytes: '281KB' },
      note: null,
    },
    {
      model: 'vit-base',
      method: 'fourierft',
      n: 10000,
      layers: 24,
      parameters: 240000,
      bytes: 960000,
      published: { parameters: '239K', bytes: '934KB' },
      note: 'the paper prints 239K (computed: 240K), 934KB (computed: 938KB)',
    },
  ])
})

test('prints all of table 1 without a preset', async () => {
  const { stdout } = await capturedRun('params', '--json')
  const models: { model: string }[] = JSON.parse(stdout)
  expect(models.map(({ model }) => model)).toEqual(presetNames.flatMap((name) => [name, name, name, name]))
})

test('prints a table with grouped digits and a note', async () => {
  const { status, stdout } = await capturedRun('params', '--preset', 'gpt2-medium')
  expect(status).toBe(0)
  const lines = stdout.trimEnd().split('\n')
  expect(lines).toHaveLength(5)
  expect(lines[1]).toMatch(
    /^gpt2-medium +LoRA +r=4 +48 +393,216 +1,572,864 +the paper prints 350K \(computed: 393K\)/,
  )
})

test('counts other sizes of a preset', async () => {
  const { stdout } = await capturedRun(
    'params',
    '--preset',
    'roberta-base',
    '--n',
    '300',
    '--n',
    '1000',
    '--rank',
    '2',
    '--json',
  )
  expect(JSON.parse(stdout)).toMatchObject([
    { method: 'lora', rank: 2, parameters: 12 * 2 * 2 * (768 + 768), published: null, note: null },
    { method: 'fourierft', n: 300, parameters: 7200, published: null },
    { method: 'fourierft', n: 1000, parameters: 24000, published: { parameters: '24K' } },
  ])
})

test('counts other layers', async () => {
  const file = await shapesFile('{"a": [3072, 768], "b": [8, 9]}')
  const { status, stdout } = await capturedRun(
    'params',
    '--shapes',
    file,
    '--n',
    '50',
    '--rank',
    '2',
    '--json',
  )
  expect(status).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject([
    { method: 'lora', layers: 2, parameters: 2 * (3072 + 768 + 8 + 9) },
    { method: 'fourierft', layers: 2, parameters: 100, bytes: 400 },
  ])
})

test('rejects an n that is larger than the spectrum of a layer', async () => {
  const file = await shapesFile('{"b": [8, 9]}')
  const { status, stderr } = await capturedRun('params', '--shapes', file, '--n', '73')
  expect(status).toBe(2)
  expect(stderr).toMatch(/^fourierft: INVALID_ENTRY_COUNT: [^\n]+\n$/)
})

test.each([
  ['--preset', 'bert'],
  ['--rank', '0'],
  ['--preset', 'vit-base', '--shapes', 'shapes.json', '--n', '1'],
])('rejects the arguments %s %s', async (...args) => {
  const { status, stdout, stderr } = await capturedRun('params', ...args)
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
  expect(stderr).toMatch(/^fourierft: (USAGE|INVALID_OPTION): [^\n]+\n$/)
})

test('rejects --shapes without --n or --rank', async () => {
  const { status, stderr } = await capturedRun('params', '--shapes', await shapesFile('{}'))
  expect(status).toBe(2)
  expect(stderr).toContain('--n COUNT')
})

test.each([
  ['[1, 2]', 'INVALID_OPTION'],
  ['{"a": [1, 2, 3]}', 'INVALID_OPTION'],
  ['{"a": [1, 0]}', 'INVALID_OPTION'],
  ['{"a": [1, "2"]}', 'INVALID_OPTION'],
  ['{"a": [1, 2]', 'INVALID_JSON'],
  ['{"__proto__": [1, 2]}', 'INVALID_JSON'],
])('fails and names the file of shapes if it contains %s', async (content, code) => {
  const file = await shapesFile(content)
  const { status, stdout, stderr } = await capturedRun('params', '--shapes', file, '--n', '1')
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(new RegExp(`^fourierft: ${code}: [^\n]*shapes\\.json[^\n]*\n$`))
})

test('fails if the file of shapes is missing', async () => {
  const { status, stderr } = await capturedRun('params', '--shapes', join(directory, 'none.json'), '--n', '1')
  expect(status).toBe(1)
  expect(stderr).toMatch(/^fourierft: FILE_NOT_FOUND: [^\n]*none\.json[^\n]*\n$/)
})
