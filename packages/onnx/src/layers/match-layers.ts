/**
 * Which layer of a model each module of an adapter is. Names are compared whole, without one root segment, as other tools and versions write
 * them, or behind one prefix that all of them share, and a layer has to have the module's shape; what is not found or found twice is listed,
 * never guessed.
 */
import { nearestNames } from '@fourierft/core'
import type { OnnxGraph } from '../model/graph.js'
import type { LinearLayer } from './linear-layers.js'
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
    | 'the layer has another shape'
    | 'the map names a node that is none of the layers'
    | 'other products may be calls of the same module: name all of its nodes in a list'
  /** The nearest names (of nodes, where the map named one), or those of the layers in question. Looked for when they are read. */
  readonly candidates: readonly string[]
}

export interface MatchOptions {
  /** For what the file does not tell: the nodes of modules, or of all that a pattern means. A module of null is not looked for. */
  readonly map?: ModuleMap
}

export interface MatchedLayers {
  readonly matched: ReadonlyMap<string, LinearLayer>
  readonly unmatched: readonly UnmatchedModule[]
}

/**
 * A module's layer is the one of its name; else the one that has it behind one more root segment; else the one that has it without its
 * own, unless that is a part of the model (`decoder`) that the file's inputs do not speak for; else the one that has another spelling of it
 * (`spellingsOf`). Where this does not find all of the modules, but one prefix alone makes names of layers of every one of them, they are
 * those: `encoder.layer.0.…` in `model.model.0.auto_model.encoder.layer.0.…`.
 *
 * @param modules all modules of an adapter: name, with or without `base_model.model.` → `[d1, d2]` = [out, in], or null for any shape
 * @throws {FourierFTError} `INVALID_OPTION` for a map whose patterns are malformed or contradict each other; `INVALID_ONNX` for a file whose
 *   inputs cannot be read
 */
export function matchLayers(
  layers: readonly LinearLayer[],
  modules: Readonly<Record<string, readonly [number, number] | null>>,
  { map = {} }: MatchOptions = {},
): MatchedLayers {
  const matched = new Map<string, LinearLayer>()
  const unmatched: UnmatchedModule[] = []
  const nodeOf = readModuleMap(map)
  const sought = Object.entries(modules).map(([module, shape]) => ({
    module,
    shape,
    wanted: withoutAdapterRoot(module),
    node: nodeOf(module),
  }))
  const byName = layersByName(
    layers,
    sought.flatMap(({ wanted, node }) => (node === undefined ? [wanted] : [])),
  )
  const byLabel = productsByLabel(layers)
  for (const { module, shape, wanted, node } of sought) {
    if (node === null) continue
    const labels = typeof node === 'string' ? [node] : node
    const missing = labels?.find((label) => byLabel(label).length === 0)
    const found =
      typeof node === 'string' ? layersOf(byLabel(node)) : node ? listed(node, byLabel) : byName(wanted)
    const [layer, ...others] = found
    const [d1, d2] = shape ?? [layer?.outFeatures, layer?.inFeatures]
    const refuse = (reason: UnmatchedModule['reason'], candidates: () => readonly string[]) =>
      unmatched.push(unmatchedModule(module, reason, candidates))
    if (missing !== undefined)
      refuse('the map names a node that is none of the layers', () =>
        nearestNames([missing], layers.map(labelOf).map(shortened)),
      )
    else if (!layer)
      refuse('no layer has this name', () =>
        nearestNames(
          [wanted],
          layers.map((each) => each.module ?? shortened(labelOf(each))),
        ),
      )
    else if (others.length > 0)
      refuse('several layers have this name', () => found.map(labelOf).map(shortened))
    else if (layer.outFeatures !== d1 || layer.inFeatures !== d2)
      refuse('the layer has another shape', () => [
        `${shortened(labelOf(layer))} [${layer.outFeatures}, ${layer.inFeatures}]`,
      ])
    else if (layer.undecided)
      refuse('other products may be calls of the same module: name all of its nodes in a list', () =>
        [labelOf(layer), ...(layer.undecided ?? [])].map(shortened),
      )
    else matched.set(module, layer)
  }
  return { matched, unmatched }
}

/** Candidates take long to find, and of many modules only the first one's are told. */
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

/** For messages, which a file's names do not fill. */
function shortened(label: string): string {
  return label.length > 200 ? `${label.slice(0, 200)}…` : label
}

/** A product, and the layer that it is one of. */
interface Product {
  readonly layer: LinearLayer
  readonly product: LinearLayer
}

/**
 * The modules that the map gives a node: its keys, and for patterns what these mean with the names of the products.
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

/** What the map means by a text: the node of this name, else what makes the output of this name, else what reads the weight of this name. */
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

