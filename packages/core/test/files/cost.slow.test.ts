/**
 * The cost of reading any file: at most twelve times its size in memory (for files below 10 MB: as much as for 10 MB), and work in proportion
 * to its size. Memory is the peak of a child process, minus that of a process that reads a tiny adapter. Work is counted in steps, which do
 * not depend on the machine, and compared with a file of a quarter of the size.
 */
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { bundleCore } from './bundle-core.js'

const SIZE = 10 * 2 ** 20
const MAX_FACTOR = 12

const CONFIG = { peft_type: 'FOURIERFT', n_frequency: 2, target_modules: 'all-linear' }
const TENSOR = 'base_model.model.a.q.fourierft_spectrum'

interface Files {
  readonly config: string | Buffer
  readonly model: Buffer
}

function safetensors(header: string, dataLength: number): Buffer {
  const text = Buffer.from(header)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  return Buffer.concat([length, text, Buffer.alloc(dataLength)])
}

/** Members with `size` characters in total. */
function members(size: number, member: (i: number) => string): string {
  const list: string[] = []
  for (let length = 0; length < size; length += 1 + (list.at(-1) as string).length)
    list.push(member(list.length))
  return list.join()
}

const description = (dtype: string, n: number, begin: number, end: number) =>
  `{"dtype":"${dtype}","shape":[${n}],"data_offsets":[${begin},${end}]}`
const one = (name = TENSOR) => safetensors(`{"${name}":${description('F32', 2, 0, 8)}}`, 8)
const withMetadata = (metadata: Record<string, string>) =>
  safetensors(`{"__metadata__":${JSON.stringify(metadata)},"${TENSOR}":${description('F32', 2, 0, 8)}}`, 8)
const additions = (layers: string, entries = '{}') =>
  withMetadata({ 'fourierft.version': '1', 'fourierft.layers': layers, 'fourierft.entries': entries })
const id = (i: number) => i.toString(36).padStart(4, '0')
const config = JSON.stringify(CONFIG)
/** The limit of the reader. */
const MAX_TENSORS = 32_768

function manyModules(size: number, before = ''): Buffer {
  const count = Math.floor((MAX_TENSORS * size) / SIZE)
  const name = 'n'.repeat(Math.floor(SIZE / MAX_TENSORS) - 90 - before.length)
  const each = Array.from(
    { length: count },
    (_, i) => `"${name}${before}${id(i)}.fourierft_spectrum":${description('F16', 2, 4 * i, 4 * i + 4)}`,
  )
  return safetensors(`{${each.join()}}`, 4 * count)
}

