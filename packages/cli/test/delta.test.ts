/** Compares `fourierft delta` with the ΔW that PEFT computed for its adapters. */
import { mkdtemp, readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type FloatArray, readSafetensors } from '@fourierft/core'
import { beforeEach, expect, test } from 'vitest'
import { capturedRun, peftAdapter } from './captured-run.js'
import { floats, type RecordedTensor, recordedAdapters } from './recorded-adapters.js'

let directory: string
let out: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fourierft-'))
  out = join(directory, 'delta.safetensors')
})

async function writtenTensor(): Promise<{ dtype: string; shape: readonly number[]; values: FloatArray }> {
  const { tensors } = readSafetensors(await readFile(out), out)
  expect([...tensors.keys()]).toEqual(['delta'])
  const tensor = tensors.get('delta')
  if (!tensor) throw new Error('no tensor delta')
  const { dtype, shape, bytes } = tensor
  const { buffer } = Uint8Array.from(bytes)
  return { dtype, shape, values: dtype === 'F64' ? new Float64Array(buffer) : new Float32Array(buffer) }
}

function largest(values: FloatArray): number {
  return Float64Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0)
}

function largestDifference(values: FloatArray, recorded: RecordedTensor): number {
  const expected = floats(recorded)
  expect(values).toHaveLength(expected.length)
  return largest(Float64Array.from(values, (value, i) => value - (expected[i] ?? Number.NaN)))
}

// In float32 the limit of the conformance suite, 2e-6 · log2(d1·d2). In float64 the additions are as many, but each rounds by 1.1e-16 instead of
// 6e-8: 2e-6 · 1.1e-16 / 6e-8 < 4e-15.
const LIMIT = { float32: 2e-6, float64: 4e-15 }

for (const adapter of recordedAdapters) {
  const layer = adapter.layers[0]
  if (!layer) throw new Error(`${adapter.name} has no layer`)
  const [d1, d2] = layer.shape
  const common = ['delta', peftAdapter(adapter.name), '--module', layer.name, '--shape', `${d1},${d2}`]

  test(`${adapter.name}: writes float32 by default, as PEFT does`, async () => {
    expect(await capturedRun(...common, '--out', out)).toEqual({ status: 0, stdout: '', stderr: '' })
    const { dtype, shape, values } = await writtenTensor()
    expect({ dtype, shape }).toEqual({ dtype: 'F32', shape: layer.shape })
    const limit = LIMIT.float32 * Math.log2(d1 * d2) * largest(floats(layer.float64))
    expect(largestDifference(values, layer.float64)).toBeLessThanOrEqual(limit)
    expect(await readdir(directory)).toEqual(['delta.safetensors'])
  })

  test(`${adapter.name}: computes float64 in float64`, async () => {
    expect(await capturedRun(...common, '--out', out, '--dtype', 'float64')).toMatchObject({ status: 0 })
    const { dtype, shape, values } = await writtenTensor()
    expect({ dtype, shape }).toEqual({ dtype: 'F64', shape: layer.shape })
    const limit = LIMIT.float64 * Math.log2(d1 * d2) * largest(floats(layer.float64))
    expect(largestDifference(values, layer.float64)).toBeLessThanOrEqual(limit)
  })
}

const ADAPTER = peftAdapter('linear-float32')
const MODULE = 'encoder.layer.0.attention.query'

test.each([
  ['no shape', ['--module', MODULE], 'SHAPE_UNKNOWN'],
  ['an unknown module', ['--module', 'nowhere', '--shape', '20,24'], 'MODULE_NOT_FOUND'],
  ['a shape that is too large', ['--module', MODULE, '--shape', '65536,65536'], 'TOO_LARGE'],
  [
    'a shape with fewer positions than entries',
    ['--module', MODULE, '--shape', '5,5'],
    'INVALID_ENTRY_COUNT',
  ],
])('fails in one line and writes nothing: %s', async (_, args, code) => {
  const { status, stdout, stderr } = await capturedRun('delta', ADAPTER, ...args, '--out', out)
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(new RegExp(`^fourierft: ${code}: [^\n]+\n$`))
  expect(await readdir(directory)).toEqual([])
})

test('names the option for a missing shape in its advice', async () => {
  const { stderr } = await capturedRun('delta', ADAPTER, '--module', MODULE, '--out', out)
  expect(stderr).toMatch(/^fourierft: SHAPE_UNKNOWN: module encoder[^\n]+ with --shape OUT,IN\n$/)
})

test('fails if the directory contains no adapter', async () => {
  const { status, stderr } = await capturedRun('delta', directory, '--module', MODULE, '--out', out)
  expect(status).toBe(1)
  expect(stderr).toMatch(/^fourierft: FILE_NOT_FOUND: [^\n]*adapter_config\.json[^\n]*\n$/)
})

test('fails if the result cannot be written, and leaves no files', async () => {
  const args = ['--module', MODULE, '--shape', '20,24', '--out', join(directory, 'none', 'delta.safetensors')]
  const { status, stderr } = await capturedRun('delta', ADAPTER, ...args)
  expect(status).toBe(1)
  expect(stderr).toMatch(/^fourierft: IO_ERROR: [^\n]+\n$/)
  expect(await readdir(directory)).toEqual([])
})

test.each([['--dtype', 'float16'], ['--shape', '20x24'], ['--module']])(
  'rejects the arguments %s %s',
  async (...args) => {
    const { status, stderr } = await capturedRun('delta', ADAPTER, '--out', out, '--module', MODULE, ...args)
    expect(status).toBe(2)
    expect(stderr).toMatch(/^fourierft: USAGE: [^\n]+\n$/)
  },
)
