/**
 * Damaged adapters: each mutant of a real adapter either loads as a valid adapter or is rejected with a typed error, without hanging or
 * taking much memory. `FOURIERFT_MUTANTS` sets their number, `FOURIERFT_MUTANT_SEED` the first seed; a failure names the seed of its mutant.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { liveBytes, recordLargestBuffer } from '../../../../test/memory.js'
import { MersenneTwister } from '../../src/entries/mersenne-twister.js'
import {
  type Adapter,
  type AdapterBytes,
  createAdapter,
  createConfig,
  decodeFloats,
  explicitEntries,
  FourierFTError,
  loadAdapter,
} from '../../src/index.js'

const MUTANTS = Number(process.env.FOURIERFT_MUTANTS ?? 5000)
/** The time depends on the number of mutants. */
const NO_LIMIT = 0
const FIRST_SEED = Number(process.env.FOURIERFT_MUTANT_SEED ?? 1)
/** In bytes: much more than a mutant of these small files needs, and much less than a false size in a header asks for. */
const MAX_BUFFER = 2 ** 20
/** In bytes, for the second half of the mutants: less than it would be if each adapter that loads stayed in memory. */
const MAX_GROWTH = 2 ** 19

/** Numbers at the limits of arithmetic. */
const NUMBERS =
  '-1 0 1 2 7 8 255 256 65536 2147483647 2147483648 4294967295 4294967296 9007199254740991 9007199254740993 18446744073709551615 1e308 1e999 0.5 -0 99999999999999999999999999999999999999999999 -170141183460469231731687303715884105728 null true "7" [] {}'.split(
    ' ',
  )
const WORDS = [
  '__proto__',
  'constructor',
  'toString',
  'FOURIERFT',
  'LORA',
  'U32',
  'F64',
  'F4',
  'bandpass',
  'uniform',
  'legacy',
  '(a+)+$',
  '\\\\1',
  '(?=.*(?=.*(?=.*q)))',
  '(?!(?:.*y)+$)',
  '(?=(?=(?!x)*)+)',
]
const SHAPES = {
  'layers.0.query': [16, 12],
  'layers.0.value': [8, 12],
  'layers.1.query': [16, 12],
  'layers.1.value': [8, 12],
  dense: [10, 6],
} as const

async function corpus(): Promise<AdapterBytes[]> {
  const root = fileURLToPath(new URL('__fixtures__/peft/', import.meta.url))
  const read = (path: string) => new Uint8Array(readFileSync(root + path))
  const peft = readdirSync(root).map((name) => ({
    config: read(`${name}/adapter_config.json`),
    model: read(`${name}/adapter_model.safetensors`),
  }))
  const config = createConfig({
    nFrequency: 6,
    nFrequencyPattern: { '(?!.*query)(?=.*v)1.*': 4, '(?=1.value)1(?=.)[.]va(?!x)lue': 4 },
    targetModules: ['query', 'value'],
  })
  const { dense: _, ...shapes } = SHAPES
  const uniform = createAdapter(config, shapes)
  const banded = createAdapter(config, shapes, {
    entries: { sampler: 'bandpass', seed: 3, centerFrequency: 2, bandwidth: 200 },
  })
  const explicit = createAdapter(config, shapes, {
    entries: (shape, n) =>
      explicitEntries({
        shape,
        rows: [0, 1, 2, 3, 4, 5].slice(0, n),
        columns: [5, 4, 3, 2, 1, 0].slice(0, n),
      }),
  })
  const whole = await loadAdapter(peft[readdirSync(root).indexOf('whole-modules')] as AdapterBytes, {
    shapes,
  })
  return [
    ...peft,
    uniform.toBytes(),
    uniform.toBytes({ form: 'standalone', dtype: 'F16' }),
    banded.toBytes(),
    banded.toBytes({ dtype: 'F64' }),
    explicit.toBytes({ dtype: 'BF16' }),
    whole.toBytes({ form: 'standalone' }),
  ]
}

type Random = (below: number) => number

function mutate(files: readonly AdapterBytes[], random: Random): AdapterBytes {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)]
  let { config, model } = pick(files)
  // Files of two adapters, which usually do not fit together.
  if (random(50) === 0) model = pick(files).model
  for (let rounds = 1 + (random(3) === 0 ? random(3) : 0); rounds > 0; rounds--) {
    const what = random(10)
    if (what < 3) config = pick([damageText, damageText, damageBytes])(config, random, pick(files).config)
    else if (what < 5 && random(3) === 0) model = damageMetadata(model, random)
    else if (what < 5) model = damageBytes(model, random, pick(files).model)
    else model = damageHeader(model, random, pick(files).model)
  }
  return { config, model }
}

