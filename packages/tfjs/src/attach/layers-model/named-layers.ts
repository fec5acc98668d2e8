/** The layers of a model and what they are called: the names that `targetModules` matches and that adapter files hold. */
import { FourierFTError } from '@fourierft/core'
import { LayersModel } from '@tensorflow/tfjs-layers'
import { type AnyLayer, sublayers } from '../../layers-internals.js'

/** Names that differ from the layers' own: by path, or as a function of the layer and its path. */
export type ModuleNames =
  | Readonly<Record<string, string>>
  | ((layer: AnyLayer, path: string) => string | undefined)

export interface NamedLayer {
  readonly name: string
  readonly layer: AnyLayer
}

/**
 * All layers that have weights of their own or hold no others, in the order of the model. The path of a layer is its name, after those of
 * the models, wrappers and other layers that it is inside of, with points between: `encoder.query`. A layer that is used several times
 * occurs once, by the name that the model has for it.
 *
 * @throws {FourierFTError} `INVALID_OPTION` where two layers have one name
 */
export function namedLayers(model: LayersModel, moduleNames: ModuleNames = {}): NamedLayer[] {
  const seen = new Set<AnyLayer>([model])
  const byName = new Map<string, NamedLayer>()
  const visit = (layer: AnyLayer, path: string, holders: readonly AnyLayer[]) => {
    if (seen.has(layer)) return
    seen.add(layer)
    const around = [...holders, layer]
    const parts = sublayers(layer).filter((part) => !around.includes(part))
    if (hasOwnWeights(layer, parts)) add(layer, path)
    const named = new Set(layer instanceof LayersModel ? [] : model.layers)
    for (const part of parts) if (!named.has(part)) visit(part, `${path}.${part.name}`, around)
  }
  const add = (layer: AnyLayer, path: string) => {
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
  for (const child of model.layers) visit(child, child.name, [model])
  return [...byName.values()]
}

/** A layer without parts counts as one that has. */
function hasOwnWeights(layer: AnyLayer, parts: readonly AnyLayer[]): boolean {
  if (parts.length === 0) return true
  const held = new Set(parts.flatMap(({ weights }) => weights))
  return layer.weights.some((weight) => !held.has(weight))
}
