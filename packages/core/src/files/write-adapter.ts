/** Writes an adapter's two files, in the format that PEFT loads or in the stand-alone format. */
import { sharedUniformEntries, type UniformRecipe } from '../adapter/adapter-entries.js'
import type { AdaptedModule, AdapterParts } from '../adapter/adapter-parts.js'
import { PEFT_TYPE, STANDALONE_PEFT_TYPE, serializeConfig } from '../adapter/config.js'
import type { Layer } from '../adapter/layer.js'
import { entriesDigest } from '../entries/digest.js'
import type { Entries, Shape } from '../entries/entries.js'
import { WIDE_DRAWS_FROM } from '../entries/random-permutation.js'
import { FourierFTError } from '../errors.js'
import type { AdapterBytes } from './adapter-bytes.js'
import { type EntrySet, formatAdditions, type LayerAddition } from './format-additions.js'
import { coefficientsTensor, entriesTensor } from './peft-layout.js'
import { encodeFloats, type FloatDtype, type Tensor, writeSafetensors } from './safetensors.js'

export interface WriteOptions {
  /** The dtype of the coefficients, which are rounded to nearest. Default: the dtype of each module, which is F32 for new and trained modules. */
  readonly dtype?: FloatDtype
  /**
   * `peft`: PEFT can load the files, and draws the entries. `standalone`: the files contain the entries, and PEFT rejects them. Default: `peft`
   * if PEFT computes the same ΔW from it, otherwise `standalone`.
   */
  readonly form?: 'peft' | 'standalone'
}

/** The parts of an adapter that its files hold, and its complete layers. */
export interface AdapterContents extends Required<Omit<AdapterParts, 'source' | 'ignoredTensors'>> {
  layer(name: string): Layer
}

/** Returns the two files. @throws the errors of `Adapter.toBytes` */
export function writeAdapter(adapter: AdapterContents, { dtype, form }: WriteOptions): AdapterBytes {
  const obstacle = form === 'standalone' ? undefined : peftObstacle(adapter)
  if (form === 'peft' && obstacle !== undefined) {
    throw new FourierFTError('NOT_REPRODUCIBLE', `PEFT cannot reproduce this adapter: ${obstacle}`, {
      advice: "leave the option form out or write form 'standalone'",
      option: 'form',
      expected: 'standalone',
      received: 'peft',
    })
  }
  const standalone = form === 'standalone' || obstacle !== undefined
  const tensors = new Map<string, Tensor>([...adapter.baseTensors, ...adapter.savedTensors])
  for (const module of adapter.modules.values()) {
    tensors.set(coefficientsTensor(module.name), encodeCoefficients(module, dtype ?? module.dtype))
  }
  const hasAllShapes = [...adapter.modules.values()].every(({ shape }) => shape)
  let metadata: Record<string, string> = { format: 'pt', ...adapter.metadata }
  for (const key of Object.keys(metadata)) {
    if (/^fourierft\.(version|layers|entries)$/.test(key)) delete metadata[key]
  }
  // Without shapes, the file is like PEFT's. A stand-alone file needs shapes: without them, `layer` throws SHAPE_UNKNOWN.
  if (hasAllShapes || standalone) {
    const { layers, sets, stored } = makeEntrySets(adapter, standalone)
    for (const [set, entries] of stored) tensors.set(entriesTensor(set), encodeEntries(entries))
    metadata = { ...metadata, ...formatAdditions({ layers, sets }) }
  }
  const peftType = standalone ? STANDALONE_PEFT_TYPE : PEFT_TYPE
  return {
    config: new TextEncoder().encode(serializeConfig({ ...adapter.config, peftType })),
    model: writeSafetensors({ tensors, metadata }),
  }
}

/**
 * Returns the reason why PEFT would compute another ΔW from the seed than this adapter's, or undefined if it computes the same. The
 * modules and their numbers of coefficients are not checked: the functions that make adapters do that.
 */
