/**
 * Tests that PEFT loads the adapters that this project writes, computes the same ΔW, and rejects adapters that it cannot compute. The tests need
 * the environment variable FOURIERFT_PYTHON with the path of a Python that has PEFT. The tests of recorded adapters need no Python: they write the
 * adapters again, and compare the bytes and ΔW with the recorded ones.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  type Adapter,
  createAdapter,
  createConfig,
  delta,
  type FourierFTConfig,
  type FourierFTOptions,
  type LinearWeights,
  matchModules,
  type Shape,
  savePretrained,
} from '@fourierft/core'
import { afterAll, describe, expect, test } from 'vitest'

const python = process.env.FOURIERFT_PYTHON
const script = fileURLToPath(new URL('python/load_in_peft.py', import.meta.url))
const recording = fileURLToPath(new URL('python/load_in_peft.json', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'fourierft-peft-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const shapes: Record<string, Shape> = {
  'encoder.0.query': [12, 10],
  'encoder.0.value': [12, 10],
  'encoder.1.query': [7, 16],
}

/** Adapters with each kind of configuration that PEFT can reproduce. */
const adapters: Record<string, () => Adapter> = {
  'list of targets': () => fresh({ targetModules: ['query', 'value'], nFrequency: 20 }),
  'regular expression': () =>
    fresh({ targetModules: String.raw`encoder\.\d+\.(query|value)`, nFrequency: 30, randomLocSeed: 5 }),
  'n by pattern': () =>
    fresh({ targetModules: ['query'], nFrequency: 11, nFrequencyPattern: { '1.query': 17 } }),
  'a seed beyond 32 bits': () =>
    fresh({ targetModules: ['value'], nFrequency: 9, randomLocSeed: 2n ** 40n + 3n }),
}

/** Adapters of classifiers, which PEFT does not load without their heads. */
const heads: Record<string, Shape> = { classifier: [3, 12] }
const classifiers: Record<string, () => Adapter> = {
  'a classifier of sequences': () => classifier('SEQ_CLS'),
  'a classifier of tokens': () => classifier('TOKEN_CLS'),
}

function classifier(taskType: string, savedModules = headsOf(heads)): Adapter {
  const config = createConfig({ taskType, targetModules: ['query', 'value'], nFrequency: 6, scaling: 90 })
  return createAdapter(config, adaptedShapes(config), { initialSeed: 3, savedModules })
}

function headsOf(shapes: Record<string, Shape>): Record<string, LinearWeights> {
  const someValues = (length: number) => Float32Array.from({ length }, (_, i) => (i - 7) / 8)
  return Object.fromEntries(
    Object.entries(shapes).map(([module, shape]) => [
      module,
      { shape, weight: someValues(shape[0] * shape[1]), bias: someValues(shape[0]) },
    ]),
  )
}

interface Loaded {
  readonly saved?: Record<string, number[] | number[][]>
  readonly versions?: Record<string, string>
  readonly deltas?: Record<string, number[][]>
  readonly error?: string
}

type Recorded = Loaded & { readonly digest: string }

function fresh(options: FourierFTOptions): Adapter {
  const config = createConfig({ ...options, initWeights: false, scaling: 90 })
  return createAdapter(config, adaptedShapes(config), { initialSeed: 3 })
}

function adaptedShapes(config: FourierFTConfig): Record<string, Shape> {
  const matched = new Set(matchModules(config, Object.keys(shapes)))
  return Object.fromEntries(Object.entries(shapes).filter(([name]) => matched.has(name)))
}

function loadInPeft(directory: string, heads: Record<string, Shape> = {}): Loaded {
  if (python === undefined) throw new Error('FOURIERFT_PYTHON is not set')
  const args = [script, directory, JSON.stringify(shapes), JSON.stringify(heads)]
  return JSON.parse(execFileSync(python, args, { encoding: 'utf8' }))
}

/** Checks that the heads have the saved values. */
function compareHeads({ saved = {} }: Loaded): void {
  const expected = Object.entries(headsOf(heads)).flatMap(([module, { weight, bias = [] }]) => [
    [`${module}.weight`, [...weight]],
    [`${module}.bias`, [...bias]],
  ])
  const flat = Object.entries(saved).map(([name, values]) => [name, values.flat()])
  expect(Object.fromEntries(flat)).toEqual(Object.fromEntries(expected))
}

