/** Which layers of a model an adapter changes, and the branches of the graph that serves several adapters at once. */
import {
  type Adapter,
  type Applied,
  createLayer,
  type Entries,
  FourierFTError,
  type Layer,
  nearestNames,
  parseJson,
  readSavedModule,
  type SavedModule,
  type MatchedAdapter as SetAdapter,
  type Shape,
  savedModule,
} from '@fourierft/core'
import {
  type AttachedInputs,
  attachBranches,
  bakeBranches,
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
import { entriesUnion } from './entries-union.js'
import { adviceFor, type ModuleNames } from './module-names.js'

/** A layer of the file: adapters may call it by different names. */
export interface LayerPlace {
  /** Differs for each layer of the file, and is the same whenever the file is read. */
  readonly key: string
  /** For messages. */
  readonly file: string
  /** The node that computes the layer, for messages. */
  readonly node: string
  readonly shape: Shape
  readonly hasBias: boolean
  /** Whether a weight of another `out` can replace the layer's. */
  readonly hasFreeWidth: boolean
}

/** An adapter whose layers are found. */
export interface MatchedAdapter extends SetAdapter {
  /** For messages. */
  readonly name: string
  /** As it was loaded. */
  readonly source: Adapter
  /** By `LayerPlace.key`. */
  readonly layers: ReadonlyMap<string, Layer>
  /** The layers that it replaces (`modulesToSave`), by `LayerPlace.key`. */
  readonly wholes: ReadonlyMap<string, WholeLayer>
}

/** A module that an adapter saves whole. */
export interface WholeLayer extends SavedModule {
  readonly module: string
  readonly inFeatures: number
  /** It has another number of output features than the layer of the model. */
  readonly isResized: boolean
}

/** What a graph has for adapters, by `LayerPlace.key`. */
export interface Plan {
  /** What the branches are called, and all places of the spectrum that adapters have there. */
  readonly branches: ReadonlyMap<string, { readonly module: string; readonly entries: Entries }>
  /** The layers that can be replaced, what they are called, and whether by one of another width. */
  readonly wholes: ReadonlyMap<string, ReplaceablePlan>
}

/** A layer that can be replaced. */
export interface ReplaceablePlan {
  readonly module: string
  readonly inFeatures: number
  readonly hasFreeWidth: boolean
}

/** The model as it is. */
export const EMPTY_PLAN: Plan = { branches: new Map(), wholes: new Map() }

/**
 * Finds each module of the adapter, adapted or saved whole, among the layers of the model.
 *
 * @param readExternal used where weights may be copies of one another
 * @throws {FourierFTError} `MODULE_NOT_FOUND`, `SHAPE_MISMATCH` for a weight that is not as the file says, `UNSUPPORTED` for an adapter of
 *   another base model
 */
export async function findPlaces(
  model: OnnxModel,
  adapter: Adapter,
  moduleNames: ModuleNames,
  readExternal: ReadExternal,
): Promise<Map<string, LayerPlace>> {
  const layers = await decideProducts(layersOf(model), readExternal)
  const { matched, unmatched } = matchLayers(layers, modulesOf(adapter), { map: moduleNames })
  const [missing] = unmatched
  if (missing) {
    const { module, reason, candidates } = missing
    const all = unmatched.map((each) => each.module)
    const others = all.length > 1 ? ` (${all.length - 1} further modules are not found either)` : ''
    const tensor = [...adapter.savedTensors.keys()].find((name) => savedModule(name) === module)
    const whole = tensor === undefined ? '' : `, which tensor ${tensor} of the adapter replaces`
    throw new FourierFTError(
      'MODULE_NOT_FOUND',
      `${model.file}, module ${module}${whole}: ${reason}${others}; the nearest: ${candidates.join(', ') || 'none'}. ` +
        adviceFor(all, layers, matched.size > 0),
      { file: model.file, module, ...(tensor && { tensor }), expected: candidates, received: all },
    )
  }
  const places = new Map<string, LayerPlace>()
  for (const [module, layer] of matched) {
    checkWeight(layer)
    places.set(module, {
      key: keyOf(layer),
      file: model.file,
      node: layer.node.name,
      shape: [layer.outFeatures, layer.inFeatures],
      hasBias: biasOf(layer) !== undefined,
      hasFreeWidth: valuesOfFreeWidth(layer) !== undefined,
    })
  }
  checkBaseTensors(model, layers, adapter)
  return places
}

/** The modules that an adapter changes or replaces. */
export function modulesOf({ modules, savedTensors }: Adapter): string[] {
  const saved = Array.from(savedTensors.keys(), (tensor) => savedModule(tensor) ?? '')
  return [...new Set([...modules.keys(), ...saved.filter((module) => module !== '')])]
}

/**
 * The adapter's layers at their places.
 *
 * @throws {FourierFTError} `SHAPE_MISMATCH`; `UNSUPPORTED_DTYPE` and `INVALID_SAFETENSORS` for whole weights
 *   (`modulesToSave`) that do not fit, `INVALID_OPTION` for two modules of one layer, and what `Adapter.layer` throws
 */
export function placeAdapter(
  name: string,
  adapter: Adapter,
  places: ReadonlyMap<string, LayerPlace>,
): MatchedAdapter {
  const layers = new Map<string, Layer>()
  const taken = new Map<string, string>()
  const take = (module: string) => {
    const place = places.get(module) as LayerPlace
    const other = taken.get(place.key)
    if (other !== undefined)
      throw new FourierFTError(
        'INVALID_OPTION',
        `the modules ${other} and ${module} are one layer of the model`,
        {
          module,
          received: other,
        },
      )
    taken.set(place.key, module)
    return place
  }
  for (const [module, { shape: own }] of adapter.modules) {
    const { key, file, node, shape } = take(module)
    if (own && (own[0] !== shape[0] || own[1] !== shape[1]))
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `${file}, module ${module}: the layer ${node} is [${shape.join(', ')}] ([out, in]); ` +
          `the adapter was made for [${own.join(', ')}]`,
        { file, module, expected: shape, received: own },
      )
    layers.set(key, adapter.layer(module, shape))
  }
  const wholes = new Map<string, WholeLayer>()
  for (const module of new Set(Array.from(adapter.savedTensors.keys(), (tensor) => moduleOf(tensor, name)))) {
    const place = take(module)
    const whole = readSavedModule(adapter, module, place)
    const [out, inFeatures] = place.shape
    wholes.set(place.key, {
      module,
      inFeatures,
      ...whole,
      isResized: whole.weight.length !== out * inFeatures,
    })
  }
  const replaces = new Map(Array.from(wholes, ([key, { module }]) => [key, module]))
  return { name, source: adapter, layers, wholes, replaces }
}

