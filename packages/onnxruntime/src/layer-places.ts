/** Which layers of a model an adapter changes, and the branches of the graph that serves several adapters at once. */
import {
  type Adapter,
  type Entries,
  FourierFTError,
  type Layer,
  nearestNames,
  type Shape,
} from '@fourierft/core'
import {
  type AttachedInputs,
  attachBranches,
  bakeBranches,
  DataType,
  findLinearLayers,
  type LinearLayer,
  matchLayers,
  type OnnxModel,
  type ReadExternal,
} from '@fourierft/onnx'
import { entriesUnion } from './entries-union.js'

/** A layer of the file: adapters may call it by different names. */
export interface LayerPlace {
  /** Differs for each layer of the file, and is the same whenever the file is read. */
  readonly key: string
  readonly shape: Shape
}

/** An adapter whose layers are found. */
export interface PlacedAdapter {
  readonly name: string
  /** By `LayerPlace.key`. */
  readonly layers: ReadonlyMap<string, Layer>
}

/** The branches of a graph by `LayerPlace.key`: what they are called, and all places of the spectrum that adapters have there. */
export type Plan = ReadonlyMap<string, { readonly module: string; readonly entries: Entries }>

/**
 * Finds each module of the adapter among the layers of the model.
 *
 * @param map module → name of its node, for what the file does not tell
 * @throws {FourierFTError} `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`
 */
export function findPlaces(
  model: OnnxModel,
  { modules }: Adapter,
  map: Readonly<Record<string, string>>,
): Map<string, LayerPlace> {
  const layers = findLinearLayers(model)
  // PEFT's files hold no shapes: names are matched first.
  const named = new Map(layers.map((layer) => [{ ...layer, outFeatures: 0, inFeatures: 0 }, layer]))
  const wanted = Object.fromEntries(Array.from(modules.keys(), (module) => [module, [0, 0] as const]))
  const { matched, unmatched } = matchLayers([...named.keys()], wanted, { map })
  const [missing] = unmatched
  if (missing) {
    const { module, reason, candidates } = missing
    const others = unmatched.length > 1 ? ` (and for ${unmatched.length - 1} further modules)` : ''
    throw new FourierFTError(
      'MODULE_NOT_FOUND',
      `${model.file}, module ${module}: ${reason}${others}; the nearest: ${candidates.join(', ') || 'none'}. ` +
        'The option moduleNames gives modules the names of their nodes',
      { file: model.file, module, expected: candidates, received: module },
    )
  }
  const places = new Map<string, LayerPlace>()
  for (const [module, erased] of matched) {
    const layer = named.get(erased) as LinearLayer
    const shape = [layer.outFeatures, layer.inFeatures] as const
    const own = modules.get(module)?.shape
    if (own && (own[0] !== shape[0] || own[1] !== shape[1]))
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `${model.file}, module ${module}: the layer ${layer.node.name} is [${shape.join(', ')}] ([out, in]); ` +
          `the adapter was made for [${own.join(', ')}]`,
        { file: model.file, module, expected: shape, received: own },
      )
    places.set(module, { key: keyOf(layer), shape })
  }
  return places
}

/**
 * The adapter's layers at their places.
 *
 * @throws {FourierFTError} `UNSUPPORTED` for whole weights (`modulesToSave`), `INVALID_OPTION` for two modules of one layer, and what
 *   `Adapter.layer` throws
 */
export function placeAdapter(
  name: string,
  adapter: Adapter,
  places: ReadonlyMap<string, LayerPlace>,
): PlacedAdapter {
  const [saved] = adapter.savedTensors.keys()
  if (saved !== undefined)
    throw new FourierFTError(
      'UNSUPPORTED',
      `adapter '${name}' replaces whole weights (modulesToSave): ${saved}; a graph's weights cannot be replaced, bake them into the file`,
      { tensor: saved, received: name },
    )
  const layers = new Map<string, Layer>()
  for (const module of adapter.modules.keys()) {
    const { key, shape } = places.get(module) as LayerPlace
    const other = layers.get(key)?.name
    if (other !== undefined)
      throw new FourierFTError(
        'INVALID_OPTION',
        `the modules ${other} and ${module} are one layer of the model`,
        {
          module,
          received: other,
        },
      )
    layers.set(key, adapter.layer(module, shape))
  }
  return { name, layers }
}

/** The branches that serve all of the adapters. */
export function planFor(adapters: readonly PlacedAdapter[]): Plan {
  const all = new Map<string, { module: string; entries: Entries[] }>()
  for (const { layers } of adapters) {
    for (const [key, { name, entries }] of layers) {
      const known = all.get(key)
      if (known) known.entries.push(entries)
      else all.set(key, { module: name, entries: [entries] })
    }
  }
  return new Map(
    Array.from(all, ([key, { module, entries }]) => [key, { module, entries: entriesUnion(entries) }]),
  )
}

/** Adds the plan's branches to the model that the plan was made for. */
export function attachPlan(model: OnnxModel, plan: Plan): AttachedInputs {
  const layerAt = layersByKey(model)
  const branches = Array.from(plan, ([key, branch]) => ({ ...branch, layer: layerAt(key) }))
  const isHalf = branches.some(
    ({ layer: { graph, weight } }) => graph.initializers.get(weight)?.dataType === DataType.float16,
  )
  return attachBranches(model, branches, { activations: isHalf ? DataType.float16 : DataType.float })
}

/** Adds ΔW of the adapters to the weights of the model in which they were placed. */
export async function bakeAdapters(
  model: OnnxModel,
  adapters: readonly PlacedAdapter[],
  readExternal: ReadExternal,
): Promise<void> {
  const layerAt = layersByKey(model)
  const keys = new Set(adapters.flatMap(({ layers }) => [...layers.keys()]))
  const baked = Array.from(keys, (key) => ({
    layer: layerAt(key),
    adapters: adapters.flatMap(({ layers }) => layers.get(key) ?? []),
  }))
  await bakeBranches(model, baked, { readExternal, inlineUpTo: Number.POSITIVE_INFINITY })
}

function layersByKey(model: OnnxModel): (key: string) => LinearLayer {
  const byKey = new Map(findLinearLayers(model).map((layer) => [keyOf(layer), layer]))
  return (key) => {
    const layer = byKey.get(key)
    if (layer) return layer
    throw new FourierFTError(
      'INVALID_STATE',
      `${model.file} is another file now: it has no ${key}; the nearest: ${nearestNames([key], [...byKey.keys()]).join(', ')}`,
      { file: model.file, received: key },
    )
  }
}

function keyOf({ node, part }: LinearLayer): string {
  return part ? `${node.outputs[0]}:${part.name}` : String(node.outputs[0])
}
