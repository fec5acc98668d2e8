/**
 * Layers that a file holds more than once: decoders that are exported for their first step and for all others in one file (`If`) have each
 * linear layer in both branches, with one weight.
 */
import type { LinearLayer } from './linear-layers.js'

/** The first of each with the others as its `twins`; the order is kept. */
export function joinTwins(layers: readonly LinearLayer[]): LinearLayer[] {
  const families = new Map<unknown, LinearLayer[]>()
  for (const layer of layers) {
    const { module, weight, outFeatures, inFeatures } = layer
    const key = module === undefined ? layer : [module, weight, outFeatures, inFeatures].join()
    const family = families.get(key) ?? []
    // A product that one graph has twice is one layer that is used twice, which has no name of its own.
    if (family.some(({ graph }) => graph === layer.graph)) families.set(layer, [layer])
    else families.set(key, [...family, layer])
  }
  return Array.from(families.values(), ([first, ...twins]) =>
    twins.length > 0 ? { ...(first as LinearLayer), twins } : (first as LinearLayer),
  )
}

/** The layer wherever the file has it. */
export function withTwins(layer: LinearLayer): readonly LinearLayer[] {
  return layer.twins ? [layer, ...layer.twins] : [layer]
}
