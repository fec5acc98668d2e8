/** `fourierft inspect`. */
import { cp, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { capturedRun, peftAdapter } from './captured-run.js'

test('as JSON: the configuration and the modules', async () => {
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

test('as text: one line for each module', async () => {
  const { status, stdout } = await capturedRun('inspect', peftAdapter('modules-to-save'))
  expect(status).toBe(0)
  expect(stdout).toMatch(/^form +PEFT's: the base model gives the shapes$/m)
  expect(stdout).toMatch(/^parameters +48$/m)
  expect(stdout).toMatch(/^saved tensors +.*classifier/m)
  expect(stdout).toMatch(/^encoder\.layer\.2\.attention\.value +16 +F32 +unknown +uniform +\d/m)
})

test('the norm is that of the coefficients', async () => {
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
])('a damaged %s is a failure in one line that names the file', async (file, content, code) => {
  const directory = await mkdtemp(join(tmpdir(), 'fourierft-'))
  await cp(peftAdapter('some-layers'), directory, { recursive: true })
  await writeFile(join(directory, file), content)
  const { status, stdout, stderr } = await capturedRun('inspect', directory)
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(new RegExp(`^fourierft: ${code}: [^\n]*${file}[^\n]*\n$`))
})

test('a directory that is not there is never looked up anywhere else', async () => {
  const { status, stderr } = await capturedRun('inspect', 'someone/adapter')
  expect(status).toBe(1)
  expect(stderr).toMatch(/^fourierft: FILE_NOT_FOUND: [^\n]*someone\/adapter[^\n]*\n$/)
})
