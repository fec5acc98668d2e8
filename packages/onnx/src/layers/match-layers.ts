/**
 * Finds the layer of a model that each module of an adapter means. Names are compared whole, without one root segment, in the spellings of
 * other tools and versions, or after one prefix that all of them share. Modules without a layer, or with several, are listed, never
 * guessed.
 */
import { nearestNames } from '@fourierft/core'
import type { OnnxGraph } from '../model/graph.js'
import type { LinearLayer } from './linear-layer.js'
import { partsIn } from './model-parts.js'
import { type ModuleMap, modulesInMap, readModuleMap, withoutAdapterRoot } from './module-map.js'
import { fileSpellingsOf, partSpellingsOf, spellingsOf } from './module-spellings.js'
import { joined, labelOf, labelsOf, productsOf } from './products.js'

/** A module that was not found, and why. */
export interface UnmatchedModule {
  readonly module: string
  readonly reason:
    | 'no layer has this name'
    | 'several layers have this name'
    | 'the map names a node that is not one of the layers'
    | 'other products may be calls of the same module: name all of its nodes in a list'
  /** The nearest names, or the names of the layers in question. They are computed when they are read. */
  readonly candidates: readonly string[]
}

export interface MatchOptions {
  /** The nodes of modules that the file does not name, or of all modules that a pattern matches. Modules with null are left out. */
  readonly map?: ModuleMap
}

export interface MatchedLayers {
  readonly matched: ReadonlyMap<string, LinearLayer>
  readonly unmatched: readonly UnmatchedModule[]
}

/**
 * Matches modules to layers. A module's layer is the first of these that exists:
 *
 * 1. the layer of the same name;
 * 2. the layer whose name has one more root segment;
 * 3. the layer whose name lacks the module's root segment, unless that segment names a part of the model (`decoder`) for which the file's
 *    inputs give no evidence;
 * 4. the layer whose name is another spelling of the module's (`spellingsOf`).
 *
 * If this does not find all modules, and exactly one prefix turns the names of all of them into names of layers, the modules are those
 * layers: `encoder.layer.0.…` is `model.model.0.auto_model.encoder.layer.0.…`.
 *
 * Shapes are not compared: PEFT's files have none, and `attachBranches` and `bakeBranches` check them.
 *
 * @param modules the names of all modules of an adapter, with or without `base_model.model.`
 * @throws {FourierFTError} `INVALID_OPTION` if patterns of the map are malformed or contradict each other; `INVALID_ONNX` if the file's
 *   inputs cannot be read
 */
export function matchLayers(
  layers: readonly LinearLayer[],
  modules: Iterable<string>,
  { map = {} }: MatchOptions = {},
): MatchedLayers {
  const matched = new Map<string, LinearLayer>()
  const unmatched: UnmatchedModule[] = []
  const nodeOf = readModuleMap(map)
  const searches = Array.from(new Set(modules), (module) => ({
    module,
    wanted: withoutAdapterRoot(module),
    node: nodeOf(module),
  }))
  const byName = layersByName(
    layers,
    searches.flatMap(({ wanted, node }) => (node === undefined ? [wanted] : [])),
  )
  const byLabel = productsByLabel(layers)
  for (const { module, wanted, node } of searches) {
    if (node === null) continue
    const labels = typeof node === 'string' ? [node] : node
    const missing = labels?.find((label) => byLabel(label).length === 0)
    const found =
      typeof node === 'string' ? layersOf(byLabel(node)) : node ? listedLayers(node, byLabel) : byName(wanted)
    const [layer, ...others] = found
    const reject = (reason: UnmatchedModule['reason'], candidates: () => readonly string[]) =>
      unmatched.push(unmatchedModule(module, reason, candidates))
    if (missing !== undefined)
      reject('the map names a node that is not one of the layers', () =>
        nearestNames([missing], layers.map(labelOf).map(shortened)),
      )
    else if (!layer)
      reject('no layer has this name', () =>
        nearestNames(
          [wanted],
          layers.map((other) => other.module ?? shortened(labelOf(other))),
        ),
      )
    else if (others.length > 0)
      reject('several layers have this name', () => found.map(labelOf).map(shortened))
    else if (layer.undecided)
      reject('other products may be calls of the same module: name all of its nodes in a list', () =>
        [labelOf(layer), ...(layer.undecided ?? [])].map(shortened),
      )
    else matched.set(module, layer)
  }
  return { matched, unmatched }
}

