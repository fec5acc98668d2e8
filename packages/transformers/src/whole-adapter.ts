/** The shares of a divided adapter as one adapter, for the trainer, which trains all of them together. */
import { type Adapter, createLayer } from '@fourierft/core'
import type { ReplacedModule, SessionAdapter } from '@fourierft/onnxruntime/host'

interface Part {
  readonly name: string
}

/**
 * Joins the shares of an adapter. Modules have the names of the adapter, and each key is that of the share after the part's name.
 *
 * @param moduleOf returns the adapter's name of a module, from its name in a part
 */
export function wholeAdapter<P extends Part>(
  { name, source }: { readonly name: string; readonly source: Adapter },
  shares: ReadonlyMap<P, SessionAdapter>,
  moduleOf: (part: P, name: string) => string,
): SessionAdapter {
  const layers: SessionAdapter['layers'] = joined(shares, ({ layers }, part) =>
    Array.from(layers, ([key, layer]) => {
      const module = moduleOf(part, layer.name)
      return [key, module === layer.name ? layer : createLayer({ ...layer, name: module })]
    }),
  )
  const replacedModules: SessionAdapter['replacedModules'] = joined(shares, ({ replacedModules }, part) =>
    Array.from(replacedModules, ([key, replaced]) => [
      key,
      { ...replaced, module: moduleOf(part, replaced.module) },
    ]),
  )
  const replaces = new Map(Array.from(replacedModules, ([key, { module }]) => [key, module]))
  return { name, source, layers, replacedModules, replaces }
}

/** Returns the shares with the numbers of the whole adapter, which has been trained. */
export function trainedShares<P extends Part>(
  shares: ReadonlyMap<P, SessionAdapter>,
  { layers, replacedModules }: SessionAdapter,
): ReadonlyMap<P, SessionAdapter> {
  const trained = (part: P, share: SessionAdapter): SessionAdapter => ({
    ...share,
    layers: new Map(
      Array.from(share.layers, ([key, layer]) => {
        const coefficients = layers.get(wholeKey(part, key))?.coefficients ?? layer.coefficients
        return [key, createLayer({ ...layer, coefficients })]
      }),
    ),
    replacedModules: new Map(
      Array.from(share.replacedModules, ([key, { module, ...replaced }]) => [
        key,
        { ...replaced, ...replacedModules.get(wholeKey(part, key)), module } as ReplacedModule,
      ]),
    ),
  })
  return new Map(Array.from(shares, ([part, share]) => [part, trained(part, share)]))
}

/**
 * Gives the layers of a whole adapter the keys of one graph.
 *
 * @param keyOf returns the key in the graph, from a part's name and the key in that part
 */
export function withKeys(
  adapter: SessionAdapter,
  keyOf: (part: string, key: string) => string,
): SessionAdapter {
  const renamed = <T>(values: ReadonlyMap<string, T>): Map<string, T> =>
    new Map(
      Array.from(values, ([key, value]) => {
        const end = key.indexOf(':')
        return [keyOf(key.slice(0, end), key.slice(end + 1)), value]
      }),
    )
  return {
    ...adapter,
    layers: renamed(adapter.layers),
    replacedModules: renamed(adapter.replacedModules),
    replaces: renamed(adapter.replaces),
  }
}

/** Returns the parts in which the adapter has layers. */
export function partsOf({ layers, replacedModules }: SessionAdapter): string[] {
  const keys = [...layers.keys(), ...replacedModules.keys()]
  return [...new Set(keys.map((key) => key.slice(0, key.indexOf(':'))))]
}

function wholeKey({ name }: Part, key: string): string {
  return `${name}:${key}`
}

function joined<P extends Part, T>(
  shares: ReadonlyMap<P, SessionAdapter>,
  entriesOf: (share: SessionAdapter, part: P) => (readonly [string, T])[],
): Map<string, T> {
  const entries = Array.from(shares, ([part, share]) =>
    entriesOf(share, part).map(([key, value]) => [wholeKey(part, key), value] as const),
  )
  return new Map(entries.flat())
}
