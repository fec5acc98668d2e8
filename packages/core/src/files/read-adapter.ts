/**
 * Makes an `Adapter` from its two files in memory, and checks that the files are consistent. Entries are drawn from their seed only when
 * they are used, because that takes time.
 */
import { Adapter } from '../adapter/adapter.js'
import { sharedEntries } from '../adapter/adapter-entries.js'
import type { AdaptedModule } from '../adapter/adapter-parts.js'
import { type FourierFTConfig, parseConfig, STANDALONE_PEFT_TYPE } from '../adapter/config.js'
import { isChosenByModel, nFrequencySteps, savedWholeTest, targetTest } from '../adapter/module-matcher.js'
import { PatternBudget } from '../adapter/pattern-budget.js'
import { runNow, type Steps } from '../adapter/pausable-work.js'
import { isInexpressible } from '../adapter/python-pattern.js'
import { entriesDigest } from '../entries/digest.js'
import type { Entries, Shape } from '../entries/entries.js'
import { explicitEntries } from '../entries/explicit.js'
import { WIDE_DRAWS_FROM } from '../entries/random-permutation.js'
import { FourierFTError } from '../errors.js'
import type { AdapterBytes } from './adapter-bytes.js'
import { CONFIG_FILE, type FileNames, MODEL_FILE } from './adapter-files.js'
import { type EntrySet, type FormatAdditions, parseAdditions } from './format-additions.js'
import { coefficientsTensor, entriesTensor, tensorRole } from './peft-layout.js'
import { decodeFloats, isFloatDtype, readSafetensors, type Tensor } from './safetensors.js'

/** Reads an adapter. @throws {FourierFTError} with a code for each kind of malformed file: see `ErrorCode` */
export function readAdapter(source: AdapterBytes, names?: FileNames): Adapter {
  return runNow(readAdapterSteps(source, names))
}

/** Does the work of `readAdapter` in short steps, because there may be many patterns and many tensors. */
export function* readAdapterSteps(
  source: AdapterBytes,
  names: FileNames = { config: CONFIG_FILE, model: MODEL_FILE },
): Steps<Adapter> {
  const file = names.model
  const config = parseConfig(source.config, names.config)
  const { tensors, metadata = {} } = readSafetensors(source.model, file)
  const additions = parseAdditions(metadata, file)
  if (!additions && config.peftType === STANDALONE_PEFT_TYPE) {
    throw mismatch(
      file,
      '__metadata__',
      `the keys fourierft.version, fourierft.layers and fourierft.entries of an adapter of peft_type ${STANDALONE_PEFT_TYPE}`,
      'none of them',
      'check whether another program wrote the file',
    )
  }
  const { coefficients, entries, parameters, otherTensors } = sortTensors(tensors, file)
  const sets = readEntrySets(additions, entries, config, file)
  const unknown = [...(additions?.layers.keys() ?? [])].find((module) => !coefficients.has(module))
  if (unknown !== undefined) {
    throw mismatch(file, '__metadata__', 'modules with coefficients in fourierft.layers', unknown)
  }
  const budget = new PatternBudget()
  const ignoredTensors = [...(yield* removeUntargeted(coefficients, config, names, budget)), ...otherTensors]
  // The patterns of the targets are no longer needed.
  budget.release()
  const counts = yield* coefficientCounts(config, coefficients.keys(), budget)
  const modules = new Map<string, AdaptedModule>()
  for (const [name, tensor] of coefficients) {
    yield
    const values = readCoefficients(tensor, name, counts?.get(name), file)
    const specified = additions
      ? specifiedModule(name, values.coefficients.length, additions, sets, file)
      : { recipe: { sampler: 'uniform', seed: config.randomLocSeed, n: values.coefficients.length } as const }
    modules.set(name, { name, ...values, ...specified })
  }
  return new Adapter({
    config,
    modules,
    ...sortParameters(parameters, config),
    ignoredTensors,
    metadata,
    source,
  })
}

/**
 * Removes the coefficients of modules that the configuration does not target: PEFT also ignores them. If the matcher does not support a
 * pattern, all modules in the file count as targeted.
 *
 * @returns the names of their tensors
 */
function* removeUntargeted(
  coefficients: Map<string, NamedTensor>,
  config: FourierFTConfig,
  names: FileNames,
  budget: PatternBudget,
): Steps<string[]> {
  const isTargeted = ifSupported(budget, () => targetTest(config, budget)) ?? (() => true)
  const ignored: string[] = []
  for (const [module, { tensorName }] of coefficients) {
    yield
    // A look-ahead can be too costly on a long name.
    if (ifSupported(budget, () => isTargeted(module)) ?? true) continue
    ignored.push(tensorName)
    coefficients.delete(module)
  }
  if (coefficients.size > 0) return ignored
  const { targetModules } = config
  const targets = isChosenByModel(targetModules)
    ? 'of modules that are not excluded'
    : JSON.stringify(targetModules)
  throw mismatch(
    names.model,
    'coefficients',
    `coefficients of the modules that ${names.config} targets: ${targets}`,
    `only those of ${ignored.slice(0, 5).join(', ')}`,
    CHECK_PAIR,
  )
}

