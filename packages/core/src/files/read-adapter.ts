/**
 * From the two files of an adapter, in memory, to an `Adapter`: everything that the files say is checked against everything else that
 * they say. Only what costs time, drawing the entries of a seed, is left for the first use.
 */
import { type AdaptedModule, Adapter } from '../adapter/adapter.js'
import { sharedEntries } from '../adapter/adapter-entries.js'
import { type FourierFTConfig, parseConfig, STANDALONE_PEFT_TYPE } from '../adapter/config.js'
import { nFrequencyOf } from '../adapter/module-matcher.js'
import type { AdapterBytes } from '../backend.js'
import { entriesDigest } from '../entries/digest.js'
import type { Entries, Shape } from '../entries/entries.js'
import { explicitEntries } from '../entries/explicit.js'
import { WIDE_DRAWS_FROM } from '../entries/random-permutation.js'
import { FourierFTError } from '../errors.js'
import { CONFIG_FILE, type FileNames, MODEL_FILE } from './adapter-files.js'
import { type EntrySet, type FormatAdditions, parseAdditions } from './format-additions.js'
import { entriesTensor, tensorRole } from './peft-layout.js'
import { decodeFloats, isFloatDtype, readSafetensors, type Tensor } from './safetensors.js'

/** @throws {FourierFTError} each kind of malformed file has its code: see `ErrorCode` */
export function readAdapter(
  source: AdapterBytes,
  names: FileNames = { config: CONFIG_FILE, model: MODEL_FILE },
): Adapter {
  const config = parseConfig(source.config, names.config)
  const { tensors, metadata = {} } = readSafetensors(source.model, names.model)
  const additions = parseAdditions(metadata, names.model)
  if (!additions && config.peftType === STANDALONE_PEFT_TYPE) {
    throw new FourierFTError(
      'INVALID_SAFETENSORS',
      `${names.model}: an adapter of peft_type ${STANDALONE_PEFT_TYPE} carries its shapes and entries, this file has none; ` +
        'was it written by another program?',
      {
        file: names.model,
        tensor: '__metadata__',
        expected: 'fourierft.version, fourierft.layers, fourierft.entries',
      },
    )
  }

  const coefficients = new Map<string, { tensor: Tensor; name: string }>()
  const stored = new Map<string, Tensor>()
  const savedTensors = new Map<string, Tensor>()
  for (const [name, tensor] of tensors) {
    const role = tensorRole(name)
    if (role.role === 'saved') savedTensors.set(name, tensor)
    else if (role.role === 'entries') stored.set(role.set, tensor)
    else if (role.module === '__proto__' || coefficients.has(role.module)) {
      throw mismatch(
        names.model,
        name,
        'one tensor of coefficients for each module',
        `a second one for ${role.module}`,
      )
    } else coefficients.set(role.module, { tensor, name })
  }
  if (coefficients.size === 0) {
    throw new FourierFTError(
      'INVALID_SAFETENSORS',
      `${names.model}: expected tensors named base_model.model.<module>.fourierft_spectrum; there is none`,
      {
        file: names.model,
        expected: 'base_model.model.<module>.fourierft_spectrum',
        received: [...tensors.keys()].slice(0, 5),
      },
    )
  }
  const sets = additions && readEntrySets(additions, stored, config, names.model)
  for (const set of stored.keys()) {
    if (!sets?.has(set)) {
      throw mismatch(names.model, entriesTensor(set), 'entry sets that fourierft.entries names', set)
    }
  }
  for (const module of additions?.layers.keys() ?? []) {
    if (!coefficients.has(module)) {
      throw mismatch(names.model, '__metadata__', 'fourierft.layers of modules with coefficients', module)
    }
  }

  const modules = new Map<string, AdaptedModule>()
  for (const [module, { tensor, name }] of coefficients) {
    const values = readCoefficients(tensor, name, module, config, names.model)
    const addition = additions?.layers.get(module)
    if (!addition) {
      if (additions) throw mismatch(names.model, name, 'a module that fourierft.layers names', module)
      const recipe = {
        sampler: 'uniform',
        seed: config.randomLocSeed,
        n: values.coefficients.length,
      } as const
      modules.set(module, { name: module, ...values, recipe })
      continue
    }
    const set = sets?.get(addition.entries)
    if (set?.n !== values.coefficients.length) {
      throw mismatch(
        names.model,
        name,
        set
          ? `${set.n} coefficients, one for each entry of set ${addition.entries}`
          : 'an entry set that fourierft.entries names',
        set ? values.coefficients.length : addition.entries,
      )
    }
    const { recipe, digest, entries } = set
    const { shape } = addition
    modules.set(module, { name: module, ...values, shape, recipe, digest, ...(entries && { entries }) })
  }
  return new Adapter({ config, modules, savedTensors, metadata, source })
}

function readCoefficients(
  { dtype, shape, bytes }: Tensor,
  tensor: string,
  module: string,
  config: FourierFTConfig,
  file: string,
): Pick<AdaptedModule, 'coefficients' | 'dtype'> {
  if (!isFloatDtype(dtype)) {
    throw new FourierFTError(
      'UNSUPPORTED_DTYPE',
      `${file}: tensor ${tensor}: expected coefficients in F32, F16, BF16 or F64; received ${dtype}`,
      { file, tensor, expected: ['F32', 'F16', 'BF16', 'F64'], received: dtype },
    )
  }
  const n = nFrequencyOf(config, module)
  if (shape.length !== 1 || shape[0] !== n) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `${file}: tensor ${tensor}: the configuration gives its module n_frequency ${n}, so expected shape [${n}]; ` +
        `received [${shape.join(', ')}]; do the two files belong together?`,
      { file, tensor, module, expected: [n], received: shape },
    )
  }
  const coefficients = Float32Array.from(decodeFloats({ dtype, bytes }))
  const broken = coefficients.findIndex((c) => !Number.isFinite(c))
  if (broken >= 0) {
    throw new FourierFTError(
      'NOT_FINITE',
      `${file}: tensor ${tensor}: element ${broken} is ${coefficients[broken]}${dtype === 'F64' ? ' as a float32' : ''}; ` +
        'expected finite numbers (did the training diverge?)',
      { file, tensor, module, received: coefficients[broken] },
    )
  }
  return { coefficients, dtype }
}

