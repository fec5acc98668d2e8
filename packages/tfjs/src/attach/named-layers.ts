/** The layers of a model and what they are called: the names that `targetModules` matches and that adapter files hold. */
import { FourierFTError } from '@fourierft/core'
import { LayersModel } from '@tensorflow/tfjs-layers'
import { type AnyLayer, wrappedLayer } from './layers-internals.js'

/** Names that differ from the layers' own: by path, or as a function of the layer and its path. */
export type ModuleNames =
  | Readonly<Record<string, string>>
  | ((layer: AnyLayer, path: string) => string | undefined)

export interface NamedLayer {
  readonly name: string
  readonly layer: AnyLayer
}

/**
 * All layers that hold no others, in the order of the model. The path of a layer is its name, after those of the models and wrappers
 * that it is inside of, with points between: `encoder.query`. A layer that is used several times occurs once.
 *
 * @throws {FourierFTError} `INVALID_OPTION` where two layers have one name
 */
export function namedLayers(model: LayersModel, moduleNames: ModuleNames = {}): NamedLayer[] {
  const seen = new Set<AnyLayer>()
  const byName = new Map<string, NamedLayer>()
  const visit = (layer: AnyLayer, path: string) => {
    const inner = wrappedLayer(layer)
    if (layer instanceof LayersModel) for (const child of layer.layers) visit(child, `${path}.${child.name}`)
    else if (inner) visit(inner, `${path}.${inner.name}`)
    else if (!seen.has(layer)) add(layer, path)
  }
  const add = (layer: AnyLayer, path: string) => {
    seen.add(layer)
    const given =
      typeof moduleNames === 'function'
        ? moduleNames(layer, path)
        : Object.hasOwn(moduleNames, path)
          ? moduleNames[path]
          : undefined
    const name = given ?? path
    if (byName.has(name)) {
      throw new FourierFTError(
        'INVALID_OPTION',
        `moduleNames: two layers of the model are called '${name}'; give each its own name`,
        { option: 'moduleNames', module: name },
      )
    }
    byName.set(name, { name, layer })
  }
  for (const child of model.layers) visit(child, child.name)
  return [...byName.values()]
}
