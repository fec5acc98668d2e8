/**
 * A named set of adapted layers with its configuration: what the two files of an adapter hold. An adapter never changes; it knows no
 * runtime and no model. Its layers come out complete as soon as their shapes are known.
 */

import { entriesDigest } from '../entries/digest.js'
import type { Entries, EntriesRecipe, Shape } from '../entries/entries.js'
import { FourierFTError } from '../errors.js'
import type { AdapterBytes } from '../files/adapter-bytes.js'
import type { FloatDtype, Tensor } from '../files/safetensors.js'
import { type WriteOptions, writeAdapter } from '../files/write-adapter.js'
import { sharedUniformEntries } from './adapter-entries.js'
import type { FourierFTConfig } from './config.js'
import { createLayer, type FloatArray, type Layer } from './layer.js'
import { nearestNames } from './nearest-names.js'

/** What PEFT writes in front of a module's name in the names of tensors. */
const TENSOR_PREFIX = /^base_model\.model\./

/** One module of an adapter. */
export interface AdaptedModule {
  readonly name: string
  /** `c` in float32, the precision that everything computes with; an F64 file is rounded. */
  readonly coefficients: Float32Array
  /** How the file stores them. */
  readonly dtype: FloatDtype
  /** `[d1, d2]` = `[out, in]`; absent where the file does not say and nobody has said. */
  readonly shape?: Shape
  /** How the entries came about. */
  readonly recipe: EntriesRecipe
  /** Entries that the file stores or the caller gave; absent: `layer` makes them from the recipe. */
  readonly entries?: Entries
  /** What the entries' digest has to be. */
  readonly digest?: string
}

export interface AdapterParts {
  readonly config: FourierFTConfig
  readonly modules: ReadonlyMap<string, AdaptedModule>
  /** Whole weights of `modules_to_save` and trained biases, under their full names. */
  readonly savedTensors?: ReadonlyMap<string, Tensor>
  /**
   * Weights of the base model that the file brings along (`save_embedding_layers` of PEFT), under their full names:
   * `base_model.model.model.embed_tokens.weight`, or `base_model.model.lm_head.base_layer.weight` for a module that is adapted too.
   */
  readonly baseTensors?: ReadonlyMap<string, Tensor>
  /** Names of the file's tensors that the configuration does not target, and that are therefore not read. */
  readonly ignoredTensors?: readonly string[]
  /** The safetensors header's `__metadata__`. */
  readonly metadata?: Readonly<Record<string, string>>
  /** The files that say exactly this. */
  readonly source?: AdapterBytes
}

/** Shapes `[out, in]` of a model's layers, by module name; names that the adapter does not have are ignored. */
export type Shapes = Readonly<Record<string, Shape>>

/** Marks adapters of every copy of this package: a program can hold several. */
const MARKER = Symbol.for('fourierft.Adapter')

/** An adapter's configuration, modules and further tensors; immutable. `loadAdapter` and `createAdapter` make it, `toBytes` and `savePretrained` write it. */
export class Adapter {
  readonly config: FourierFTConfig
  readonly modules: ReadonlyMap<string, AdaptedModule>
  readonly savedTensors: ReadonlyMap<string, Tensor>
  readonly baseTensors: ReadonlyMap<string, Tensor>
  readonly ignoredTensors: readonly string[]
  readonly metadata: Readonly<Record<string, string>>
  readonly #source: AdapterBytes | undefined

  /** Parts that fit together already; `loadAdapter` and `createAdapter` make adapters. */
  constructor({
    config,
    modules,
    savedTensors = new Map(),
    baseTensors = new Map(),
    ignoredTensors = [],
    metadata = {},
    source,
  }: AdapterParts) {
    this.config = config
    this.modules = modules
    this.savedTensors = savedTensors
    this.baseTensors = baseTensors
    this.ignoredTensors = ignoredTensors
    this.metadata = metadata
    this.#source = source
    Object.defineProperty(this, MARKER, { value: true })
  }

  /** Whether `value` is an `Adapter` of any copy of this package. `instanceof` knows only the adapters of one copy. */
  static isInstance(value: unknown): value is Adapter {
    return typeof value === 'object' && value !== null && MARKER in value
  }

  /**
   * One layer, complete. Entries of a uniform recipe are drawn on the first call and shared by every adapter that has the same.
   *
   * @param shape `[out, in]`, where the adapter does not know it
   * @throws {FourierFTError} `MODULE_NOT_FOUND`, `SHAPE_UNKNOWN`, `SHAPE_MISMATCH`, `INVALID_ENTRY_COUNT`, `ENTRIES_DIGEST_MISMATCH`
   */
  layer(name: string, shape?: Shape): Layer {
    const { coefficients, ...module } = this.#module(name)
    const known = this.#shape(name, shape)
    if (!known) {
      throw new FourierFTError(
        'SHAPE_UNKNOWN',
        `module ${name}: its shape is unknown, for the file does not hold it (PEFT's never do); ` +
          `give the shape [out, in] of the base model's weight: { '${name}': [out, in] }`,
        { module: name, expected: '[out, in]' },
      )
    }
    const entries = module.entries ?? this.#drawnEntries(name, known)
    return createLayer({ name, shape: known, entries, coefficients, scaling: this.config.scaling })
  }

  /** All layers, in the order of the modules. Throws as `layer` does. */
  layers(shapes: Shapes = {}): Layer[] {
    return Array.from(this.modules.keys(), (name) => this.layer(name, shapeOf(shapes, name)))
  }