/** The sets that layers use, with the entries that the file stores for them. */
function readEntrySets(
  { layers, sets }: FormatAdditions,
  stored: ReadonlyMap<string, Tensor>,
  config: FourierFTConfig,
  file: string,
): Map<string, EntrySet & { entries?: Entries }> {
  const shapes = new Map<string, Shape>()
  for (const [module, { shape, entries }] of layers) {
    const other = shapes.get(entries) ?? shape
    if (other[0] !== shape[0] || other[1] !== shape[1]) {
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `${file}: fourierft.layers: ${module} of shape [${shape.join(', ')}] uses the entry set ${entries} of shape [${other.join(', ')}]`,
        { file, module, tensor: '__metadata__', expected: other, received: shape },
      )
    }
    shapes.set(entries, shape)
  }
  const result = new Map<string, EntrySet & { entries?: Entries }>()
  for (const [name, set] of sets) {
    const shape = shapes.get(name)
    if (!shape) throw mismatch(file, '__metadata__', 'fourierft.entries that a layer uses', name)
    if (set.n > shape[0] * shape[1]) {
      throw new FourierFTError(
        'INVALID_ENTRY_COUNT',
        `${file}: fourierft.entries: set ${name} has ${set.n} entries, a spectrum of shape [${shape.join(', ')}] only ${shape[0] * shape[1]} places`,
        { file, tensor: '__metadata__', expected: `at most ${shape[0] * shape[1]}`, received: set.n },
      )
    }
    const tensor = stored.get(name)
    checkReproducible(name, set, shape, tensor !== undefined, config, file)
    result.set(name, tensor ? { ...set, entries: readEntries(tensor, name, set, shape, file) } : set)
  }
  return result
}

/** Entries that are not stored have to be drawn, in no time worth speaking of; and what PEFT loads has to be what PEFT draws. */
function checkReproducible(
  name: string,
  { recipe }: EntrySet,
  shape: Shape,
  isStored: boolean,
  config: FourierFTConfig,
  file: string,
): void {
  const slow = shape[0] * shape[1] >= WIDE_DRAWS_FROM
  if (!isStored && (recipe.sampler !== 'uniform' || slow)) {
    throw mismatch(
      file,
      entriesTensor(name),
      'the stored entries of a set that no short draw gives',
      'no such tensor',
    )
  }
  if (config.peftType === STANDALONE_PEFT_TYPE) return
  const peft = recipe.sampler === 'uniform' && BigInt(recipe.seed) === BigInt(config.randomLocSeed)
  if (!peft || (recipe.algorithm === 'legacy' && slow)) {
    throw mismatch(
      file,
      '__metadata__',
      `entry sets drawn uniformly with random_loc_seed ${config.randomLocSeed}, for PEFT would load this file with those`,
      `set ${name}: ${recipe.sampler}${recipe.sampler === 'explicit' ? '' : ` with seed ${recipe.seed}`}`,
    )
  }
  if (isStored && !slow) {
    throw mismatch(file, entriesTensor(name), `no stored entries in a file that PEFT draws them for`, name)
  }
}

function readEntries(
  tensor: Tensor,
  set: string,
  { n, digest, recipe }: EntrySet,
  shape: Shape,
  file: string,
): Entries {
  const name = entriesTensor(set)
  if (tensor.dtype !== 'U32') {
    throw new FourierFTError(
      'UNSUPPORTED_DTYPE',
      `${file}: tensor ${name}: expected U32; received ${tensor.dtype}`,
      {
        file,
        tensor: name,
        expected: 'U32',
        received: tensor.dtype,
      },
    )
  }
  if (tensor.shape.length !== 2 || tensor.shape[0] !== 2 || tensor.shape[1] !== n) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `${file}: tensor ${name}: expected shape [2, ${n}]; received [${tensor.shape.join(', ')}]`,
      { file, tensor: name, expected: [2, n], received: tensor.shape },
    )
  }
  const view = new DataView(tensor.bytes.buffer, tensor.bytes.byteOffset, tensor.bytes.byteLength)
  const rows = new Uint32Array(n)
  const columns = new Uint32Array(n)
  for (let l = 0; l < n; l++) {
    rows[l] = view.getUint32(4 * l, true)
    columns[l] = view.getUint32(4 * (n + l), true)
  }
  const found = entriesDigest({ n, rows, columns })
  if (found !== digest) {
    throw new FourierFTError(
      'ENTRIES_DIGEST_MISMATCH',
      `${file}: tensor ${name}: its entries have the digest ${found}, the metadata promises ${digest}; the file is damaged`,
      { file, tensor: name, expected: digest, received: found },
    )
  }
  try {
    return sharedEntries({ ...explicitEntries({ shape, rows, columns }), recipe })
  } catch (error) {
    if (!(error instanceof FourierFTError)) throw error
    throw new FourierFTError(error.code, `${file}: tensor ${name}: ${error.message}`, {
      ...error.details,
      file,
      tensor: name,
    })
  }
}

function mismatch(file: string, tensor: string, expected: string, received: unknown): FourierFTError {
  return new FourierFTError(
    'INVALID_SAFETENSORS',
    `${file}: ${tensor}: expected ${expected}; received ${String(received)}`,
    { file, tensor, expected, received },
  )
}
