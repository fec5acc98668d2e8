/**
 * Which layer of a model each module of an adapter is. Names are compared whole, or without one root segment, and a layer has to
 * have the module's shape; what is not found or found twice is listed, never guessed.
 */
import { nearestNames } from '@fourierft/core'
import type { LinearLayer } from './linear-layers.js'

/** A module that was not found, and why. */
export interface UnmatchedModule {
  readonly module: string
  readonly reason: 'no layer has this name' | 'several layers have this name' | 'the layer has another shape'
  /** The nearest names, or those of the layers in question. */
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

/** @param modules module name, with or without `base_model.model.` → `[d1, d2]` = [out, in] */
export function matchLayers(
  layers: readonly LinearLayer[],
  modules: Readonly<Record<string, readonly [number, number]>>,
  { map = {} }: MatchOptions = {},
): MatchedLayers {
  const matched = new Map<string, LinearLayer>()
  const unmatched: UnmatchedModule[] = []
  for (const [module, [d1, d2]] of Object.entries(modules)) {
    const wanted = module.replace(/^base_model\.model\./, '')
    const node = Object.hasOwn(map, module) ? map[module] : map[wanted]
    if (node === null) continue
    const found =
      node === undefined ? named(layers, wanted) : layers.filter((layer) => labelOf(layer) === node)
    const [layer, ...others] = found
    const refuse = (reason: UnmatchedModule['reason'], candidates: readonly string[]) =>
      unmatched.push({ module, reason, candidates })
    if (!layer)
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
