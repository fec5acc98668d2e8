/** One adapter inside of an attached model: its files' contents as variables of TensorFlow.js, and the way back. */
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
  readonly #wholes = new Map<string, ReplacementWeights>()

  /**
   * @param source with coefficients for layers of the model; whole weights that it does not have are copied from the model
   * @param wholeModules the modules that are trained and saved whole
   * @throws {FourierFTError} `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `UNSUPPORTED`, and what `Adapter.layer` throws; nothing is made then
   */
  constructor(source: Adapter, layers: ReadonlyMap<string, AdaptedLayer>, wholeModules: readonly string[]) {
    this.#source = source
    this.#layers = layers
    const specs = Array.from(source.modules.keys(), (module) =>
      source.layer(module, layerOf(layers, module).shape),
    )
    const wholes = wholeModules.map((module) => ({ module, layer: layerOf(layers, module) }))
    const stored = storedWholes(source, layers, wholeModules)
    for (const { name, coefficients, ...spec } of specs) {
      const variable = weight(() => tensor(Float32Array.from(coefficients)), 'fourierft_spectrum')
      this.#branches.set(name, { spec, coefficients: variable })
    }
    for (const { module, layer } of wholes) {
      const { kernel, bias } = layer.kind
      const given = stored.get(module)
      this.#wholes.set(module, {
        kernel: weight(
          () =>
            given
              ? reshape(transpose(tensor(given.weight, [...layer.shape])), kernel.shape as number[])
              : layer.baseKernel.clone(),
          'kernel',
        ),
        bias:
          bias &&
          weight(
            () => (given?.bias ? tensor(given.bias, bias.shape as number[]) : bias.read().clone()),
            'bias',
          ),
      })
    }
  }

  /** @see MatchedAdapter of `@fourierft/core` */
  get replaces(): ReadonlyMap<string, string> {
    return new Map(Array.from(this.#wholes.keys(), (module) => [module, module]))
  }

  /** This adapter's part in a layer of the model. */
  part(module: string): LayerPart {
    return { branch: this.#branches.get(module), whole: this.#wholes.get(module) }
  }

  get branches(): ReadonlyMap<string, Branch> {
    return this.#branches
  }

  get wholes(): ReadonlyMap<string, ReplacementWeights> {
    return this.#wholes
  }

  /** Everything that training changes. */
  get weights(): LayerVariable[] {
    const branches = Array.from(this.#branches.values(), ({ coefficients }) => coefficients)
    const wholes = Array.from(this.#wholes.values(), ({ kernel, bias }) => (bias ? [kernel, bias] : [kernel]))
    return [...branches, ...wholes.flat()]
  }

  /** With the numbers as they are now. An adapter that was not changed since it was loaded is the same object. */
  async snapshot(): Promise<Adapter> {
    // All of them before the first `await`: a step of a training changes all, and a deleted adapter has none.
    const spectra = Array.from(
      this.#branches,
      ([module, { coefficients }]) => [module, copy(() => coefficients.read())] as const,
    )
    const wholes = Array.from(this.#wholes).flatMap(([module, { kernel, bias }]) => {
      const [outputs, inputs] = layerOf(this.#layers, module).shape
      const weight = copy(() => transpose(reshape(kernel.read(), [inputs, outputs])))
      const own = [[savedTensor(module, 'weight'), weight] as const]
      return bias
        ? [...own, [savedTensor(module, 'bias'), copy(() => reshape(bias.read(), [outputs]))] as const]
        : own
    })
    const coefficients: Record<string, Float32Array> = {}
    const saved = new Map<string, StoredTensor>()
    try {
      for (const [module, spectrum] of spectra) {
        const now = await floats(spectrum)
        if (!equal(now, this.#source.modules.get(module)?.coefficients)) coefficients[module] = now
      }
      for (const [name, values] of wholes) saved.set(name, await store(values))
    } finally {
      for (const [, values] of [...spectra, ...wholes]) values.dispose()
    }
    const changed = [...saved].filter(([name, now]) => !same(now, this.#source.savedTensors.get(name)))
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
    `the model has no layer '${module}' that can have adapters; the nearest: ${nearest.join(', ') || 'it has none at all'}. ` +
      'The option moduleNames of attach() gives layers other names; layers that hold others may make them when they first run: ' +
      'run the model before attach()',
    { module, expected: [...layers.keys()], received: module },
  )
}

/** The whole weights that a file holds, checked against the model; everything else in it is refused rather than passed over. */
function storedWholes(
  source: Adapter,
  layers: ReadonlyMap<string, AdaptedLayer>,
  wholeModules: readonly string[],
): Map<string, SavedModule> {
  const wholes = new Map<string, SavedModule>()
  for (const tensor of source.savedTensors.keys()) {
    const module = savedModule(tensor)
    if (module === undefined || !wholeModules.includes(module)) {
      if (module !== undefined) layerOf(layers, module)
      throw new FourierFTError(
        'UNSUPPORTED',
        `tensor ${tensor}: expected weight or bias of one of the modules_to_save (${wholeModules.join(', ') || 'none'})`,
        { tensor, expected: wholeModules },
      )
    }
    if (wholes.has(module)) continue
    const { shape, bias } = layerOf(layers, module).kind
    wholes.set(module, readSavedModule(source, module, { shape, hasBias: bias !== null }))
  }
  return wholes
}

/** @param make a tensor of its own, not one that belongs to the model */
function weight(make: () => Tensor, name: string): LayerVariable {
  const initial = tidy(make)
  const variable = new LayerVariable(initial, 'float32', name, false)
  initial.dispose()
  return variable
}

/** @param read values that may be a variable's, which changes */
function copy(read: () => Tensor): Tensor {
  return tidy(() => read().clone())
}

async function floats(values: Tensor): Promise<Float32Array> {
  return Float32Array.from(await values.data())
}

async function store(values: Tensor): Promise<StoredTensor> {
  return { dtype: 'F32', shape: values.shape, bytes: encodeFloats(await floats(values), 'F32') }
}

function same(now: StoredTensor, before: StoredTensor | undefined): boolean {
  if (before === undefined || !isFloatDtype(before.dtype)) return false
  const { dtype, bytes } = before
  return equal(
    Float32Array.from(decodeFloats({ dtype, bytes })),
    decodeFloats({ dtype: 'F32', bytes: now.bytes }),
  )
}

function equal(a: ArrayLike<number>, b: ArrayLike<number> | undefined): boolean {
  if (a.length !== b?.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}