/** Compares ΔW. PEFT computes in float32, with log2(d1·d2) stages of a few roundings each, so the limit is that of level 3 of the suite. */
function compare(adapter: Adapter, { deltas }: Loaded): void {
  expect(Object.keys(deltas ?? {}).sort()).toEqual([...adapter.modules.keys()].sort())
  for (const layer of adapter.layers()) {
    const expected = delta(layer, new Float64Array(layer.shape[0] * layer.shape[1]))
    const found = (deltas?.[layer.name] ?? []).flat()
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    const error = expected.reduce(
      (most, value, i) => Math.max(most, Math.abs(value - (found[i] ?? Number.NaN))),
      0,
    )
    expect(error).toBeLessThanOrEqual(2e-6 * largest * Math.log2(layer.shape[0] * layer.shape[1]))
  }
}

async function save(name: string, adapter: Adapter): Promise<{ directory: string; digest: string }> {
  const directory = join(folder, name.replaceAll(' ', '-'))
  await savePretrained(adapter, directory)
  const hash = createHash('sha256')
  for (const file of ['adapter_config.json', 'adapter_model.safetensors'])
    hash.update(readFileSync(join(directory, file)))
  return { directory, digest: hash.digest('hex') }
}

describe('recorded adapters that PEFT has loaded', () => {
  const recorded: Record<string, Recorded> = existsSync(recording)
    ? JSON.parse(readFileSync(recording, 'utf8'))
    : {}

  test.each(Object.keys(adapters))('%s: has the same bytes and the same ΔW', async (name) => {
    const adapter = adapters[name]?.()
    const { digest } = await save(`recorded ${name}`, adapter)
    expect(digest).toBe(recorded[name]?.digest)
    compare(adapter, recorded[name] ?? {})
  })

  test.each(Object.keys(classifiers))('%s: has the same bytes and the same head', async (name) => {
    const adapter = classifiers[name]?.()
    const { digest } = await save(`recorded ${name}`, adapter)
    expect(digest).toBe(recorded[name]?.digest)
    compare(adapter, recorded[name] ?? {})
    compareHeads(recorded[name] ?? {})
  })
})

const reason = python === undefined ? ' (skipped: FOURIERFT_PYTHON is not set to a Python with PEFT)' : ''
// Without a time limit, because a busy machine takes minutes to import PEFT.
describe.skipIf(python === undefined)(`PEFT${reason}`, { timeout: 0 }, () => {
  test('loads every adapter, and computes the same ΔW', async () => {
    const found: Record<string, Recorded> = {}
    for (const [name, make] of Object.entries(adapters)) {
      const adapter = make()
      const { directory, digest } = await save(name, adapter)
      const loaded = loadInPeft(directory)
      expect(loaded.error).toBeUndefined()
      compare(adapter, loaded)
      found[name] = { digest, ...loaded }
    }
    for (const [name, make] of Object.entries(classifiers)) {
      const adapter = make()
      const { directory, digest } = await save(name, adapter)
      const loaded = loadInPeft(directory, heads)
      expect(loaded.error).toBeUndefined()
      compare(adapter, loaded)
      compareHeads(loaded)
      found[name] = { digest, ...loaded }
    }
    if (process.env.FOURIERFT_RECORD) writeFileSync(recording, `${JSON.stringify(found)}\n`)
  })

  test('rejects a classifier without its head if the model has one', async () => {
    const { directory } = await save('headless', classifier('SEQ_CLS', {}))
    expect(loadInPeft(directory, heads).error).toMatch(/KeyError.*classifier/)
    expect(loadInPeft(directory).error).toBeUndefined()
  })

  test('rejects band-pass entries, which it cannot sample', async () => {
    const config = createConfig({ targetModules: ['query'], nFrequency: 8 })
    const band = { sampler: 'bandpass', centerFrequency: 3, bandwidth: 200, seed: 1 } as const
    const { directory } = await save(
      'band-pass',
      createAdapter(config, adaptedShapes(config), { entries: band }),
    )
    expect(loadInPeft(directory).error).toMatch(/FOURIERFT_STANDALONE/)
  })
})