function moduleOf(tensor: string, name: string): string {
  const module = savedModule(tensor)
  if (module !== undefined) return module
  throw new FourierFTError(
    'UNSUPPORTED',
    `adapter '${name}', tensor ${tensor}: expected weight or bias of a module saved whole (modulesToSave)`,
    { tensor, received: name },
  )
}

/**
 * What serves all of the adapters.
 *
 * @throws {FourierFTError} `UNSUPPORTED` where one changes a layer to which another one gives another width
 */
export function planFor(adapters: readonly MatchedAdapter[]): Plan {
  const all = new Map<string, { module: string; entries: Entries[] }>()
  for (const { layers } of adapters) {
    for (const [key, { name, entries }] of layers) {
      const known = all.get(key)
      if (known) known.entries.push(entries)
      else all.set(key, { module: name, entries: [entries] })
    }
  }
  const wholes = new Map<string, ReplaceablePlan>()
  for (const { name, wholes: own } of adapters)
    for (const [key, { module, inFeatures, isResized }] of own) {
      const known = wholes.get(key)
      wholes.set(key, {
        module: known?.module ?? module,
        inFeatures,
        hasFreeWidth: isResized || (known?.hasFreeWidth ?? false),
      })
      const other = isResized && adapters.find(({ layers }) => layers.has(key))
      if (other)
        throw new FourierFTError(
          'UNSUPPORTED',
          `adapter '${name}' replaces layer '${module}' by one of another size, and adapter '${other.name}' changes the layer that the ` +
            'model has; load them into sessions of their own',
          { module, received: [name, other.name] },
        )
    }
  return {
    branches: new Map(
      Array.from(all, ([key, { module, entries }]) => [key, { module, entries: entriesUnion(entries) }]),
    ),
    wholes,
  }
}

