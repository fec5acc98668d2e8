/** Turns a layer into an adapter, for backends whose runtime loads adapters. */
import { Adapter } from '../adapter/adapter.js'
import { createConfig } from '../adapter/config.js'
import type { Layer } from '../adapter/layer.js'

/** Returns an adapter that adapts one module, with the entries, coefficients and scaling of `layer`. The name of `layer` is not used. */
export function singleLayerAdapter(
  module: string,
  { shape, entries, coefficients, scaling }: Layer,
): Adapter {
  const adapted = {
    name: module,
    coefficients: Float32Array.from(coefficients),
    dtype: 'F32',
    shape,
    recipe: entries.recipe,
    entries,
  } as const
  const config = createConfig({ targetModules: [module], nFrequency: entries.n, scaling })
  return new Adapter({ config, modules: new Map([[module, adapted]]) })
}
