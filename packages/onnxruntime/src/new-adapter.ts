/** `newAdapter`: creates an adapter for the layers of a model whose module names are known. */
import {
  Adapter,
  type CreateAdapterOptions,
  createAdapter,
  createConfig,
  encodeFloats,
  type FourierFTConfig,
  FourierFTError,
  type FourierFTOptions,
  isSavedWhole,
  isTaskHead,
  type ModelFacts,
  matchModules,
  nearestNames,
  type Shape,
  savedTensor,
  type Tensor,
  withTaskHeads,
} from '@fourierft/core'
import type { WholeWeights } from '@fourierft/onnx'

/** A linear layer whose module name is known. */
export interface NamedLayer {
  /** `[out, in]` */
  readonly shape: Shape
  /** Whether it consists of several modules that have names, such as q, k and v. */
  readonly isPacked: boolean
  readonly hasBias: boolean
  /** The outputs of the model that only operators of any width compute from this layer: the layer may be replaced by one of another width. */
  readonly outputs: readonly string[]
  /**
   * Reads the weight and the bias.
   *
   * @throws {FourierFTError} `UNSUPPORTED` for weights that are not floats
   */
  read(): Promise<WholeWeights>
}

/**
 * Creates an adapter. Its coefficients start at zero, so that it changes nothing until it is trained; with `initWeights: false`, and by default in a
 * complete configuration (`createConfig`), they are random, as in PEFT. Layers in its `modulesToSave` start with the model's own weights.
 *
 * @param facts.modelType the architecture in config.json, if it is known. Without `targetModules`, PEFT's default modules for it are adapted
 * @throws {FourierFTError} `MODULE_NOT_FOUND`, `INVALID_OPTION`, `INVALID_ENTRY_COUNT`, `INVALID_PATTERN`; `UNSUPPORTED` for a layer in
 *   `modulesToSave` whose weights cannot be read
 */
export async function newAdapter(
  layers: ReadonlyMap<string, NamedLayer>,
  configOrOptions: FourierFTConfig | FourierFTOptions,
  options: CreateAdapterOptions = {},
  { modelType }: Pick<ModelFacts, 'modelType'> = {},
): Promise<Adapter> {
  const config = isComplete(configOrOptions)
    ? withTaskHeads(configOrOptions)
    : createConfig({ initWeights: true, ...configOrOptions })
  const savedModules = savedModulesOf(config, [...layers.keys()])
  const linear = [...layers].filter(([, { isPacked }]) => !isPacked).map(([name]) => name)
  const outputLayer = outputLayerOf(config, linear)
  const matched = matchModules(config, layers.keys(), { linear, outputLayer, modelType }).filter(
    (name) => !savedModules.includes(name),
  )
  const layerOf = (name: string) => layers.get(name) as NamedLayer
  const shapes = Object.fromEntries(matched.map((name) => [name, layerOf(name).shape]))
  const { config: complete, modules } = createAdapter(config, shapes, options)
  const savedTensors = new Map<string, Tensor>()
  for (const name of savedModules) {
    const { shape, read } = layerOf(name)
    const { weight, bias } = await read()
    savedTensors.set(savedTensor(name, 'weight'), tensorOf(weight, shape))
    if (bias) savedTensors.set(savedTensor(name, 'bias'), tensorOf(bias, [shape[0]]))
  }
  return new Adapter({ config: complete, modules, savedTensors })
}

function isComplete(config: FourierFTConfig | FourierFTOptions): config is FourierFTConfig {
  return 'extra' in config && config.extra !== undefined
}

/** Returns the module that `all-linear` leaves out, as in PEFT. The model may have been wrapped in another module before it was exported. */
function outputLayerOf({ taskType }: FourierFTConfig, names: readonly string[]): string | null {
  const heads = taskType === 'SEQ_CLS' ? ['score', 'classifier'] : ['lm_head']
  return names.find((name) => heads.includes(name.replace(/^[^.]+\./, ''))) ?? null
}

/** Returns the layers in `modulesToSave`. A name may be missing in the model if another name is found, or if PEFT adds the name for the task. */
function savedModulesOf(config: FourierFTConfig, names: readonly string[]): string[] {
  const requested = (config.modulesToSave ?? []).filter((ending) => !isTaskHead(config, ending))
  const found = names.filter((name) => isSavedWhole(config, name))
  if (requested.length === 0 || found.length > 0) return found
  const nearest = nearestNames([...requested], names)
  throw new FourierFTError(
    'MODULE_NOT_FOUND',
    `modulesToSave: the model has no linear layer ${requested.join(', ')}; the nearest: ${nearest.join(', ') || 'none'}`,
    { option: 'modulesToSave', expected: nearest, received: requested },
  )
}

function tensorOf(values: Float32Array, shape: readonly number[]): Tensor {
  return { dtype: 'F32', shape: [...shape], bytes: encodeFloats(values, 'F32') }
}