const cases: Record<string, (size: number) => Files> = {
  'a real adapter': (size) => ({
    config,
    model: safetensors(
      `{"${TENSOR}":${description('F32', 2, 0, 8)},"b.weight":${description('F32', size / 4, 8, 8 + size)}}`,
      8 + size,
    ),
  }),
  'many modules': (size) => ({ config, model: manyModules(size) }),
  'many modules by a pattern': (size) => ({
    config: JSON.stringify({ ...CONFIG, target_modules: 'n*[^n]+' }),
    model: manyModules(size),
  }),
  'many modules with their shapes': (size) => {
    const names = Array.from(
      { length: Math.floor(((MAX_TENSORS - 1) * size) / SIZE) },
      (_, i) => 'n'.repeat(70) + id(i),
    )
    const layers = Object.fromEntries(names.map((name) => [name, { shape: [2, 2], entries: 's' }]))
    const entries = { s: { sampler: 'uniform', seed: 777, n: 2, sha256: '0'.repeat(64) } }
    const metadata = {
      'fourierft.version': '1',
      'fourierft.layers': JSON.stringify(layers),
      'fourierft.entries': JSON.stringify(entries),
    }
    const each = names.map(
      (name, i) => `"${name}.fourierft_spectrum":${description('F16', 2, 4 * i, 4 * i + 4)}`,
    )
    return {
      config,
      model: safetensors(`{"__metadata__":${JSON.stringify(metadata)},${each.join()}}`, 4 * names.length),
    }
  },
  'many modules that are not adapted': (size) => ({
    config: JSON.stringify({ ...CONFIG, target_modules: [id(0)] }),
    model: manyModules(size, 'n.'),
  }),
  'many modules with names outside ASCII': (size) => {
    const count = Math.floor((MAX_TENSORS * size) / SIZE)
    const name = 'é'.repeat(Math.floor(SIZE / MAX_TENSORS / 2) - 45)
    const each = Array.from(
      { length: count },
      (_, i) => `"Ā${name}${id(i)}.fourierft_spectrum":${description('F16', 2, 4 * i, 4 * i + 4)}`,
    )
    return { config, model: safetensors(`{${each.join()}}`, 4 * count) }
  },
  'more tensors than the limit': (size) => ({
    config,
    model: safetensors(`{${members(size, (i) => `"${id(i)}":${description('U8', 0, 0, 0)}`)}}`, 0),
  }),
  'metadata with invalid members': (size) => ({
    config,
    model: additions(`{${members(size * 0.7, (i) => `"${id(i)}":{}`)}}`),
  }),
  'metadata with as many layers as the limit': (size) => {
    const count = Math.floor((MAX_TENSORS * size) / SIZE) - 1
    const layer = `{"shape":[1,1],"entries":"${'e'.repeat(Math.floor(SIZE / MAX_TENSORS) - 60)}"}`
    return {
      config,
      model: additions(`{${Array.from({ length: count }, (_, i) => `"${id(i)}":${layer}`).join()}}`),
    }
  },
  'metadata of many keys': (size) => ({
    config,
    model: withMetadata(
      Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [id(i), 'x'.repeat(size / 10_000 - 10)])),
    ),
  }),
  'a tensor with many axes': (size) => ({
    config,
    model: safetensors(`{"a":{"dtype":"U8","shape":[${'[],'.repeat(size / 3)}[]]}}`, 0),
  }),
  'a long name': (size) => ({ config, model: one(`${'m.'.repeat(size / 2)}.fourierft_spectrum`) }),
  'a long name in an error': (size) => ({ config, model: one('m'.repeat(size)) }),
  'a header of brackets': (size) => ({ config, model: safetensors(`{"a":${'['.repeat(size)}`, 0) }),
  'a header of escapes': (size) => ({
    config,
    model: one(`${'\\u0061'.repeat(size / 6)}.fourierft_spectrum`),
  }),
  'a configuration of a few long values': (size) => ({
    config: JSON.stringify({ ...CONFIG, x: 'x'.repeat((size * 4) / 10 - 1000) }),
    model: one(),
  }),
  'a seed of millions of digits': (size) => ({
    config: config.replace('{', `{"random_loc_seed":${'9'.repeat((size * 4) / 10 - 1000)},`),
    model: one(),
  }),
  'a long list of target modules': (size) => ({
    config: JSON.stringify({
      ...CONFIG,
      target_modules: [
        'q',
        ...Array.from({ length: 18_000 }, (_, i) => id(i) + 'q'.repeat((size * 4) / 10 / 18_000 - 15)),
      ],
    }),
    model: one(),
  }),
  'names as patterns': (size) => ({
    config: JSON.stringify({
      ...CONFIG,
      n_frequency_pattern: Object.fromEntries(
        Array.from({ length: 18_000 }, (_, i) => [id(i) + 'q'.repeat((size * 4) / 10 / 18_000 - 20), 3]),
      ),
    }),
    model: one(),
  }),
}

/** Cases that load. The others are rejected, as late as possible. */
const LOADED = new Set([
  'a real adapter',
  'many modules',
  'many modules by a pattern',
  'many modules with their shapes',
  'many modules that are not adapted',
  'many modules with names outside ASCII',
  'metadata of many keys',
  'a long name',
  'a header of escapes',
  'a configuration of a few long values',
  'a long list of target modules',
  'names as patterns',
])

/** Program that loads a directory and prints the outcome and the peak memory in bytes. */
const MEMORY_PROGRAM = `
import { readFileSync } from 'node:fs'
const { loadAdapter } = await import(process.argv[2])
// On Linux, maxRSS includes the process before it started this program; VmHWM does not.
function peak() {
  if (process.platform !== 'linux') return 1024 * process.resourceUsage().maxRSS
  return 1024 * Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
}
await loadAdapter(process.argv[3]).catch(() => {})
const outcome = await loadAdapter(process.argv[4]).then((adapter) => 'loaded', (error) => error.code ?? error.message)
console.log(JSON.stringify({ outcome, peak: peak() }))
`

/**
 * Program that loads a directory and prints the outcome and the number of steps: how often each block of the package's code runs, as V8 counts
 * for coverage, and the characters, bytes and elements that built-in functions go through.
 */
