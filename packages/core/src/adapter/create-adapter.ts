/** Makes a new adapter, ready to be trained. */

import type { Entries, EntriesRecipe, Shape } from '../entries/entries.js'
import { makeEntries } from '../entries/make-entries.js'
import { checkEntryCount, countPositions } from '../entries/shape.js'
import { FourierFTError } from '../errors.js'
import { savedTensor } from '../files/peft-layout.js'
import { encodeFloats, type Tensor } from '../files/safetensors.js'
import { Adapter } from './adapter.js'
import { sharedEntries } from './adapter-entries.js'
import type { AdaptedModule, Shapes } from './adapter-parts.js'
import { type FourierFTConfig, withTaskHeads } from './config.js'
import type { FloatArray } from './layer.js'
import { isChosenByModel, isSavedWhole, nFrequenciesOf, targetTest } from './module-matcher.js'
import { standardNormal } from './standard-normal.js'

type WithoutCount<R> = R extends { readonly n: number } ? Omit<R, 'n'> : never

/** Makes the entries of each shape: a recipe, to which the `n` of the module is added, or a function. */
export type EntriesChoice = WithoutCount<EntriesRecipe> | ((shape: Shape, n: number) => Entries)

export interface CreateAdapterOptions {
  /**
   * Seed of the initial coefficients, taken modulo 2³². Default 0. The numbers differ from PEFT's, which come from PyTorch's global
   * generator, whose state no file contains.
   */
  readonly initialSeed?: number
  /** Default: uniform with the configuration's `randomLocSeed`, as in PEFT. */
  readonly entries?: EntriesChoice
  /**
   * Initial weights of the linear modules in `modulesToSave`, by module name; usually those of the model. PEFT loads a file only if it
   * contains every module of the model that `modulesToSave` names. So a classifier's adapter (task type SEQ_CLS or TOKEN_CLS) needs its head
   * here: `{ classifier: … }`, or each linear layer inside it, `{ 'classifier.dense': …, 'classifier.out_proj': … }`.
   */
  readonly savedModules?: Readonly<Record<string, LinearWeights>>
}

/** The weight and bias of a linear module. */
export interface LinearWeights {
  /** `[out, in]`. */
  readonly shape: Shape
  /** `out·in` numbers, row-major. */
  readonly weight: FloatArray
  /** `out` numbers; absent if the module has no bias. */
  readonly bias?: FloatArray | undefined
}

/**
 * Makes a new adapter. Its coefficients start as zeros if `initWeights` of the configuration is true, otherwise as standard normal numbers.
 * If the model decides which modules are adapted (no `targetModules`, or `all-linear`), the adapter's configuration lists their names, as
 * in PEFT.
 *
 * @param shapes `[out, in]` of each module to adapt, usually of those that `matchModules` returns
 * @throws {FourierFTError} `INVALID_OPTION` without modules or for an invalid name, shape or seed; `MODULE_NOT_FOUND` for a module
 *   that the configuration cannot match, or a saved module that it does not save whole; `INVALID_ENTRY_COUNT`; `SHAPE_MISMATCH` if the option
 *   `entries` gives another shape or number; `INVALID_PATTERN`
 */
