/**
 * Which layer of a model each module of an adapter is. Names are compared whole, without one root segment, or behind one prefix that
 * all of them share, and a layer has to have the module's shape; what is not found or found twice is listed, never guessed.
 */
import { nearestNames } from '@fourierft/core'
import type { LinearLayer } from './linear-layers.js'

/** A module that was not found, and why. */
export interface UnmatchedModule {
  readonly module: string
  readonly reason:
    | 'no layer has this name'
    | 'several layers have this name'
    | 'the layer has another shape'
    | 'the map names a node that is none of the layers'
  /** The nearest names (of nodes, where the map named one), or those of the layers in question. */
  readonly candidates: readonly string[]
}

export interface MatchOptions {
  /**
   * Module name → name of the product's node, for what the file does not tell; `name:q` (k, v) is a part of a packed product. null: the
   * file does not have the module, which is not looked for.
   */
  readonly map?: Readonly<Record<string, string | null>>
}

export interface MatchedLayers {
  readonly matched: ReadonlyMap<string, LinearLayer>
  readonly unmatched: readonly UnmatchedModule[]
}

/**
 * A module's layer is the one of its name; else the one that has it behind one more root segment; else the one that has it without its
 * own. Where this does not find all of the modules, but one prefix alone makes names of layers of every one of them, they are those:
 * `encoder.layer.0.…` in `model.model.0.auto_model.encoder.layer.0.…`.
 *
 * @param modules all modules of an adapter: name, with or without `base_model.model.` → `[d1, d2]` = [out, in]
 */
export function matchLayers(
  layers: readonly LinearLayer[],
  modules: Readonly<Record<string, readonly [number, number]>>,
  { map = {} }: MatchOptions = {},
): MatchedLayers {
  const matched = new Map<string, LinearLayer>()
  const unmatched: UnmatchedModule[] = []
  const sought = Object.entries(modules).map(([module, shape]) => {
    const wanted = module.replace(/^base_model\.model\./, '')
    const key = [module, wanted].find((name) => Object.hasOwn(map, name))
    return { module, shape, wanted, node: key === undefined ? undefined : map[key] }
  })
  const byName = layersByName(
    layers,
    sought.flatMap(({ wanted, node }) => (node === undefined ? [wanted] : [])),
  )
  for (const { module, shape, wanted, node } of sought) {
    if (node === null) continue
    const [d1, d2] = shape
    const found = node === undefined ? byName(wanted) : layers.filter((layer) => labelOf(layer) === node)
    const [layer, ...others] = found
    const refuse = (reason: UnmatchedModule['reason'], candidates: readonly string[]) =>
      unmatched.push({ module, reason, candidates })
    if (!layer && node !== undefined)
      refuse('the map names a node that is none of the layers', nearestNames([node], layers.map(labelOf)))
    else if (!layer)
      refuse(
        'no layer has this name',
        nearestNames(
          [wanted],
          layers.map((each) => each.module ?? labelOf(each)),
        ),
      )
    else if (others.length > 0) refuse('several layers have this name', found.map(labelOf))
    else if (layer.outFeatures !== d1 || layer.inFeatures !== d2)
      refuse('the layer has another shape', [`${labelOf(layer)} [${layer.outFeatures}, ${layer.inFeatures}]`])
    else matched.set(module, layer)
  }
  return { matched, unmatched }
}

/** As {@link MatchOptions.map} names a layer. */
function labelOf({ node, part }: LinearLayer): string {
  return part ? `${node.name}:${part.name}` : node.name
}

/** What {@link named} finds, or, where that is not one layer for each of the names, what stands behind the prefix of all of them. */
function layersByName(
  layers: readonly LinearLayer[],
  names: readonly string[],
): (name: string) => LinearLayer[] {
  const direct = new Map(names.map((name) => [name, named(layers, name)]))
  const isComplete = [...direct.values()].every(({ length }) => length === 1)
  const prefixes = isComplete ? [] : sharedPrefixes(layers, names)
  return (name) => {
    const own = direct.get(name) ?? []
    // Several prefixes are no choice, but candidates.
    if (prefixes.length === 0 || (prefixes.length > 1 && own.length > 0)) return own
    return layers.filter(({ module }) => prefixes.some((prefix) => module === `${prefix}${name}`))
  }
}

/** What was wrapped around the model before it was exported: all that ends in a dot and makes names of layers of every one of the names. */
function sharedPrefixes(layers: readonly LinearLayer[], names: readonly string[]): string[] {
  // A lone `dense` says too little.
  const first = names.find((name) => name.includes('.'))
  if (first === undefined) return []
  const modules = new Set(layers.flatMap(({ module }) => module ?? []))
  return Array.from(modules)
    .filter((module) => module.endsWith(`.${first}`))
    .map((module) => module.slice(0, -first.length))
    .filter((prefix) => names.every((name) => modules.has(prefix + name)))
}

/** The layers of the name itself; else without the root of the file's name; else without the adapter's. Never both: `encoder.x` is not `decoder.x`. */
function named(layers: readonly LinearLayer[], wanted: string): LinearLayer[] {
  const tests: ((name: string) => boolean)[] = [
    (name) => name === wanted,
    (name) => withoutRoot(name) === wanted,
    (name) => name === withoutRoot(wanted),
  ]
  for (const test of tests) {
    const found = layers.filter(({ module }) => module !== undefined && test(module))
    if (found.length > 0) return found
  }
  return []
}

/** A name of one segment has no root that could be taken off. */
function withoutRoot(name: string): string {
  return name.slice(name.indexOf('.') + 1)
}
