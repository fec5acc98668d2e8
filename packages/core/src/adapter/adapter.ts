/**
 * An adapter: a configuration and a set of adapted layers, the content of its two files. An adapter is immutable and independent of
 * runtimes and models.
 */

import { entriesDigest } from '../entries/digest.js'
import type { Entries, Shape } from '../entries/entries.js'
import { FourierFTError } from '../errors.js'
import type { AdapterBytes } from '../files/adapter-bytes.js'
import type { Tensor } from '../files/safetensors.js'
import { type WriteOptions, writeAdapter } from '../files/write-adapter.js'
import { sharedUniformEntries } from './adapter-entries.js'
import type { AdaptedModule, AdapterParts, Shapes } from './adapter-parts.js'
import type { FourierFTConfig } from './config.js'
import { createLayer, type FloatArray, type Layer } from './layer.js'
import { nearestNames } from './nearest-names.js'

/** The prefix that PEFT adds to the name of a module in the names of tensors. */
const TENSOR_PREFIX = /^base_model\.model\./

/** Marks the adapters of every copy of this package, because a program can load several copies. */
const MARKER = Symbol.for('fourierft.Adapter')

/** An immutable adapter. `loadAdapter` and `createAdapter` make it; `toBytes` and `savePretrained` write it. */
export class Adapter {
  readonly config: FourierFTConfig
  readonly modules: ReadonlyMap<string, AdaptedModule>
  readonly savedTensors: ReadonlyMap<string, Tensor>
  readonly baseTensors: ReadonlyMap<string, Tensor>
  readonly ignoredTensors: readonly string[]
  readonly metadata: Readonly<Record<string, string>>
  readonly #source: AdapterBytes | undefined

  /** Does not check that the parts fit together. `loadAdapter` and `createAdapter` make this check. */
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

  /** Checks whether `value` is an `Adapter` of any copy of this package. `instanceof` recognises only the adapters of one copy. */
  static isInstance(value: unknown): value is Adapter {
    return typeof value === 'object' && value !== null && MARKER in value
  }

  /**
   * Returns one layer with its entries. Entries of a uniform recipe are drawn on the first call and shared by all adapters with the same recipe.
   *
   * @param shape `[out, in]`; needed if the adapter does not contain it
   * @throws {FourierFTError} `MODULE_NOT_FOUND`, `SHAPE_UNKNOWN`, `SHAPE_MISMATCH`, `INVALID_ENTRY_COUNT`, `ENTRIES_DIGEST_MISMATCH`
   */
  layer(name: string, shape?: Shape): Layer {
    const { coefficients, ...module } = this.#module(name)
    const moduleShape = this.#shape(name, shape)
    if (!moduleShape) {
      throw new FourierFTError(
        'SHAPE_UNKNOWN',
        `module ${name}: its shape is unknown, because the file does not contain it (PEFT's files never do)`,
        {
          advice: `give the shape [out, in] of the base model's weight: { '${name}': [out, in] }`,
          module: name,
          expected: '[out, in]',
        },
      )
    }
    const entries = module.entries ?? this.#drawnEntries(name, moduleShape)
    return createLayer({ name, shape: moduleShape, entries, coefficients, scaling: this.config.scaling })
  }

  /** Returns all layers, in the order of the modules. Throws the errors of `layer`. */
  layers(shapes: Shapes = {}): Layer[] {
    return Array.from(this.modules.keys(), (name) => this.layer(name, shapeOf(shapes, name)))
  }