export function createAdapter(
  configuration: FourierFTConfig,
  shapes: Shapes,
  { initialSeed = 0, entries: choice, savedModules = {} }: CreateAdapterOptions = {},
): Adapter {
  const config = withTaskHeads(configuration)
  const names = Object.keys(shapes)
  checkModuleNames(names)
  checkMatched(config, names)
  const resolved = isChosenByModel(config.targetModules) ? { ...config, targetModules: names } : config
  if (!Number.isSafeInteger(initialSeed)) {
    throw new FourierFTError('INVALID_OPTION', `initialSeed: expected an integer; received ${initialSeed}`, {
      option: 'initialSeed',
      expected: 'an integer',
      received: initialSeed,
    })
  }
  const normal = standardNormal(initialSeed)
  const frequencies = nFrequenciesOf(resolved, names)
  const entriesByShape = new Map<string, Entries>()
  const modules = new Map<string, AdaptedModule>()
  for (const [name, shape] of Object.entries(shapes)) {
    const n = frequencies.get(name) as number
    checkEntryCount(n, countPositions(shape), shape)
    const coefficients = new Float32Array(n)
    if (!resolved.initWeights) for (let l = 0; l < n; l++) coefficients[l] = normal()
    const module = { name, coefficients, dtype: 'F32', shape: [shape[0], shape[1]] } as const
    if (choice === undefined) {
      modules.set(name, { ...module, recipe: { sampler: 'uniform', seed: resolved.randomLocSeed, n } })
      continue
    }
    const key = `${shape.join('x')} ${n}`
    const entries = entriesByShape.get(key) ?? sharedEntries(chosenEntries(choice, shape, n))
    entriesByShape.set(key, entries)
    modules.set(name, { ...module, recipe: entries.recipe, entries })
  }
  return new Adapter({ config: resolved, modules, savedTensors: savedTensors(resolved, savedModules) })
}

function savedTensors(
  config: FourierFTConfig,
  modules: Readonly<Record<string, LinearWeights>>,
): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>()
  for (const [module, { shape, weight, bias }] of Object.entries(modules)) {
    if (!isSavedWhole(config, module)) {
      throw new FourierFTError(
        'MODULE_NOT_FOUND',
        `savedModules: modulesToSave (${config.modulesToSave?.join(', ') || 'none'}) does not name module ${module}`,
        { module, option: 'savedModules', expected: config.modulesToSave, received: module },
      )
    }
    const parts = { weight: [weight, [shape[0], shape[1]]], bias: [bias, [shape[0]]] } as const
    for (const kind of ['weight', 'bias'] as const) {
      const [values, dims] = parts[kind]
      if (values === undefined) continue
      const size = dims.reduce((product, dim) => product * dim, 1)
      if (values.length !== size) {
        throw new FourierFTError(
          'SHAPE_MISMATCH',
          `savedModules: module ${module}: expected ${size} numbers for its ${kind} of shape [${dims.join(', ')}]; received ${values.length}`,
          { module, option: 'savedModules', expected: size, received: values.length },
        )
      }
      tensors.set(savedTensor(module, kind), {
        dtype: 'F32',
        shape: dims,
        bytes: encodeFloats(values, 'F32'),
      })
    }
  }
  return tensors
}

function chosenEntries(choice: EntriesChoice, shape: Shape, n: number): Entries {
  const entries = typeof choice === 'function' ? choice(shape, n) : makeEntries(shape, { ...choice, n })
  if (entries.n !== n || entries.shape[0] !== shape[0] || entries.shape[1] !== shape[1]) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `entries: expected ${n} entries of shape [${shape.join(', ')}]; received ${entries.n} of shape [${entries.shape.join(', ')}]`,
      { option: 'entries', expected: { shape, n }, received: { shape: entries.shape, n: entries.n } },
    )
  }
  return entries
}

function checkModuleNames(names: readonly string[]): void {
  if (names.length === 0) {
    throw new FourierFTError('INVALID_OPTION', 'shapes: expected at least one module: { name: [out, in] }', {
      option: 'shapes',
      expected: 'at least one module',
    })
  }
  for (const name of names) {
    if (name !== '' && name !== '__proto__') continue
    throw new FourierFTError('INVALID_OPTION', `shapes: '${name}' cannot be the name of a module`, {
      option: 'shapes',
      received: name,
    })
  }
}

/** Checks the names, because PEFT does not load coefficients of a module that the configuration does not match. */
function checkMatched(config: FourierFTConfig, names: readonly string[]): void {
  const isTargeted = targetTest(config)
  const unmatched = names.find((name) => !isTargeted(name))
  if (unmatched === undefined) return
  throw new FourierFTError('MODULE_NOT_FOUND', `module ${unmatched}: the configuration does not match it`, {
    advice: 'change targetModules or leave the module out of the shapes',
    module: unmatched,
    option: 'targetModules',
    expected: config.targetModules,
  })
}