/** Computes the candidates when they are read, because that takes long and callers print only those of the first module. */
function unmatchedModule(
  module: string,
  reason: UnmatchedModule['reason'],
  find: () => readonly string[],
): UnmatchedModule {
  let found: readonly string[] | undefined
  return {
    module,
    reason,
    get candidates() {
      found ??= find()
      return found
    },
  }
}

/** Keeps a long name of a file from filling a message. */
function shortened(label: string): string {
  return label.length > 200 ? `${label.slice(0, 200)}…` : label
}

/** A product and its layer. */
interface Product {
  readonly layer: LinearLayer
  readonly product: LinearLayer
}

/**
 * Returns the modules to which the map assigns a node: its keys, and the names that its patterns make from the names of the products.
 *
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function mappedModules(layers: readonly LinearLayer[], map: ModuleMap): string[] {
  const products = layers.flatMap(productsOf)
  return modulesInMap(
    map,
    products.flatMap((product) => Object.values(labelsOf(product)).filter((label) => label !== undefined)),
  )
}

/** Finds the products that a label of the map means: the node of that name, else the writer of that output, else the readers of that weight. */
function productsByLabel(layers: readonly LinearLayer[]): (label: string) => readonly Product[] {
  let indexes: readonly Index<Product>[] | undefined
  const indexed = () => {
    const [nodes, outputs, weights] = [new Index<Product>(), new Index<Product>(), new Index<Product>()]
    for (const layer of layers)
      for (const product of productsOf(layer)) {
        const { node, output, weight } = labelsOf(product)
        if (node !== undefined) nodes.add(node, { layer, product })
        outputs.add(output, { layer, product })
        weights.add(weight, { layer, product })
      }
    return [nodes, outputs, weights]
  }
  return (label) => {
    indexes ??= indexed()
    return firstFound(indexes.map((index) => () => index.get(label)))
  }
}

function layersOf(products: readonly Product[]): LinearLayer[] {
  return [...new Set(products.map(({ layer }) => layer))]
}

/** Returns the products that a list names, joined into one layer; empty if a name is not that of a product. */
function listedLayers(
  labels: readonly string[],
  byLabel: (label: string) => readonly Product[],
): LinearLayer[] {
  const products = labels.map((label) => byLabel(label).map(({ product: { undecided: _, ...rest } }) => rest))
  if (products.some(({ length }) => length === 0)) return []
  const shapes = new Set(products.flat().map(({ outFeatures, inFeatures }) => `${outFeatures}×${inFeatures}`))
  return shapes.size === 1 && products.every(({ length }) => length === 1)
    ? [joined(products.flat())]
    : products.flat()
}

/** Lists of items by key. */
class Index<T> {
  readonly #items = new Map<string, T[]>()

  add(key: string, item: T): void {
    const items = this.#items.get(key)
    if (!items) this.#items.set(key, [item])
    else if (items.at(-1) !== item) items.push(item)
  }

  get(key: string): readonly T[] {
    return this.#items.get(key) ?? []
  }
}

function firstFound<T>(searches: Iterable<() => readonly T[]>): readonly T[] {
  for (const search of searches) {
    const found = search()
    if (found.length > 0) return found
  }
  return []
}