function peftObstacle({ config, modules }: AdapterContents): string | undefined {
  for (const { name, recipe, shape, entries } of modules.values()) {
    if (recipe.sampler !== 'uniform')
      return `the entries of ${name} are ${recipe.sampler}, and PEFT draws only uniform ones`
    if (BigInt(recipe.seed) !== BigInt(config.randomLocSeed)) {
      return `the entries of ${name} are drawn with seed ${recipe.seed}, but random_loc_seed is ${config.randomLocSeed}`
    }
    if (recipe.algorithm === 'legacy' && (!shape || shape[0] * shape[1] >= WIDE_DRAWS_FROM)) {
      return `the entries of ${name} are drawn as older versions of PyTorch draw them`
    }
    if (entries && !isDrawn(entries, recipe)) return `the entries of ${name} are not those of its recipe`
  }
  return undefined
}

/** Whether the recipe gives these entries. Large spectra are not checked, because drawing them takes seconds. */
function isDrawn(entries: Entries, recipe: UniformRecipe): boolean {
  const { shape } = entries
  if (shape[0] * shape[1] >= WIDE_DRAWS_FROM) return true
  return entriesDigest(sharedUniformEntries(shape, recipe)) === entriesDigest(entries)
}

/** Makes the entry sets, named by shape and n. Sets of large spectra are stored, because drawing them takes long; PEFT ignores them. */
function makeEntrySets(
  adapter: AdapterContents,
  standalone: boolean,
): { layers: Map<string, LayerAddition>; sets: Map<string, EntrySet>; stored: Map<string, Entries> } {
  const layers = new Map<string, LayerAddition>()
  const sets = new Map<string, EntrySet>()
  const stored = new Map<string, Entries>()
  const nameOfEntries = new Map<string, string>()
  for (const { name, recipe } of adapter.modules.values()) {
    const { shape, entries } = adapter.layer(name)
    const digest = entriesDigest(entries)
    const key = `${shape.join('x')} ${digest}`
    let set = nameOfEntries.get(key)
    if (set === undefined) {
      set = unusedName(shape, entries.n, sets)
      nameOfEntries.set(key, set)
      sets.set(set, { recipe, n: entries.n, digest })
      if (standalone || shape[0] * shape[1] >= WIDE_DRAWS_FROM) stored.set(set, entries)
    }
    layers.set(name, { shape, entries: set })
  }
  return { layers, sets, stored }
}

function unusedName([d1, d2]: Shape, n: number, taken: ReadonlyMap<string, unknown>): string {
  const name = `${d1}x${d2}-${n}`
  let free = name
  for (let i = 2; taken.has(free); i++) free = `${name}-${i}`
  return free
}

function encodeCoefficients({ name, coefficients }: AdaptedModule, dtype: FloatDtype): Tensor {
  const limit = dtype === 'F16' ? 65520 : dtype === 'BF16' ? BFLOAT16_LIMIT : Infinity
  const tooLarge = coefficients.findIndex((c) => Math.abs(c) >= limit)
  if (tooLarge >= 0) {
    throw new FourierFTError(
      'NOT_FINITE',
      `module ${name}: coefficient ${tooLarge} is ${coefficients[tooLarge]}, beyond the range of ${dtype}`,
      { advice: "write dtype 'F32'", module: name, option: 'dtype', expected: 'F32', received: dtype },
    )
  }
  return { dtype, shape: [coefficients.length], bytes: encodeFloats(coefficients, dtype) }
}

/** From here on, rounding to bfloat16 gives infinity: half a step above the largest bfloat16. For float16 this limit is 65520. */
const BFLOAT16_LIMIT = 2 ** 128 - 2 ** 119

function encodeEntries({ n, rows, columns }: Entries): Tensor {
  const bytes = new Uint8Array(8 * n)
  const view = new DataView(bytes.buffer)
  for (let l = 0; l < n; l++) {
    view.setUint32(4 * l, rows[l], true)
    view.setUint32(4 * (n + l), columns[l], true)
  }
  return { dtype: 'U32', shape: [2, n], bytes }
}
