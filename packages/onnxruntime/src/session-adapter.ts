/** `matchAdapter`: matches the modules of an adapter to the layers of one session's model. */
import {
  type Adapter,
  FourierFTError,
  type Layer,
  type MatchedAdapter,
  readSavedModule,
  type SavedModule,
  savedModule,
} from '@fourierft/core'
import type { MatchedLayer } from './matched-layers.js'

/** What a graph needs of an adapter to apply it. */
export interface ApplicableAdapter extends MatchedAdapter {
  /** For messages. */
  readonly name: string
  /** By `MatchedLayer.key`. */
  readonly layers: ReadonlyMap<string, Layer>
  /** The modules that the adapter replaces (`modulesToSave`), by `MatchedLayer.key`. */
  readonly replacedModules: ReadonlyMap<string, ReplacedModule>
}

/** An adapter whose modules are matched to the layers of one session's model. */
export interface SessionAdapter extends ApplicableAdapter {
  /** The adapter as it was loaded. */
  readonly source: Adapter
}

/** The new weight and bias of a module that an adapter replaces (`modulesToSave`). */
export interface ReplacedModule extends SavedModule {
  readonly module: string
  readonly inFeatures: number
  /** Whether the number of output features differs from that of the model's layer. */
  readonly isResized: boolean
}

/**
 * Matches an adapter to layers.
 *
 * @param matched the layer of each module of the adapter
 * @throws {FourierFTError} `SHAPE_MISMATCH`; `UNSUPPORTED_DTYPE` and `INVALID_SAFETENSORS` for saved modules that do not fit;
 *   `INVALID_OPTION` for two modules of the same layer; and the errors of `Adapter.layer`
 */
export function matchAdapter(
  name: string,
  adapter: Adapter,
  matched: ReadonlyMap<string, MatchedLayer>,
): SessionAdapter {
  const layers = new Map<string, Layer>()
  const moduleOfLayer = new Map<string, string>()
  /** Returns the layer of a module. Each layer can have only one module. */
  const takeLayer = (module: string) => {
    const layer = matched.get(module) as MatchedLayer
    const other = moduleOfLayer.get(layer.key)
    if (other !== undefined)
      throw new FourierFTError(
        'INVALID_OPTION',
        `the modules ${other} and ${module} belong to the same layer of the model`,
        {
          module,
          received: other,
        },
      )
    moduleOfLayer.set(layer.key, module)
    return layer
  }
  for (const [module, { shape: expected }] of adapter.modules) {
    const { key, file, node, shape } = takeLayer(module)
    if (expected && (expected[0] !== shape[0] || expected[1] !== shape[1]))
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `${file}, module ${module}: the layer ${node} is [${shape.join(', ')}] ([out, in]); ` +
          `the adapter needs [${expected.join(', ')}]`,
        { file, module, expected: shape, received: expected },
      )
    layers.set(key, adapter.layer(module, shape))
  }
  const replacedModules = new Map<string, ReplacedModule>()
  for (const module of new Set(Array.from(adapter.savedTensors.keys(), (tensor) => moduleOf(tensor, name)))) {
    const layer = takeLayer(module)
    const saved = readSavedModule(adapter, module, layer)
    const [out, inFeatures] = layer.shape
    replacedModules.set(layer.key, {
      module,
      inFeatures,
      ...saved,
      isResized: saved.weight.length !== out * inFeatures,
    })
  }
  const replaces = new Map(Array.from(replacedModules, ([key, { module }]) => [key, module]))
  return { name, source: adapter, layers, replacedModules, replaces }
}

function moduleOf(tensor: string, name: string): string {
  const module = savedModule(tensor)
  if (module !== undefined) return module
  throw new FourierFTError(
    'UNSUPPORTED',
    `adapter '${name}', tensor ${tensor}: expected the weight or bias of a linear layer (modulesToSave)`,
    { tensor, received: name },
  )
}