/** Finds layers by a name or a spelling of it. If that does not give one layer for each name, finds them after a prefix that all names share. */
function layersByName(
  layers: readonly LinearLayer[],
  names: readonly string[],
): (name: string) => readonly LinearLayer[] {
  const isInFile = partsIn(() => inputsOf(layers))
  const byModule = new NamedLayers(isInFile)
  for (const layer of layers) if (layer.module !== undefined) byModule.add(layer.module, layer)
  let bySpelling: NamedLayers | undefined
  const indexSpellings = () => {
    const named = new NamedLayers(isInFile)
    for (const layer of layers)
      if (layer.module !== undefined)
        for (const spelling of new Set(fileSpellingsOf(layer.module))) named.add(spelling, layer)
    return named
  }
  const find = (name: string) => {
    const found = byModule.get(name)
    if (found.length > 0) return found
    bySpelling ??= indexSpellings()
    const named = bySpelling
    return firstFound([
      ...spellingsOf(name, isInFile).map((spelling) => () => named.get(spelling)),
      ...partSpellingsOf(name, isInFile).map((spelling) => () => named.fullNames.get(spelling)),
    ])
  }
  const direct = new Map(names.map((name) => [name, find(name)]))
  const isComplete = [...direct.values()].every(({ length }) => length === 1)
  const prefixes = isComplete ? [] : sharedPrefixes(layers, names)
  return (name) => {
    const found = direct.get(name) ?? []
    // Several prefixes are candidates, not a match.
    if (prefixes.length === 0 || (prefixes.length > 1 && found.length > 0)) return found
    return prefixes.flatMap((prefix) => byModule.fullNames.get(prefix + name))
  }
}

/** Returns the names of the model's inputs. */
function inputsOf([layer]: readonly LinearLayer[]): string[] {
  let graph: OnnxGraph | undefined = layer?.graph
  while (graph?.parent) graph = graph.parent
  return graph?.inputs.flatMap(({ name }) => (graph.initializers.has(name) ? [] : [name])) ?? []
}

/** Layers by name. A name may have one root segment more or less than the layer's, but not a different one: `encoder.x` is not `decoder.x`. */
class NamedLayers {
  readonly fullNames = new Index<LinearLayer>()
  readonly #rootless = new Index<LinearLayer>()
  readonly #isInFile: (part: string) => boolean

  constructor(isInFile: (part: string) => boolean) {
    this.#isInFile = isInFile
  }

  add(name: string, layer: LinearLayer): void {
    this.fullNames.add(name, layer)
    if (name.includes('.')) this.#rootless.add(withoutRoot(name), layer)
  }

  get(name: string): readonly LinearLayer[] {
    return firstFound([
      () => this.fullNames.get(name),
      () => this.#rootless.get(name),
      () => (this.#isInFile(rootOf(name)) ? this.fullNames.get(withoutRoot(name)) : []),
    ])
  }
}

function rootOf(name: string): string {
  return name.slice(0, Math.max(name.indexOf('.'), 0))
}

/** Removes the first segment, unless it is the only one. */
function withoutRoot(name: string): string {
  return name.slice(name.indexOf('.') + 1)
}

/** The largest number of segments of a prefix: wrappers are nested only a few deep. */
const MAX_PREFIX = 8

/** Returns the prefixes, each ending in a dot, that turn every name into the name of a layer. A wrapper added them before the export. */
function sharedPrefixes(layers: readonly LinearLayer[], names: readonly string[]): string[] {
  // Names of one segment, such as `dense`, are not specific enough.
  if (!names.some((name) => name.includes('.'))) return []
  const wanted = new Set(names)
  const counts = new Map<string, number>()
  for (const module of new Set(layers.flatMap(({ module }) => module ?? []))) {
    let end = 0
    for (let depth = 0; depth < MAX_PREFIX; depth++) {
      end = module.indexOf('.', end) + 1
      if (end === 0) break
      if (!wanted.has(module.slice(end))) continue
      const prefix = module.slice(0, end)
      counts.set(prefix, (counts.get(prefix) ?? 0) + 1)
    }
  }
  return [...counts].flatMap(([prefix, count]) => (count === wanted.size ? [prefix] : []))
}