/** Changes bits and bytes, cuts, inserts and splices, at any position. */
function damageBytes(bytes: Uint8Array, random: Random, other: Uint8Array): Uint8Array {
  const at = random(bytes.length + 1)
  switch (random(7)) {
    case 0:
      return bytes.map((byte, i) => (i === at ? byte ^ (1 << random(8)) : byte))
    case 1:
      return bytes.map((byte, i) => (i === at ? (random(2) === 0 ? 255 * random(2) : random(256)) : byte))
    case 2:
      return bytes.slice(0, at)
    case 3:
      return join(bytes.slice(0, at), bytes.slice(at + 1 + random(8)))
    case 4:
      return join(
        bytes.slice(0, at),
        Uint8Array.from({ length: 1 + random(16) }, () => random(256)),
        bytes.slice(at),
      )
    case 5: {
      const from = random(other.length)
      return join(bytes.slice(0, at), other.slice(from, from + random(64)), bytes.slice(at))
    }
    default: {
      // A word of all ones, which is NaN in a coefficient.
      const word = at - (at % 4)
      return bytes.map((byte, i) => (i >= word && i < word + 4 ? 255 : byte))
    }
  }
}

/** Changes numbers, words, and pieces between quotes or commas, so that most mutants are still JSON. */
function damageText(bytes: Uint8Array, random: Random, other: Uint8Array): Uint8Array {
  const text = new TextDecoder('latin1').decode(bytes)
  const edit = (pattern: RegExp, change: (found: string) => string): string => {
    const found = [...text.matchAll(pattern)]
    const match = found[random(Math.max(found.length, 1))]
    if (!match) return text
    return text.slice(0, match.index) + change(match[0]) + text.slice(match.index + match[0].length)
  }
  const word = () => WORDS[random(WORDS.length)]
  const number = () => NUMBERS[random(NUMBERS.length)]
  switch (random(8)) {
    case 0:
    case 1:
      return latin1(edit(/-?\d+(\.\d+)?/g, number))
    case 2:
      return latin1(edit(/\d+/g, (digits) => String(Number(digits) + random(9) - 4)))
    case 3:
      return latin1(edit(/"(\\.|[^"\\])*"/g, () => JSON.stringify(word())))
    case 4:
      return latin1(edit(/\w+/g, word))
    case 5:
      return latin1(
        edit(/"(\\.|[^"\\])*":/g, () => `${pickString(new TextDecoder('latin1').decode(other), random)}:`),
      )
    case 6:
      return latin1(edit(/[^{}[\],]+,/g, (member) => (random(2) === 0 ? '' : member + member)))
    default:
      return damageBytes(bytes, random, other)
  }
}

function pickString(text: string, random: Random): string {
  const strings = text.match(/"(\\.|[^"\\])*"/g) ?? ['""']
  return strings[random(strings.length)]
}

/** Damages the header of a safetensors file as text, usually with a corrected length. */
function damageHeader(bytes: Uint8Array, random: Random, other: Uint8Array): Uint8Array {
  const split = headerEnd(bytes)
  if (split === undefined) return damageBytes(bytes, random, other)
  const header = damageText(bytes.slice(8, split), random, other.slice(8, headerEnd(other)))
  const length = new Uint8Array(8)
  new DataView(length.buffer).setUint32(0, random(20) === 0 ? random(2 ** 32) : header.length, true)
  return join(length, header, bytes.slice(split))
}

/** Damages a text in the metadata: the layers, the entries, the version. The header around it stays valid. */
function damageMetadata(bytes: Uint8Array, random: Random): Uint8Array {
  const split = headerEnd(bytes)
  if (split === undefined) return damageBytes(bytes, random, bytes)
  let header: { __metadata__?: Record<string, string> }
  try {
    header = JSON.parse(new TextDecoder().decode(bytes.slice(8, split)))
  } catch {
    // Damaged by an earlier round.
    return damageBytes(bytes, random, bytes)
  }
  const members = Object.entries(header.__metadata__ ?? {})
  const chosen = members[random(Math.max(members.length, 1))]
  if (!chosen) return damageHeader(bytes, random, bytes)
  const text = Buffer.from(damageText(latin1(chosen[1]), random, latin1(chosen[1]))).toString('latin1')
  const metadata = { ...header.__metadata__, [chosen[0]]: text }
  const damaged = new TextEncoder().encode(JSON.stringify({ ...header, __metadata__: metadata }))
  const length = new Uint8Array(8)
  new DataView(length.buffer).setUint32(0, damaged.length, true)
  return join(length, damaged, bytes.slice(split))
}

