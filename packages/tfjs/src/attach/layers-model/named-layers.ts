/** The layers of a model and their module names, which `targetModules` matches and adapter files contain. */
import { FourierFTError } from '@fourierft/core'
import { LayersModel } from '@tensorflow/tfjs-layers'
import { type AnyLayer, sublayers } from '../../layers-internals.js'

/** Other names for modules than the paths of their layers: a record by path, or a function of the layer and its path. */
export type ModuleNames =
  | Readonly<Record<string, string>>
  | ((layer: AnyLayer, path: string) => string | undefined)

export interface NamedLayer {
  readonly name: string
  readonly layer: AnyLayer
}

/**
 * Lists all layers that have weights of their own or contain no other layers, in the order of the model. The path of a layer is its name,
 * preceded by the names of the models, wrappers and layers that contain it, separated by dots: `encoder.query`. A layer that is used
 * several times is listed once; if it is a direct layer of the model, it has its name in the model.
 *
 * @throws {FourierFTError} `INVALID_OPTION` if two layers have the same name
 */
export function namedLayers(model: LayersModel, moduleNames: ModuleNames = {}): NamedLayer[] {
  const seen = new Set<AnyLayer>([model])
  const byName = new Map<string, NamedLayer>()
  const visit = (layer: AnyLayer, path: string, parents: readonly AnyLayer[]) => {
    if (seen.has(layer)) return
    seen.add(layer)
    const ancestors = [...parents, layer]
    const children = sublayers(layer).filter((child) => !ancestors.includes(child))
    if (hasOwnWeights(layer, children)) add(layer, path)
    // Direct layers of the model keep their names.
    const layersOfModel = new Set(layer instanceof LayersModel ? [] : model.layers)
    for (const child of children)
      if (!layersOfModel.has(child)) visit(child, `${path}.${child.name}`, ancestors)
  }
  const add = (layer: AnyLayer, path: string) => {
    const otherName =
      typeof moduleNames === 'function'
        ? moduleNames(layer, path)
        : Object.hasOwn(moduleNames, path)
          ? moduleNames[path]
          : undefined
    const name = otherName ?? path
    if (byName.has(name)) {
      throw new FourierFTError(
        'INVALID_OPTION',
        `moduleNames: two layers of the model have the name '${name}'`,
        { advice: 'give each layer its own name', option: 'moduleNames', module: name },
      )
    }
    byName.set(name, { name, layer })
  }
  for (const child of model.layers) visit(child, child.name, [model])
  return [...byName.values()]
}

/** Returns true also for a layer without children that has no weights yet. */
function hasOwnWeights(layer: AnyLayer, children: readonly AnyLayer[]): boolean {
  if (children.length === 0) return true
  const weightsOfChildren = new Set(children.flatMap(({ weights }) => weights))
  return layer.weights.some((weight) => !weightsOfChildren.has(weight))
}
