/** `findAdapterLayers`: finds the layers of an ONNX model for the modules of an adapter. */
import {
  type Adapter,
  FourierFTError,
  nearestNames,
  parseJson,
  type Shape,
  savedModule,
} from '@fourierft/core'
import {
  biasOf,
  checkWeight,
  decideProducts,
  findLinearLayers,
  findPackedLayers,
  joined,
  type LinearLayer,
  mappedModules,
  matchLayers,
  type OnnxModel,
  productsOf,
  type ReadExternal,
  valuesOfFreeWidth,
} from '@fourierft/onnx'
import { checkBaseTensors } from './base-tensors.js'
import { adviceFor, type ModuleNames } from './module-names.js'

/** A layer of the model. Adapters may have different names for it. */
export interface MatchedLayer {
  /** Identifies the layer in its file. It is the same each time the file is read. */
  readonly key: string
  /** For messages. */
  readonly file: string
  /** The node that computes the layer, for messages. */
  readonly node: string
  readonly shape: Shape
  readonly hasBias: boolean
  /** Whether a weight with another number of output features can replace the layer's. */
  readonly hasFreeWidth: boolean
}

export interface LayerContext {
  readonly moduleNames: ModuleNames
  /** Reads weights that may be copies of one another. */
  readonly readExternal: ReadExternal
  /** Returns the name of a module for adapters, from its name in the file. */
  readonly rename: (module: string) => string
}

/**
 * Finds the layer of each module that the adapter changes or replaces.
 *
 * @throws {FourierFTError} `MODULE_NOT_FOUND`; `SHAPE_MISMATCH` for a weight whose size contradicts its shape; `UNSUPPORTED` for an adapter
 *   of another base model
 */
export async function findAdapterLayers(
  model: OnnxModel,
  adapter: Adapter,
  context: LayerContext,
): Promise<Map<string, MatchedLayer>> {
  const { moduleNames } = context
  const layers = await decidedLayers(model, context)
  const { matched, unmatched } = matchLayers(layers, modulesOf(adapter), { map: moduleNames })
  const [missing] = unmatched
  if (missing) {
    const { module, reason, candidates } = missing
    const all = unmatched.map((item) => item.module)
    const others = all.length > 1 ? ` (${all.length - 1} further modules are not found either)` : ''
    const tensor = [...adapter.savedTensors.keys()].find((name) => savedModule(name) === module)
    const replacing = tensor === undefined ? '' : `, which tensor ${tensor} of the adapter replaces`
    throw new FourierFTError(
      'MODULE_NOT_FOUND',
      `${model.file}, module ${module}${replacing}: ${reason}${others}; the nearest: ${candidates.join(', ') || 'none'}`,
      {
        advice: adviceFor(all, layers, matched.size > 0),
        file: model.file,
        module,
        ...(tensor && { tensor }),
        expected: candidates,
        received: all,
      },
    )
  }
  const found = new Map<string, MatchedLayer>()
  for (const [module, layer] of matched) {
    checkWeight(layer)
    found.set(module, {
      key: layerKey(layer),
      file: model.file,
      node: layer.node.name,
      shape: [layer.outFeatures, layer.inFeatures],
      hasBias: biasOf(layer) !== undefined,
      hasFreeWidth: valuesOfFreeWidth(layer) !== undefined,
    })
  }
  checkBaseTensors(model, layers, adapter)
  return found
}

/** Returns the modules that an adapter changes or replaces. */
export function modulesOf({ modules, savedTensors }: Adapter): string[] {
  const saved = Array.from(savedTensors.keys(), (tensor) => savedModule(tensor) ?? '')
  return [...new Set([...modules.keys(), ...saved.filter((module) => module !== '')])]
}

/** Returns the layers whose module names are in the file or in `moduleNames`. */
export async function namedLayers(
  model: OnnxModel,
  context: LayerContext,
): Promise<Map<string, LinearLayer>> {
  const { moduleNames } = context
  const layers = await decidedLayers(model, context)
  const { matched } = matchLayers(layers, mappedModules(layers, moduleNames), { map: moduleNames })
  const byName = layers.flatMap((layer) =>
    layer.module === undefined ? [] : [[layer.module, layer] as const],
  )
  return new Map([...byName, ...matched])
}

/**
 * Returns a function that looks up layers by `MatchedLayer.key`.
 *
 * @throws {FourierFTError} `INVALID_STATE` if the file has changed
 */
export function layersByKey(model: OnnxModel): (key: string) => LinearLayer {
  const byKey = new Map(
    layersOf(model)
      .flatMap(productsOf)
      .map((product) => [productKey(product), product]),
  )
  return (key) => {
    const products = (parseJson(key, 'the key of a layer') as string[]).flatMap(
      (productKey) => byKey.get(productKey) ?? [],
    )
    if (products.length > 0) return joined(products)
    throw new FourierFTError(
      'INVALID_STATE',
      `${model.file} has changed since it was opened: it has no ${key}; the nearest: ${nearestNames([key], [...byKey.keys()]).join(', ')}`,
      { file: model.file, received: key },
    )
  }
}

function decidedLayers(model: OnnxModel, { readExternal, rename }: LayerContext): Promise<LinearLayer[]> {
  const layers = layersOf(model).map((layer) =>
    layer.module === undefined ? layer : { ...layer, module: rename(layer.module) },
  )
  return decideProducts(layers, readExternal)
}

/** Returns layers with a product for each, and layers that share a product. */
function layersOf(model: OnnxModel): LinearLayer[] {
  return [...findLinearLayers(model), ...findPackedLayers(model)]
}

/** Returns the key of a layer: the keys of its products. So it does not matter how the products were found to be one module. */
function layerKey(layer: LinearLayer): string {
  return JSON.stringify(productsOf(layer).map(productKey))
}

/**
 * Returns the key that a layer of the main graph has after its values were renamed.
 *
 * @param names new names, by the old ones
 */
export function renamedKey(key: string, names: ReadonlyMap<string, string>): string {
  const products = parseJson(key, 'the key of a layer') as string[]
  const renamed = products.map((product) => {
    const [path, output, ...part] = parseJson(product, 'the key of a layer') as [string, string, string?]
    return JSON.stringify([path, names.get(output) ?? output, ...part])
  })
  return JSON.stringify(renamed)
}

/** Returns the key of a product. The path of the graph is part of it, because the subgraphs of an `If` may use the same value names. */
function productKey({ graph, node, part }: LinearLayer): string {
  return JSON.stringify([graph.path, node.outputs[0], part?.name])
}