const STEPS_PROGRAM = `
import { Session } from 'node:inspector/promises'
import { pathToFileURL } from 'node:url'
const session = new Session()
session.connect()
await session.post('Profiler.enable')
await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })
const { loadAdapter } = await import(process.argv[2])
let builtIn = 0
function count(owner, names, cost) {
  for (const name of names) {
    const method = owner[name]
    owner[name] = function (...args) {
      const result = method.apply(this, args)
      builtIn += cost(this, args, result)
      return result
    }
  }
}
const ofReceiver = (receiver) => receiver.length ?? receiver.size
const ofResult = (_, __, result) => result.length
const { indexOf } = String.prototype
const found = (text, [part, start = 0], position) => (position < 0 ? text.length : position) - start
count(String.prototype, ['includes'], (text, args) => found(text, args, indexOf.apply(text, args)))
count(String.prototype, ['indexOf'], found)
count(String.prototype, ['lastIndexOf', 'match', 'matchAll', 'normalize', 'replace', 'replaceAll', 'search', 'split', 'trim'], ofReceiver)
count(String.prototype, ['concat', 'padEnd', 'padStart', 'repeat', 'slice', 'substring'], ofResult)
count(RegExp.prototype, ['test'], (_, [text]) => text.length)
count(Array.prototype, ['concat', 'includes', 'indexOf', 'join', 'shift', 'slice', 'sort', 'splice', 'unshift'], ofReceiver)
for (const { prototype } of [Map, Set]) count(prototype, ['entries', 'keys', 'values', Symbol.iterator], ofReceiver)
count(Object, ['entries', 'keys', 'values'], ofResult)
const { prototype: typedArray } = Object.getPrototypeOf(Uint8Array)
count(typedArray, ['fill', 'join', 'slice'], ofReceiver)
count(typedArray, ['set'], (_, [source]) => source.length)
count(JSON, ['parse'], (_, [text]) => text.length)
count(JSON, ['stringify'], (_, __, text) => text?.length ?? 0)
count(TextDecoder.prototype, ['decode'], (_, [bytes]) => bytes?.byteLength ?? 0)
count(TextEncoder.prototype, ['encode'], ofResult)

/** Returns the steps since the last call. */
async function steps() {
  const { result } = await session.post('Profiler.takePreciseCoverage')
  const { functions } = result.find(({ url }) => url === pathToFileURL(process.argv[2]).href)
  let sum = builtIn
  for (const { ranges } of functions) for (const range of ranges) sum += range.count >>> 0
  builtIn = 0
  return sum
}
await loadAdapter(process.argv[3])
await steps()
const outcome = await loadAdapter(process.argv[4]).then((adapter) => 'loaded', (error) => error.code ?? error.message)
console.log(JSON.stringify({ outcome, steps: await steps() }))
`

let directory: string
let bundle: string
let tiny: string
/** The peak memory of a process that reads only a tiny adapter. */
let baseline: number
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'fourierft-cost-'))
  const [entry] = await bundleCore('node')
  bundle = join(directory, 'core.mjs')
  writeFileSync(bundle, entry?.code ?? '')
  writeFileSync(join(directory, 'memory.mjs'), MEMORY_PROGRAM)
  writeFileSync(join(directory, 'steps.mjs'), STEPS_PROGRAM)
  tiny = write('tiny', { config, model: one() }).folder
  const { outcome, peak } = await peakOf(tiny)
  expect(outcome).toBe('loaded')
  baseline = peak
})
afterAll(() => rmSync(directory, { recursive: true }))

function write(name: string, files: Files): { folder: string; size: number } {
  const folder = join(directory, name)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'adapter_config.json'), files.config)
  writeFileSync(join(folder, 'adapter_model.safetensors'), files.model)
  return { folder, size: files.model.length + Buffer.byteLength(files.config) }
}

async function peakOf(folder: string): Promise<{ outcome: string; peak: number }> {
  // V8 may delay garbage collection, most of all on a busy machine. With this limit it collects in time.
  const heapLimit = `--max-old-space-size=${(MAX_FACTOR * SIZE) >> 20}`
  const args = [heapLimit, join(directory, 'memory.mjs'), bundle, tiny, folder]
  return JSON.parse((await promisify(execFile)(process.execPath, args)).stdout)
}

async function stepsOf(folder: string): Promise<{ outcome: string; steps: number }> {
  const args = [join(directory, 'steps.mjs'), bundle, tiny, folder]
  return JSON.parse((await promisify(execFile)(process.execPath, args)).stdout)
}

it.each(Object.entries(cases))('%s', async (name, make) => {
  const expected = LOADED.has(name) ? /^loaded$/ : /^[A-Z_]+$/
  const small = write('small', make(SIZE / 4))
  const quarter = await stepsOf(small.folder)
  const large = write('large', make(SIZE))
  const whole = await stepsOf(large.folder)
  const { outcome, peak } = await peakOf(large.folder)
  if (process.env.FOURIERFT_COST)
    console.log(
      name,
      outcome,
      ((peak - baseline) / large.size).toFixed(1),
      large.size >> 20,
      quarter.steps,
      whole.steps,
    )
  expect(outcome).toMatch(expected)
  expect(whole.outcome).toBe(outcome)
  expect(peak - baseline).toBeLessThan(MAX_FACTOR * Math.max(large.size, SIZE))
  // Four times the size is four times the work, or sixteen times if it is quadratic. A file that is rejected early takes almost no work.
  expect(whole.steps).toBeGreaterThan(0)
  expect(whole.steps).toBeLessThan(5 * quarter.steps)
})
