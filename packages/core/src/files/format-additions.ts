/**
 * This project's additions to a PEFT file, which make it stand-alone: the shape of each layer and how its entries are made, in the metadata
 * of the safetensors header. This file converts between text and values; `read-adapter.ts` checks them against the tensors.
 */
import * as v from 'valibot'
import { jsonMembers, parseJson } from '../adapter/json.js'
import type { EntriesRecipe, Shape } from '../entries/entries.js'
import { FourierFTError } from '../errors.js'
import { MAX_TENSORS } from './safetensors.js'

export interface FormatAdditions {
  readonly layers: ReadonlyMap<string, LayerAddition>
  readonly sets: ReadonlyMap<string, EntrySet>
}

export interface LayerAddition {
  readonly shape: Shape
  /** Name of the layer's entry set. */
  readonly entries: string
}

export interface EntrySet {
  readonly recipe: EntriesRecipe
  readonly n: number
  /** SHA-256 of the entries, hexadecimal: see `entriesDigest`. */
  readonly digest: string
}

const VERSION = '1'
const VERSION_KEY = 'fourierft.version'
const LAYERS_KEY = 'fourierft.layers'
const ENTRIES_KEY = 'fourierft.entries'

/** Most JSON values in the description of a layer or an entry set. */
const MAX_MEMBER_VALUES = 100

const Size = v.pipe(v.number(), v.safeInteger(), v.minValue(1))
/** A seed beyond the safe integers is a string of digits. */
const Seed = v.union([
  v.pipe(v.number(), v.safeInteger()),
  v.pipe(
    v.string(),
    v.regex(/^-?\d{1,20}$/),
    v.transform((digits) => BigInt(digits)),
    v.check((seed) => seed >= -(2n ** 63n) && seed < 2n ** 64n),
  ),
])
/** JSON has no infinity. `JSON.parse` reads 1e999 as infinity, and `JSON.stringify` would write it back as null. */
const Finite = v.pipe(v.number(), v.finite('expected a finite number'))
const Digest = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/))
const Layer = v.object({
  shape: v.pipe(
    v.tuple([Size, Size]),
    v.check(([d1, d2]) => d1 * d2 <= 2 ** 32),
  ),
  entries: v.string(),
})
const Uniform = v.object({
  sampler: v.literal('uniform'),
  seed: Seed,
  n: Size,
  algorithm: v.exactOptional(v.literal('legacy')),
  sha256: Digest,
})
const BandPass = v.object({
  sampler: v.literal('bandpass'),
  seed: Seed,
  n: Size,
  center_frequency: Finite,
  bandwidth: Finite,
  sha256: Digest,
})
const Explicit = v.object({ sampler: v.literal('explicit'), n: Size, sha256: Digest })
const StoredSet = v.variant('sampler', [Uniform, BandPass, Explicit])

type StoredRecipe =
  | Omit<v.InferOutput<typeof Uniform>, 'sha256'>
  | Omit<v.InferOutput<typeof BandPass>, 'sha256'>
  | Omit<v.InferOutput<typeof Explicit>, 'sha256'>

/**
 * Reads the additions from the metadata.
 *
 * @returns undefined for a file without additions, such as PEFT's own
 * @throws {FourierFTError} `UNSUPPORTED_FORMAT_VERSION`, `INVALID_JSON`, or `INVALID_SAFETENSORS` if a value does not fit its schema
 */
export function parseAdditions(
  metadata: Readonly<Record<string, string>>,
  file: string,
): FormatAdditions | undefined {
  const version = metadata[VERSION_KEY]
  if (version === undefined) return undefined
  if (version !== VERSION) {
    throw new FourierFTError(
      'UNSUPPORTED_FORMAT_VERSION',
      `${file}: ${VERSION_KEY} is ${JSON.stringify(version.slice(0, 40))}, but this release reads ${VERSION}`,
      { advice: 'update this package to read the file', file, expected: VERSION, received: version },
    )
  }
  const layers = new Map(parseMembers(metadata, LAYERS_KEY, Layer, file))
  const sets = new Map<string, EntrySet>()
  for (const [name, { sha256: digest, ...set }] of parseMembers(metadata, ENTRIES_KEY, StoredSet, file)) {
    sets.set(name, { recipe: toRecipe(set), n: set.n, digest })
  }
  return { layers, sets }
}

/** Returns the metadata for the additions. Layers are sorted, so the text does not depend on the order of the modules. */
export function formatAdditions({ layers, sets }: FormatAdditions): Record<string, string> {
  const sorted = [...layers].sort(([a], [b]) => (a < b ? -1 : 1))
  const entries = [...sets].map(([name, { recipe, n, digest }]) => [
    name,
    { ...fromRecipe(recipe, n), sha256: digest },
  ])
  return {
    [VERSION_KEY]: VERSION,
    [LAYERS_KEY]: JSON.stringify(Object.fromEntries(sorted)),
    [ENTRIES_KEY]: JSON.stringify(Object.fromEntries(entries)),
  }
}

function toRecipe(set: StoredRecipe): EntriesRecipe {
  switch (set.sampler) {
    case 'uniform':
      return set
    case 'bandpass': {
      const { center_frequency: centerFrequency, ...others } = set
      return { ...others, centerFrequency }
    }
    case 'explicit':
      return { sampler: 'explicit' }
  }
}

function fromRecipe(recipe: EntriesRecipe, n: number): Record<string, unknown> {
  switch (recipe.sampler) {
    case 'uniform':
      return { ...recipe, seed: formatSeed(recipe.seed) }
    case 'bandpass': {
      const { centerFrequency, bandwidth, seed } = recipe
      return { sampler: 'bandpass', seed: formatSeed(seed), n, center_frequency: centerFrequency, bandwidth }
    }
    case 'explicit':
      return { sampler: 'explicit', n }
  }
}

function formatSeed(seed: number | bigint): number | string {
  const number = Number(seed)
  return Number.isSafeInteger(number) ? number : String(seed)
}

/**
 * Yields the members of the object under a key of the metadata. Each member is checked before the next one is read, because an untrusted
 * file may have millions of them.
 */
function* parseMembers<S extends v.GenericSchema>(
  metadata: Readonly<Record<string, string>>,
  key: string,
  schema: S,
  file: string,
): Generator<readonly [name: string, value: v.InferOutput<S>], void> {
  const invalid = (path: string, { message, expected, received }: v.BaseIssue<unknown>) =>
    new FourierFTError('INVALID_SAFETENSORS', `${file}: ${key} of the metadata: ${path}: ${message}`, {
      file,
      tensor: '__metadata__',
      expected,
      received,
    })
  const text = v.safeParse(
    v.pipe(v.string(), v.trim(), v.startsWith('{', 'expected a JSON object')),
    metadata[key],
  )
  if (!text.success) throw invalid('', text.issues[0])
  const where = `${file}: ${key}`
  for (const [name, literal] of jsonMembers(text.output, where, { maxValues: MAX_TENSORS })) {
    const member = v.safeParse(schema, parseJson(literal, where, { maxValues: MAX_MEMBER_VALUES }), {
      abortEarly: true,
    })
    if (!member.success) {
      const [issue] = member.issues
      throw invalid([name, v.getDotPath(issue) ?? []].flat().join('.'), issue)
    }
    yield [name, member.output]
  }
}
