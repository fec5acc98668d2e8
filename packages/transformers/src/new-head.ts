/** `withNewHead`: gives an adapter a head of its own for other labels than the model's, or for a model without a head. */
import {
  Adapter,
  encodeFloats,
  FourierFTError,
  isSavedWhole,
  type Shape,
  savedTensor,
  standardNormal,
  type Tensor,
  withTaskHeads,
} from '@fourierft/core'
import type { NamedLayer } from '@fourierft/onnxruntime/host'

/** The layers of a model, and those that make its head. */
export interface HeadLayers {
  readonly layers: ReadonlyMap<string, NamedLayer>
  /** The module of the layer that computes the logits. */
  readonly output: string
  /** The modules of a head that the model's file does not have. */
  readonly missing: readonly string[]
}

export interface NewHeadOptions {
  /** The number of labels. */
  readonly labels: number
  /** For the weights, an integer; taken modulo 2³². */
  readonly seed: number
  /** PEFT's name of the task. It is set if the adapter has none. */
  readonly taskType?: string | null
}

/** The standard deviation of new weights, `initializer_range` in the configurations of transformers. */
const DEVIATION = 0.02

/** Returns the modules of the adapter that a new head replaces, so that it does not adapt them any more. */
export function modulesInHead(
  adapter: Adapter,
  head: HeadLayers,
  { taskType = null }: Pick<NewHeadOptions, 'taskType'>,
): ReadonlySet<string> {
  const config = configWithHead(adapter, head, taskType)
  return new Set([...adapter.modules.keys()].filter((module) => isSavedWhole(config, module)))
}

/**
 * Returns a copy of the adapter with a new head. The layer that computes the logits, and layers that the model's file does not have, get weights from
 * the seed (normal, standard deviation 0.02) and zeros as biases, as transformers makes them. Other layers that PEFT saves with the head
 * (RoBERTa's `classifier.dense`) keep the adapter's or the model's weights, if these are floats. Layers of the head are not adapted any more.
 *
 * @throws {FourierFTError} the errors of `NamedLayer.read`
 */
export async function withNewHead(
  adapter: Adapter,
  head: HeadLayers,
  { labels, seed, taskType = null }: NewHeadOptions,
): Promise<Adapter> {
  const { layers, output, missing } = head
  const config = configWithHead(adapter, head, taskType)
  const normal = standardNormal(seed)
  const savedTensors = new Map<string, Tensor>(adapter.savedTensors)
  for (const [module, layer] of layers) {
    if (!isSavedWhole(config, module)) continue
    const [out, inFeatures] = layer.shape
    const shape: Shape = [module === output ? labels : out, inFeatures]
    const names = { weight: savedTensor(module, 'weight'), bias: savedTensor(module, 'bias') }
    if (module !== output && savedTensors.get(names.weight)?.shape.join() === shape.join()) continue
    const kept = module === output || missing.includes(module) ? undefined : await readFloats(layer)
    const weight =
      kept?.weight ?? Float32Array.from({ length: shape[0] * shape[1] }, () => DEVIATION * normal())
    const bias = kept?.bias ?? new Float32Array(shape[0])
    savedTensors.set(names.weight, tensorOf(weight, shape))
    if (layer.hasBias) savedTensors.set(names.bias, tensorOf(bias, [shape[0]]))
  }
  const modules = new Map([...adapter.modules].filter(([module]) => !isSavedWhole(config, module)))
  const { baseTensors, ignoredTensors, metadata } = adapter
  return new Adapter({ config, modules, savedTensors, baseTensors, ignoredTensors, metadata })
}

function configWithHead(
  { config }: Adapter,
  { output, missing }: HeadLayers,
  taskType: string | null,
): Adapter['config'] {
  return withModules({ ...config, taskType: config.taskType ?? taskType }, [...new Set([...missing, output])])
}

/** Adds modules to `modulesToSave`. Modules of one parent are saved by the parent's name, as PEFT's task types name it. */
function withModules(config: Adapter['config'], modules: readonly string[]): Adapter['config'] {
  const complete = withTaskHeads(config)
  const others = modules.filter((module) => !isSavedWhole(complete, module))
  if (others.length === 0) return complete
  const parents = new Set(others.map((module) => module.slice(0, Math.max(0, module.lastIndexOf('.')))))
  const [parent] = parents
  const names = others.length > 1 && parents.size === 1 && parent ? [parent] : others
  return { ...complete, modulesToSave: [...(complete.modulesToSave ?? []), ...names] }
}

/** Reads a layer's weights; undefined if they are quantised. */
async function readFloats(layer: NamedLayer) {
  try {
    return await layer.read()
  } catch (error) {
    if (FourierFTError.isInstance(error) && error.code === 'UNSUPPORTED') return undefined
    throw error
  }
}

function tensorOf(values: Float32Array, shape: readonly number[]): Tensor {
  return { dtype: 'F32', shape: [...shape], bytes: encodeFloats(values, 'F32') }
}