function headerEnd(bytes: Uint8Array): number | undefined {
  if (bytes.length < 8) return undefined
  const end = 8 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)
  return end <= bytes.length ? end : undefined
}

function join(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}

function latin1(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'latin1'))
}

/** The promises of an adapter that loads. */
function checkValid(adapter: Adapter, files: AdapterBytes): void {
  const again = adapter.toBytes()
  if (Buffer.compare(again.config, files.config) !== 0 || Buffer.compare(again.model, files.model) !== 0) {
    throw new Error('written back, it has other bytes')
  }
  const shapes = Object.fromEntries(
    [...adapter.modules.keys()].map((name) => [
      name,
      Object.hasOwn(SHAPES, name) ? SHAPES[name as keyof typeof SHAPES] : [16, 12],
    ]),
  ) as Record<string, readonly [number, number]>
  for (const { name, shape, dtype, coefficients } of adapter.modules.values()) {
    if (!coefficients.every(Number.isFinite) || coefficients.length === 0)
      throw new Error(`${name}: not finite, ${dtype}`)
    const { entries } = adapter.layer(name, shape ?? shapes[name])
    const positions = new Set<number>()
    for (let l = 0; l < entries.n; l++) {
      const [j, k] = [entries.rows[l], entries.columns[l]]
      if (j >= entries.shape[0] || k >= entries.shape[1])
        throw new Error(`${name}: entry ${l} is out of range`)
      positions.add(j * entries.shape[1] + k)
    }
    if (positions.size !== coefficients.length) throw new Error(`${name}: ${positions.size} entries`)
  }
}

it(
  `loads or rejects ${MUTANTS} mutants`,
  async () => {
    const files = await corpus()
    const outcomes = new Map<string, number>()
    // Makes the tables for 16-bit floats, which stay in memory.
    for (const dtype of ['F16', 'BF16'] as const) decodeFloats({ dtype, bytes: new Uint8Array(2) })
    const largestBuffer = recordLargestBuffer()
    let halfway = 0
    for (let seed = FIRST_SEED; seed < FIRST_SEED + MUTANTS; seed++) {
      const generator = new MersenneTwister(seed)
      const mutant = mutate(files, (below) => generator.nextUint32() % below)
      let outcome = 'valid'
      try {
        checkValid(await loadAdapter(mutant, { onWarning: () => {} }), mutant)
      } catch (error) {
        if (!FourierFTError.isInstance(error)) throw new Error(`seed ${seed}`, { cause: error })
        if (error.message.length > 2000)
          throw new Error(`seed ${seed}: a message of ${error.message.length} characters`)
        outcome = error.code
      }
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
      if (largestBuffer() > MAX_BUFFER) throw new Error(`seed ${seed}: a buffer of ${largestBuffer()} bytes`)
      if (seed === FIRST_SEED + (MUTANTS >> 1)) halfway = liveBytes()
    }
    const growth = liveBytes() - halfway
    expect(growth).toBeLessThan(MAX_GROWTH)
    if (process.env.FOURIERFT_MUTANTS)
      console.log(Object.fromEntries([...outcomes].sort(([, a], [, b]) => b - a)))
    // If all mutants failed for the same reason, they would test only one check.
    if (MUTANTS >= 100_000) {
      const reached = [
        'valid',
        'ENTRIES_DIGEST_MISMATCH',
        'INVALID_CONFIG',
        'INVALID_ENTRY_COUNT',
        'INVALID_JSON',
        'INVALID_SAFETENSORS',
        'NOT_FINITE',
        'SHAPE_MISMATCH',
        'UNSUPPORTED_DTYPE',
        'UNSUPPORTED_FORMAT_VERSION',
        'UNSUPPORTED_PEFT_TYPE',
      ]
      expect(reached.filter((code) => !outcomes.has(code))).toEqual([])
    }
  },
  NO_LIMIT,
)