/** Adds what the plan has to the model that the plan was made for. */
export function attachPlan(model: OnnxModel, plan: Plan): AttachedInputs {
  const layerAt = layersByKey(model)
  const branches = Array.from(plan.branches, ([key, branch]) => ({ ...branch, layer: layerAt(key) }))
  const replaceable = Array.from(plan.wholes, ([key, whole]) => ({ ...whole, layer: layerAt(key) }))
  return attachBranches(model, branches, { replaceable })
}

/** Puts adapters into the weights of the model in which they were placed: ΔW at its strength, and whole layers in the place of others. */
export async function bakeAdapters(
  model: OnnxModel,
  added: readonly Applied<MatchedAdapter>[],
  readExternal: ReadExternal,
): Promise<void> {
  const layerAt = layersByKey(model)
  const wholes = new Map(added.flatMap(({ adapter }) => [...adapter.wholes]))
  const keys = new Set([...added.flatMap(({ adapter }) => [...adapter.layers.keys()]), ...wholes.keys()])
  const baked = Array.from(keys, (key) => {
    const whole = wholes.get(key)
    const adapters = added.flatMap(({ adapter, scale }) => {
      const layer = adapter.layers.get(key)
      return layer ? [createLayer({ ...layer, scaling: layer.scaling * scale })] : []
    })
    return { layer: layerAt(key), adapters, ...(whole && { whole }) }
  })
  await bakeBranches(model, baked, { readExternal, inlineUpTo: Number.POSITIVE_INFINITY })
}

/** Those that have a product, and those that share one. */
function layersOf(model: OnnxModel): LinearLayer[] {
  return [...findLinearLayers(model), ...findPackedLayers(model)]
}

function layersByKey(model: OnnxModel): (key: string) => LinearLayer {
  const byKey = new Map(
    layersOf(model)
      .flatMap(productsOf)
      .map((product) => [productKey(product), product]),
  )
  return (key) => {
    const products = (parseJson(key, 'the key of a layer') as string[]).flatMap((one) => byKey.get(one) ?? [])
    if (products.length > 0) return joined(products)
    throw new FourierFTError(
      'INVALID_STATE',
      `${model.file} is another file now: it has no ${key}; the nearest: ${nearestNames([key], [...byKey.keys()]).join(', ')}`,
      { file: model.file, received: key },
    )
  }
}

/** Of all products of the module, which are found by it again, whoever found out that they are of one module. */
function keyOf(layer: LinearLayer): string {
  return JSON.stringify(productsOf(layer).map(productKey))
}

/** Branches of an `If` may call their values the same. */
function productKey({ graph, node, part }: LinearLayer): string {
  return JSON.stringify([graph.path, node.outputs[0], part?.name])
}

/** The layers whose modules' names the file tells, or the user. */
export async function namedLayers(
  model: OnnxModel,
  moduleNames: ModuleNames,
  readExternal: ReadExternal,
): Promise<Map<string, LinearLayer>> {
  const layers = await decideProducts(layersOf(model), readExternal)
  const { matched } = matchLayers(layers, mappedModules(layers, moduleNames), { map: moduleNames })
  const byName = layers.flatMap((layer) =>
    layer.module === undefined ? [] : [[layer.module, layer] as const],
  )
  return new Map([...byName, ...matched])
}