/** The products that a list names, and no others, as one layer; none where a name is that of no product. */
function listed(labels: readonly string[], byLabel: (label: string) => readonly Product[]): LinearLayer[] {
  const products = labels.map((label) => byLabel(label).map(({ product: { undecided: _, ...own } }) => own))
  if (products.some(({ length }) => length === 0)) return []
  const shapes = new Set(products.flat().map(({ outFeatures, inFeatures }) => `${outFeatures}×${inFeatures}`))
  return shapes.size === 1 && products.every(({ length }) => length === 1)
    ? [joined(products.flat())]
    : products.flat()
}

/** Things by some text of each of them. */
class Index<T> {
  readonly #things = new Map<string, T[]>()

  add(key: string, thing: T): void {
    const known = this.#things.get(key)
    if (!known) this.#things.set(key, [thing])
    else if (known.at(-1) !== thing) known.push(thing)
  }

  get(key: string): readonly T[] {
    return this.#things.get(key) ?? []
  }
}

function firstFound<T>(searches: Iterable<() => readonly T[]>): readonly T[] {
  for (const search of searches) {
    const found = search()
    if (found.length > 0) return found
  }
  return []
}

/** What has the name or a spelling of it, or, where that is not one layer for each of the names, what stands behind the prefix of all of them. */
function layersByName(
  layers: readonly LinearLayer[],
  names: readonly string[],
): (name: string) => readonly LinearLayer[] {
  const isInFile = partsIn(() => inputsOf(layers))
  const own = new NamedLayers(isInFile)
  for (const layer of layers) if (layer.module !== undefined) own.add(layer.module, layer)
  let others: NamedLayers | undefined
  const spelled = () => {
    const named = new NamedLayers(isInFile)
    for (const layer of layers)
      if (layer.module !== undefined)
        for (const spelling of new Set(fileSpellingsOf(layer.module))) named.add(spelling, layer)
    return named
  }
  const find = (name: string) => {
    const found = own.get(name)
    if (found.length > 0) return found
    others ??= spelled()
    const named = others
    return firstFound([
      ...spellingsOf(name, isInFile).map((spelling) => () => named.get(spelling)),
      ...partSpellingsOf(name, isInFile).map((spelling) => () => named.whole.get(spelling)),
    ])
  }
  const direct = new Map(names.map((name) => [name, find(name)]))
  const isComplete = [...direct.values()].every(({ length }) => length === 1)
  const prefixes = isComplete ? [] : sharedPrefixes(layers, names)
  return (name) => {
    const found = direct.get(name) ?? []
    // Several prefixes are no choice, but candidates.
    if (prefixes.length === 0 || (prefixes.length > 1 && found.length > 0)) return found
    return prefixes.flatMap((prefix) => own.whole.get(prefix + name))
  }
}

/** The names of what the whole graph takes. */
function inputsOf([layer]: readonly LinearLayer[]): string[] {
  let graph: OnnxGraph | undefined = layer?.graph
  while (graph?.parent) graph = graph.parent
  return graph?.inputs.flatMap(({ name }) => (graph.initializers.has(name) ? [] : [name])) ?? []
}

/** Layers by one of their names, which may have one root segment more or less than what is looked for. Never both: `encoder.x` is not `decoder.x`. */
class NamedLayers {
  readonly whole = new Index<LinearLayer>()
  readonly #rootless = new Index<LinearLayer>()
  readonly #isInFile: (part: string) => boolean

  constructor(isInFile: (part: string) => boolean) {
    this.#isInFile = isInFile
  }

  add(name: string, layer: LinearLayer): void {
    this.whole.add(name, layer)
    if (name.includes('.')) this.#rootless.add(withoutRoot(name), layer)
  }

  get(name: string): readonly LinearLayer[] {
    return firstFound([
      () => this.whole.get(name),
      () => this.#rootless.get(name),
      () => (this.#isInFile(rootOf(name)) ? this.whole.get(withoutRoot(name)) : []),
    ])
  }
}

function rootOf(name: string): string {
  return name.slice(0, Math.max(name.indexOf('.'), 0))
}

/** A name of one segment has no root that could be taken off. */
function withoutRoot(name: string): string {
  return name.slice(name.indexOf('.') + 1)
}

/** Wrappers nest a few deep. */
const MAX_PREFIX = 8

/** What was wrapped around the model before it was exported: all that ends in a dot and makes names of layers of every one of the names. */
function sharedPrefixes(layers: readonly LinearLayer[], names: readonly string[]): string[] {
  // A lone `dense` says too little.
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