/** Returns the number of coefficients of each module; undefined if the matcher does not support a pattern, so that the tensors' lengths decide. */
function* coefficientCounts(
  config: FourierFTConfig,
  modules: Iterable<string>,
  budget: PatternBudget,
): Steps<ReadonlyMap<string, number> | undefined> {
  try {
    return yield* nFrequencySteps(config, modules, budget)
  } catch (error) {
    if (isOnlyUnsupported(error, budget)) return undefined
    throw error
  }
}

/** Returns the result of `work`, or undefined if it needs a pattern that the matcher does not support. */
function ifSupported<T>(budget: PatternBudget, work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    if (isOnlyUnsupported(error, budget)) return undefined
    throw error
  }
}

/** Whether `error` only means that the matcher does not support a pattern that Python accepts. Malformed patterns, and patterns that exceed the budget, are rejected even if they are not needed. */
function isOnlyUnsupported(error: unknown, budget: PatternBudget): boolean {
  return isInexpressible(error) && !budget.isExceeded
}

/** Separates trained tensors from weights of the base model, which PEFT loads into the base model. */
function sortParameters(
  parameters: ReadonlyMap<string, NamedParameter>,
  config: FourierFTConfig,
): { savedTensors: Map<string, Tensor>; baseTensors: Map<string, Tensor> } {
  const savedTensors = new Map<string, Tensor>()
  const baseTensors = new Map<string, Tensor>()
  const isSaved = savedWholeTest(config)
  for (const [name, { module, tensor }] of parameters) {
    const isTrained = isSaved(module) || (config.bias !== 'none' && name.endsWith('.bias'))
    const target = isTrained ? savedTensors : baseTensors
    target.set(name, tensor)
  }
  return { savedTensors, baseTensors }
}

interface NamedParameter {
  readonly module: string
  readonly tensor: Tensor
}

interface NamedTensor extends Tensor {
  readonly tensorName: string
}

/** Sorts the tensors by role. The keys are modules for coefficients, sets for entries, and tensor names for parameters. */
function sortTensors(
  tensors: ReadonlyMap<string, Tensor>,
  file: string,
): {
  coefficients: Map<string, NamedTensor>
  entries: Map<string, Tensor>
  parameters: Map<string, NamedParameter>
  otherTensors: string[]
} {
  const coefficients = new Map<string, NamedTensor>()
  const entries = new Map<string, Tensor>()
  const parameters = new Map<string, NamedParameter>()
  const otherTensors: string[] = []
  for (const [tensorName, tensor] of tensors) {
    const role = tensorRole(tensorName)
    if (role.role === 'other') otherTensors.push(tensorName)
    else if (role.role === 'parameter') parameters.set(tensorName, { module: role.module, tensor })
    else if (role.role === 'entries') entries.set(role.set, tensor)
    else if (role.module === '__proto__')
      throw mismatch(file, tensorName, 'the name of a module', role.module)
    else if (coefficients.has(role.module)) {
      throw mismatch(file, tensorName, 'one tensor for each module', `a second one for ${role.module}`)
    } else coefficients.set(role.module, { ...tensor, tensorName })
  }
  if (coefficients.size === 0) {
    const some = [...tensors.keys()].slice(0, 5).join(', ') || 'no tensors'
    throw mismatch(file, 'coefficients', `tensors named ${coefficientsTensor('<module>')}`, some)
  }
  return { coefficients, entries, parameters, otherTensors }
}

/** Returns what the additions specify for a module with `n` coefficients. */
function specifiedModule(
  name: string,
  n: number,
  { layers }: FormatAdditions,
  sets: ReadonlyMap<string, StoredSet>,
  file: string,
): Pick<AdaptedModule, 'shape' | 'recipe' | 'digest' | 'entries'> {
  const layer = layers.get(name)
  if (!layer)
    throw mismatch(
      file,
      '__metadata__',
      'all modules with coefficients in fourierft.layers',
      `none for ${name}`,
    )
  const set = sets.get(layer.entries)
  if (!set)
    throw mismatch(
      file,
      '__metadata__',
      'an entry set that fourierft.entries names',
      `${layer.entries} for ${name}`,
    )
  if (set.n !== n) {
    const expected = `${set.n} coefficients, one for each entry of set ${layer.entries}`
    throw mismatch(file, coefficientsTensor(name), expected, n)
  }
  const { recipe, digest, entries } = set
  return { shape: layer.shape, recipe, digest, ...(entries && { entries }) }
}

