/** One adapter of an attached model: converts the numbers of an `Adapter` to variables of TensorFlow.js, and back. */
import {
  Adapter,
  decodeFloats,
  encodeFloats,
  FourierFTError,
  isFloatDtype,
  type MatchedAdapter,
  nearestNames,
  readSavedModule,
  type SavedModule,
  type Tensor as StoredTensor,
  savedModule,
  savedTensor,
} from '@fourierft/core'
import { reshape, type Tensor, tensor, tidy, transpose } from '@tensorflow/tfjs-core'
import { LayerVariable } from '@tensorflow/tfjs-layers'
import type { AdaptedLayer, Branch, LayerPart, ReplacementWeights } from './adapted-layer.js'

export class LoadedAdapter implements MatchedAdapter {
  readonly #source: Adapter
  readonly #layers: ReadonlyMap<string, AdaptedLayer>
  readonly #branches = new Map<string, Branch>()
  readonly #replacements = new Map<string, ReplacementWeights>()

  /**
   * @param source an adapter for layers of the model; replacement weights that it lacks are copied from the model
   * @param replacedModules the modules that are trained and saved as a whole
   * @throws {FourierFTError} `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `UNSUPPORTED`, and the errors of `Adapter.layer`; no variable is
   *   created then
   */
  constructor(
    source: Adapter,
    layers: ReadonlyMap<string, AdaptedLayer>,
    replacedModules: readonly string[],
  ) {
    this.#source = source
    this.#layers = layers
    const specs = Array.from(source.modules.keys(), (module) =>
      source.layer(module, layerOf(layers, module).shape),
    )
    const replaced = replacedModules.map((module) => ({ module, layer: layerOf(layers, module) }))
    const savedModules = readSavedModules(source, layers, replacedModules)
    for (const { name, coefficients, ...spec } of specs) {
      const variable = createVariable(() => tensor(Float32Array.from(coefficients)), 'fourierft_spectrum')
      this.#branches.set(name, { spec, coefficients: variable })
    }
    for (const { module, layer } of replaced) {
      const { kernel, bias } = layer.kind
      const saved = savedModules.get(module)
      this.#replacements.set(module, {
        kernel: createVariable(
          () =>
            saved
              ? reshape(transpose(tensor(saved.weight, [...layer.shape])), kernel.shape as number[])
              : layer.baseKernel.clone(),
          'kernel',
        ),
        bias:
          bias &&
          createVariable(
            () => (saved?.bias ? tensor(saved.bias, bias.shape as number[]) : bias.read().clone()),
            'bias',
          ),
      })
    }
  }

  /** @see MatchedAdapter of `@fourierft/core` */
  get replaces(): ReadonlyMap<string, string> {
    return new Map(Array.from(this.#replacements.keys(), (module) => [module, module]))
  }

  /** Returns the part of this adapter that concerns one layer of the model. */
  part(module: string): LayerPart {
    return { branch: this.#branches.get(module), replacement: this.#replacements.get(module) }
  }

  get branches(): ReadonlyMap<string, Branch> {
    return this.#branches
  }

  get replacements(): ReadonlyMap<string, ReplacementWeights> {
    return this.#replacements
  }

  /** All variables that training changes. */
  get weights(): LayerVariable[] {
    const coefficients = Array.from(this.#branches.values(), ({ coefficients }) => coefficients)
    const replacements = Array.from(this.#replacements.values(), ({ kernel, bias }) =>
      bias ? [kernel, bias] : [kernel],
    )
    return [...coefficients, ...replacements.flat()]
  }

  /** Returns the adapter with its current numbers: the object that was loaded, if they have not changed. */
  async snapshot(): Promise<Adapter> {
    // All copies are made before the first `await`: later, a training step may change the variables, or a deletion may free them.
    const spectra = Array.from(
      this.#branches,
      ([module, { coefficients }]) => [module, copy(() => coefficients.read())] as const,
    )
    const replacements = Array.from(this.#replacements).flatMap(([module, { kernel, bias }]) => {
      const [outputs, inputs] = layerOf(this.#layers, module).shape
      const matrix = copy(() => transpose(reshape(kernel.read(), [inputs, outputs])))
      const weight = [savedTensor(module, 'weight'), matrix] as const
      return bias
        ? [weight, [savedTensor(module, 'bias'), copy(() => reshape(bias.read(), [outputs]))] as const]
        : [weight]
    })
    const coefficients: Record<string, Float32Array> = {}
    const saved = new Map<string, StoredTensor>()
    try {
      for (const [module, spectrum] of spectra) {
        const current = await floats(spectrum)
        if (!isEqual(current, this.#source.modules.get(module)?.coefficients)) coefficients[module] = current
      }
      for (const [name, values] of replacements) saved.set(name, await store(values))
    } finally {
      for (const [, values] of [...spectra, ...replacements]) values.dispose()
    }
    const changed = [...saved].filter(
      ([name, current]) => !isSameTensor(current, this.#source.savedTensors.get(name)),
    )
    if (Object.keys(coefficients).length === 0 && changed.length === 0) return this.#source
    const { config, modules, metadata, baseTensors } = this.#source.withCoefficients(coefficients)
    const savedTensors = new Map([...this.#source.savedTensors, ...changed])
    return new Adapter({ config, modules, metadata, savedTensors, baseTensors })
  }

  dispose(): void {
    for (const variable of this.weights) variable.dispose()
  }
}

function layerOf(layers: ReadonlyMap<string, AdaptedLayer>, module: string): AdaptedLayer {
  const layer = layers.get(module)
  if (layer) return layer
  const nearest = nearestNames([module], [...layers.keys()], 3)
  throw new FourierFTError(
    'MODULE_NOT_FOUND',
    `the model has no layer '${module}' that can have adapters; the nearest: ${nearest.join(', ') || 'none'}`,
    {
      advice:
        'if the layer has another name, use the option moduleNames of attach(); if another layer creates it when it first runs, ' +
        'run the model before attach()',
      module,
      expected: [...layers.keys()],
      received: module,
    },
  )
}

/** Reads the replacement weights in a file and checks them against the model. Throws if the file has any other tensor. */
function readSavedModules(
  source: Adapter,
  layers: ReadonlyMap<string, AdaptedLayer>,
  replacedModules: readonly string[],
): Map<string, SavedModule> {
  const savedModules = new Map<string, SavedModule>()
  for (const tensor of source.savedTensors.keys()) {
    const module = savedModule(tensor)
    if (module === undefined || !replacedModules.includes(module)) {
      if (module !== undefined) layerOf(layers, module)
      throw new FourierFTError(
        'UNSUPPORTED',
        `tensor ${tensor}: expected weight or bias of one of the modules_to_save (${replacedModules.join(', ') || 'none'})`,
        { tensor, expected: replacedModules },
      )
    }
    if (savedModules.has(module)) continue
    const { shape, bias } = layerOf(layers, module).kind
    savedModules.set(module, readSavedModule(source, module, { shape, hasBias: bias !== null }))
  }
  return savedModules
}

/** @param make returns a new tensor, not a tensor of the model */
function createVariable(make: () => Tensor, name: string): LayerVariable {
  const initial = tidy(make)
  const variable = new LayerVariable(initial, 'float32', name, false)
  initial.dispose()
  return variable
}

/** @param read may return a variable, whose values can change */
function copy(read: () => Tensor): Tensor {
  return tidy(() => read().clone())
}

async function floats(values: Tensor): Promise<Float32Array> {
  return Float32Array.from(await values.data())
}

async function store(values: Tensor): Promise<StoredTensor> {
  return { dtype: 'F32', shape: values.shape, bytes: encodeFloats(await floats(values), 'F32') }
}

function isSameTensor(now: StoredTensor, before: StoredTensor | undefined): boolean {
  if (before === undefined || !isFloatDtype(before.dtype)) return false
  const { dtype, bytes } = before
  return isEqual(
    Float32Array.from(decodeFloats({ dtype, bytes })),
    decodeFloats({ dtype: 'F32', bytes: now.bytes }),
  )
}

function isEqual(a: ArrayLike<number>, b: ArrayLike<number> | undefined): boolean {
  if (a.length !== b?.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}
