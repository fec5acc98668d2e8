/** Tests `fourierft inspect`. */
import { cp, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { textTable } from '../src/text-table.js'
import { capturedRun, peftAdapter } from './captured-run.js'

test('prints the configuration and the modules as JSON', async () => {
  const { status, stdout, stderr } = await capturedRun('inspect', peftAdapter('linear-bfloat16'), '--json')
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const description = JSON.parse(stdout)
  expect(description).toMatchObject({
    peftType: 'FOURIERFT',
    standalone: false,
    nFrequency: 30,
    scaling: 150,
    randomLocSeed: 777,
    targetModules: ['query', 'value'],
    parameters: 180,
    savedTensors: [],
  })
  expect(description.modules).toHaveLength(6)
  expect(description.modules[0]).toMatchObject({
    name: 'encoder.layer.0.attention.query',
    n: 30,
    dtype: 'BF16',
    shape: null,
    entries: { sampler: 'uniform', seed: 777, n: 30 },
  })
})

test('prints one line for each module', async () => {
  const { status, stdout } = await capturedRun('inspect', peftAdapter('modules-to-save'))
  expect(status).toBe(0)
  expect(stdout).toMatch(/^format +PEFT, without the shapes of its layers$/m)
  expect(stdout).toMatch(/^parameters +48$/m)
  expect(stdout).toMatch(/^saved tensors +.*classifier/m)
  expect(stdout).toMatch(/^encoder\.layer\.2\.attention\.value +16 +F32 +unknown +uniform +\d/m)
})

test('prints the norm of the coefficients', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fourierft-'))
  await cp(peftAdapter('some-layers'), directory, { recursive: true })
  const { stdout } = await capturedRun('inspect', directory, '--json')
  const bytes = await readFile(join(directory, 'adapter_model.safetensors'))
  const header = JSON.parse(bytes.subarray(8, 8 + bytes.readUInt32LE(0)).toString())
  for (const { name, norm } of JSON.parse(stdout).modules) {
    const [begin, end] = header[`base_model.model.${name}.fourierft_spectrum`].data_offsets
    const data = bytes.subarray(8 + bytes.readUInt32LE(0))
    let sum = 0
    for (let offset = begin; offset < end; offset += 4) sum += data.readFloatLE(offset) ** 2
    expect(norm).toBe(Math.sqrt(sum))
  }
})

test.each([
  ['adapter_config.json', '{"peft_type": "LORA"}', 'UNSUPPORTED_PEFT_TYPE'],
  ['adapter_config.json', '{"peft_type": "FOURIERFT", "n_frequency": 0}', 'INVALID_CONFIG'],
  ['adapter_config.json', '{', 'INVALID_JSON'],
  ['adapter_model.safetensors', 'no safetensors at all', 'INVALID_SAFETENSORS'],
])('fails in one line that names the file, if %s is damaged', async (file, content, code) => {
  const directory = await mkdtemp(join(tmpdir(), 'fourierft-'))
  await cp(peftAdapter('some-layers'), directory, { recursive: true })
  await writeFile(join(directory, file), content)
  const { status, stdout, stderr } = await capturedRun('inspect', directory)
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(new RegExp(`^fourierft: ${code}: [^\n]*${file}[^\n]*\n$`))
})

test('does not look for a missing directory on the hub', async () => {
  const { status, stderr } = await capturedRun('inspect', 'someone/adapter')
  expect(status).toBe(1)
  expect(stderr).toMatch(/^fourierft: FILE_NOT_FOUND: [^\n]*someone\/adapter[^\n]*\n$/)
})

test('suggests the subfolder if PEFT saved the adapter under a name', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fourierft-'))
  await cp(peftAdapter('some-layers'), join(directory, 'german'), { recursive: true })
  const { status, stderr } = await capturedRun('inspect', directory)
  expect(status).toBe(1)
  expect(stderr).toContain("'german'")
  expect(stderr.endsWith(`give ${join(directory, 'german')}\n`)).toBe(true)
})

test('rejects an empty string as a directory', async () => {
  for (const args of [
    ['inspect', ''],
    ['convert', '', 'out'],
    ['convert', peftAdapter('some-layers'), ''],
  ]) {
    const { status, stderr } = await capturedRun(...args)
    expect([status, stderr]).toEqual([2, expect.stringContaining('received an empty string')])
  }
})

test('lists unused tensors, and reports them on standard error', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fourierft-'))
  await cp(peftAdapter('some-layers'), directory, { recursive: true })
  const file = join(directory, 'adapter_config.json')
  const config = JSON.parse(await readFile(file, 'utf8'))
  await writeFile(file, JSON.stringify({ ...config, exclude_modules: ['query'] }))
  const { status, stdout, stderr } = await capturedRun('inspect', directory, '--json')
  expect(status).toBe(0)
  const { modules, ignoredTensors } = JSON.parse(stdout)
  expect(ignoredTensors.length).toBeGreaterThan(0)
  expect(ignoredTensors.every((name: string) => name.includes('query'))).toBe(true)
  expect(modules.some(({ name }: { name: string }) => name.includes('query'))).toBe(false)
  const text = await capturedRun('inspect', directory)
  expect(text.stdout).toContain(`ignored tensors ${ignoredTensors.join(', ')}\n`)
  expect(stderr).toMatch(/^fourierft: WARNING: [^\n]*adapter_model\.safetensors: ignored[^\n]*query[^\n]*\n$/)
})

const CONTROLS = '\u001b]0;title\u0007\u009b2J\r\n\u007f\u202e'
const ESCAPED = String.raw`\u001b]0;title\u0007\u009b2J\u000d\u000a\u007f\u202e`

async function adapterOfModel(baseModel: string, peftType: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'fourierft-'))
  await cp(peftAdapter('some-layers'), directory, { recursive: true })
  const file = join(directory, 'adapter_config.json')
  const config = JSON.parse(await readFile(file, 'utf8'))
  await writeFile(
    file,
    JSON.stringify({ ...config, base_model_name_or_path: baseModel, peft_type: peftType }),
  )
  return directory
}

test('escapes control characters of a file, and keeps the value in JSON', async () => {
  const directory = await adapterOfModel(CONTROLS, 'FOURIERFT')
  const { stdout } = await capturedRun('inspect', directory)
  expect(stdout).toContain(`base model      ${ESCAPED}\n`)
  expect(stdout.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u)
  const json = await capturedRun('inspect', directory, '--json')
  expect(json.stdout.trimEnd()).not.toMatch(/\p{Cc}/u)
  expect(JSON.parse(json.stdout).baseModel).toBe(CONTROLS)
})

test('escapes control characters in errors', async () => {
  const directory = await adapterOfModel('', '\u001b[2JLORA\u009b')
  const { status, stderr } = await capturedRun('inspect', directory)
  expect(status).toBe(1)
  expect(stderr).toContain('LORA')
  expect(stderr.trimEnd()).not.toMatch(/\p{Cc}/u)
})

test('escapes control characters in the cells of tables', () => {
  expect(textTable(['module'], [['a\u001b[1Ab\nc']])).toBe(`module\n${String.raw`a\u001b[1Ab\u000ac`}\n`)
})