function readCoefficients(
  { tensorName: tensor, dtype, shape, bytes }: NamedTensor,
  module: string,
  n: number | undefined,
  file: string,
): Pick<AdaptedModule, 'coefficients' | 'dtype'> {
  if (!isFloatDtype(dtype)) {
    throw new FourierFTError(
      'UNSUPPORTED_DTYPE',
      `${file}: tensor ${tensor}: expected coefficients in F32, F16, BF16 or F64; received ${dtype}`,
      { file, tensor, expected: ['F32', 'F16', 'BF16', 'F64'], received: dtype },
    )
  }
  const [length = 0] = shape
  if (shape.length !== 1 || (n === undefined ? length === 0 : length !== n)) {
    const expected = n ?? 'n'
    const reason =
      n === undefined ? 'it holds n coefficients' : `the configuration gives its module n_frequency ${n}`
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `${file}: tensor ${tensor}: ${reason}, so expected shape [${expected}]; received [${shape.join(', ')}]`,
      { advice: CHECK_PAIR, file, tensor, module, expected: [expected], received: shape },
    )
  }
  const coefficients = Float32Array.from(decodeFloats({ dtype, bytes }))
  const invalidIndex = coefficients.findIndex((c) => !Number.isFinite(c))
  if (invalidIndex >= 0) {
    throw new FourierFTError(
      'NOT_FINITE',
      `${file}: tensor ${tensor}, element ${invalidIndex}: expected a finite number; received ${coefficients[invalidIndex]}${dtype === 'F64' ? ' (as a float32)' : ''}`,
      {
        advice: 'check whether the training diverged',
        file,
        tensor,
        module,
        received: coefficients[invalidIndex],
      },
    )
  }
  return { coefficients, dtype }
}

interface StoredSet extends EntrySet {
  readonly entries?: Entries
}

/** Returns the entry sets that layers use, with the entries that the file stores for them. */
function readEntrySets(
  additions: FormatAdditions | undefined,
  stored: ReadonlyMap<string, Tensor>,
  config: FourierFTConfig,
  file: string,
): Map<string, StoredSet> {
  const { layers, sets }: FormatAdditions = additions ?? { layers: new Map(), sets: new Map() }
  const undeclared = [...stored.keys()].find((set) => !sets.has(set))
  if (undeclared !== undefined) {
    throw mismatch(
      file,
      entriesTensor(undeclared),
      'only entry sets that fourierft.entries names',
      undeclared,
    )
  }
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
  const result = new Map<string, StoredSet>()
  for (const [name, set] of sets) {
    const shape = shapes.get(name)
    if (!shape)
      throw mismatch(file, '__metadata__', 'only entry sets that a layer uses in fourierft.entries', name)
    if (set.n > shape[0] * shape[1]) {
      throw new FourierFTError(
        'INVALID_ENTRY_COUNT',
        `${file}: fourierft.entries: set ${name} has ${set.n} entries, but a spectrum of shape [${shape.join(', ')}] has only ${shape[0] * shape[1]} positions`,
        { file, tensor: '__metadata__', expected: `at most ${shape[0] * shape[1]}`, received: set.n },
      )
    }
    const tensor = stored.get(name)
    checkReproducible(name, set, shape, tensor !== undefined, config, file)
    result.set(name, tensor ? { ...set, entries: readEntries(tensor, name, set, shape, file) } : set)
  }
  return result
}

/** Checks that entries that are not stored can be drawn quickly, and that PEFT would draw the same entries if it can load the file. */
function checkReproducible(
  name: string,
  { recipe }: EntrySet,
  shape: Shape,
  isStored: boolean,
  config: FourierFTConfig,
  file: string,
): void {
  const isSlowToDraw = shape[0] * shape[1] >= WIDE_DRAWS_FROM
  if (!isStored && (recipe.sampler !== 'uniform' || isSlowToDraw)) {
    throw mismatch(
      file,
      entriesTensor(name),
      'the stored entries of a set that cannot be drawn quickly',
      'no such tensor',
    )
  }
  if (config.peftType === STANDALONE_PEFT_TYPE) return
  const hasPeftRecipe = recipe.sampler === 'uniform' && BigInt(recipe.seed) === BigInt(config.randomLocSeed)
  if (!hasPeftRecipe || (recipe.algorithm === 'legacy' && isSlowToDraw)) {
    throw mismatch(
      file,
      '__metadata__',
      `entry sets drawn uniformly with random_loc_seed ${config.randomLocSeed}, because PEFT would draw these`,
      `set ${name}: ${recipe.sampler}${recipe.sampler === 'explicit' ? '' : ` with seed ${recipe.seed}`}`,
    )
  }
  if (isStored && !isSlowToDraw) {
    throw mismatch(
      file,
      entriesTensor(name),
      'no stored entries, because PEFT draws the entries of this file',
      name,
    )
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
      `${file}: tensor ${name}: its entries have the digest ${found}, but the metadata declares ${digest}: the file is damaged`,
      { file, tensor: name, expected: digest, received: found },
    )
  }
  try {
    return sharedEntries({ ...explicitEntries({ shape, rows, columns }), recipe })
  } catch (error) {
    if (!FourierFTError.isInstance(error)) throw error
    throw new FourierFTError(error.code, `${file}: tensor ${name}: ${error.problem}`, {
      ...error.details,
      file,
      tensor: name,
    })
  }
}

const CHECK_PAIR = 'check that the two files belong together'

function mismatch(
  file: string,
  tensor: string,
  expected: string,
  received: unknown,
  advice?: string,
): FourierFTError {
  return new FourierFTError(
    'INVALID_SAFETENSORS',
    `${file}: ${tensor}: expected ${expected}; received ${String(received)}`,
    { ...(advice !== undefined && { advice }), file, tensor, expected, received },
  )
}