  /**
   * A copy that knows the shapes of its modules.
   *
   * @throws {FourierFTError} `SHAPE_MISMATCH` where the adapter knows another shape, `INVALID_ENTRY_COUNT` where n exceeds `d1·d2`
   */
  withShapes(shapes: Shapes): Adapter {
    const modules = new Map<string, AdaptedModule>()
    for (const [name, module] of this.modules) {
      const shape = this.#shape(name, shapeOf(shapes, name))
      modules.set(name, shape ? { ...module, shape } : module)
    }
    return new Adapter({ ...this.#parts(), modules, ...(this.#source && { source: this.#source }) })
  }

  /** A copy that does not keep the bytes of the files that it was loaded from: half the memory, and `toBytes` writes them anew. */
  withoutFiles(): Adapter {
    return new Adapter(this.#parts())
  }

  /**
   * A copy with other coefficients for the named modules. They are copied, and stored as F32 from then on, as PEFT stores what it
   * has trained.
   *
   * @throws {FourierFTError} `MODULE_NOT_FOUND`, `SHAPE_MISMATCH` for a wrong number of coefficients, `NOT_FINITE`
   */
  withCoefficients(byName: Readonly<Record<string, FloatArray>>): Adapter {
    const modules = new Map(this.modules)
    for (const [name, values] of Object.entries(byName)) {
      const module = this.#module(name)
      if (values.length !== module.coefficients.length) {
        throw new FourierFTError(
          'SHAPE_MISMATCH',
          `module ${name}: expected ${module.coefficients.length} coefficients; received ${values.length}`,
          { module: name, expected: module.coefficients.length, received: values.length },
        )
      }
      const coefficients = Float32Array.from(values)
      const broken = coefficients.findIndex((c) => !Number.isFinite(c))
      if (broken >= 0) {
        throw new FourierFTError(
          'NOT_FINITE',
          `module ${name}: coefficient ${broken} is ${values[broken]}; expected a finite float32 number`,
          { module: name, option: `coefficients[${broken}]`, received: values[broken] },
        )
      }
      modules.set(name, { ...module, coefficients, dtype: 'F32' })
    }
    return new Adapter({ ...this.#parts(), modules })
  }

  /**
   * The two files. An adapter that was loaded and not changed gives the bytes that were read; anything else, and any adapter when an
   * option is given, is written anew: see `WriteOptions`.
   *
   * @throws {FourierFTError} `NOT_REPRODUCIBLE` where the form cannot hold the adapter, `NOT_FINITE` where a coefficient exceeds the
   *   range of the dtype, `SHAPE_UNKNOWN` where a stand-alone file is asked for without the shapes
   */
  toBytes(options: WriteOptions = {}): AdapterBytes {
    if (this.#source && options.dtype === undefined && options.form === undefined) {
      return { config: this.#source.config.slice(), model: this.#source.model.slice() }
    }
    return writeAdapter(this, options)
  }

  #parts(): AdapterParts {
    return {
      config: this.config,
      modules: this.modules,
      savedTensors: this.savedTensors,
      baseTensors: this.baseTensors,
      ignoredTensors: this.ignoredTensors,
      metadata: this.metadata,
    }
  }

  #module(name: string): AdaptedModule {
    const module = this.modules.get(name)
    if (module) return module
    const names = [...this.modules.keys()]
    const wanted = String(name).replace(TENSOR_PREFIX, '')
    const hint =
      wanted === name ? '' : '; give the name without base_model.model., which only tensors begin with'
    throw new FourierFTError(
      'MODULE_NOT_FOUND',
      `the adapter has no module ${name}; the nearest of its ${names.length}: ${nearestNames([wanted], names).join(', ')}${hint}`,
      { module: name, expected: names, received: name },
    )
  }

  #shape(name: string, given: Shape | undefined): Shape | undefined {
    const { shape, coefficients } = this.#module(name)
    if (shape && given && (shape[0] !== given[0] || shape[1] !== given[1])) {
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `module ${name}: the adapter was made for a weight of shape [${shape.join(', ')}] ([out, in]); received [${Array.from(given).join(', ')}]`,
        { module: name, expected: shape, received: given },
      )
    }
    const known = shape ?? given
    if (known && coefficients.length > known[0] * known[1]) {
      throw new FourierFTError(
        'INVALID_ENTRY_COUNT',
        `module ${name}: ${coefficients.length} coefficients do not fit into a spectrum of shape [${Array.from(known).join(', ')}]`,
        { module: name, expected: `at most ${known[0] * known[1]}`, received: coefficients.length },
      )
    }
    return known
  }

  #drawnEntries(name: string, shape: Shape): Entries {
    const { recipe, digest } = this.#module(name)
    if (recipe.sampler !== 'uniform') {
      throw new FourierFTError(
        'INVALID_STATE',
        `module ${name}: entries of a ${recipe.sampler} recipe have to be stored with the adapter`,
        { module: name },
      )
    }
    const entries = sharedUniformEntries(shape, recipe)
    const found = digest === undefined ? undefined : entriesDigest(entries)
    if (found !== digest) {
      throw new FourierFTError(
        'ENTRIES_DIGEST_MISMATCH',
        `module ${name}: the entries drawn with seed ${recipe.seed} have the digest ${found}, the file promises ${digest}; ` +
          'its seed or its digest is not the one that it was trained with',
        { module: name, expected: digest, received: found },
      )
    }
    return entries
  }
}

function shapeOf(shapes: Shapes, name: string): Shape | undefined {
  return Object.hasOwn(shapes, name) ? shapes[name] : undefined
}