  /**
   * Returns a copy that contains the shapes of its modules.
   *
   * @throws {FourierFTError} `SHAPE_MISMATCH` if the adapter contains another shape, `INVALID_ENTRY_COUNT` if n exceeds `d1·d2`
   */
  withShapes(shapes: Shapes): Adapter {
    const modules = new Map<string, AdaptedModule>()
    for (const [name, module] of this.modules) {
      const shape = this.#shape(name, shapeOf(shapes, name))
      modules.set(name, shape ? { ...module, shape } : module)
    }
    return new Adapter({ ...this.#parts(), modules, ...(this.#source && { source: this.#source }) })
  }

  /** Returns a copy without the bytes of the files. It takes half the memory, and `toBytes` must encode it again. */
  withoutFiles(): Adapter {
    return new Adapter(this.#parts())
  }

  /**
   * Returns a copy with other coefficients for the named modules. The values are copied. `toBytes` writes them as F32, as PEFT writes
   * trained coefficients.
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
      const invalidIndex = coefficients.findIndex((c) => !Number.isFinite(c))
      if (invalidIndex >= 0) {
        throw new FourierFTError(
          'NOT_FINITE',
          `module ${name}: coefficient ${invalidIndex} is ${values[invalidIndex]}; expected a finite float32 number`,
          { module: name, option: `coefficients[${invalidIndex}]`, received: values[invalidIndex] },
        )
      }
      modules.set(name, { ...module, coefficients, dtype: 'F32' })
    }
    return new Adapter({ ...this.#parts(), modules })
  }

  /**
   * Returns the two files. For an unchanged loaded adapter and no options, these are the bytes that were read. Otherwise the adapter is
   * encoded again: see `WriteOptions`.
   *
   * @throws {FourierFTError} `NOT_REPRODUCIBLE` if `options.form` is `peft` and PEFT would compute another ΔW, `NOT_FINITE` if a coefficient
   *   exceeds the range of the dtype, `SHAPE_UNKNOWN` if the form is `standalone` and a shape is unknown
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
    const advice = 'give the name without base_model.model., which only names of tensors begin with'
    throw new FourierFTError(
      'MODULE_NOT_FOUND',
      `the adapter has no module ${name}; the nearest of its ${names.length} modules: ${nearestNames([wanted], names).join(', ')}`,
      { ...(wanted !== name && { advice }), module: name, expected: names, received: name },
    )
  }

  #shape(name: string, requested: Shape | undefined): Shape | undefined {
    const { shape, coefficients } = this.#module(name)
    if (shape && requested && (shape[0] !== requested[0] || shape[1] !== requested[1])) {
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `module ${name}: the adapter was made for a weight of shape [${shape.join(', ')}] ([out, in]); received [${Array.from(requested).join(', ')}]`,
        { module: name, expected: shape, received: requested },
      )
    }
    const moduleShape = shape ?? requested
    if (moduleShape && coefficients.length > moduleShape[0] * moduleShape[1]) {
      throw new FourierFTError(
        'INVALID_ENTRY_COUNT',
        `module ${name}: ${coefficients.length} coefficients do not fit into a spectrum of shape [${Array.from(moduleShape).join(', ')}]`,
        {
          module: name,
          expected: `at most ${moduleShape[0] * moduleShape[1]}`,
          received: coefficients.length,
        },
      )
    }
    return moduleShape
  }

  #drawnEntries(name: string, shape: Shape): Entries {
    const { recipe, digest } = this.#module(name)
    if (recipe.sampler !== 'uniform') {
      throw new FourierFTError(
        'INVALID_STATE',
        `module ${name}: the adapter must contain the entries of a ${recipe.sampler} recipe`,
        { module: name },
      )
    }
    const entries = sharedUniformEntries(shape, recipe)
    const found = digest === undefined ? undefined : entriesDigest(entries)
    if (found !== digest) {
      throw new FourierFTError(
        'ENTRIES_DIGEST_MISMATCH',
        `module ${name}: the entries drawn with seed ${recipe.seed} have the digest ${found}, but the file declares ${digest}: ` +
          'its seed or its digest differs from that of the training',
        { module: name, expected: digest, received: found },
      )
    }
    return entries
  }
}

function shapeOf(shapes: Shapes, name: string): Shape | undefined {
  return Object.hasOwn(shapes, name) ? shapes[name] : undefined
}
