/** Small adapters, and adapters as the host of a model matches them, without a model. */
import {
  type Adapter,
  createAdapter,
  createConfig,
  type FourierFTOptions,
  type Layer,
  type LinearWeights,
  loadAdapter,
  readSavedModule,
  type Shape,
  savedModule,
} from '@fourierft/core'
import type { ClassLabels } from '@fourierft/transformers/host'
import type { MatchedShares } from '../resident-adapter.js'

export interface TestAdapter extends FourierFTOptions {
  /** Number of layers whose query and value are adapted. Default 2. */
  readonly layers?: number
  /** `[out, in]` of each module. Default `[8, 8]`. */
  readonly shape?: Shape
  /** Seed of the coefficients. */
  readonly initialSeed?: number
  readonly head?: LinearWeights
}

export function testAdapter({
  layers = 2,
  shape = [8, 8],
  initialSeed = 0,
  head,
  ...options
}: TestAdapter = {}): Adapter {
  const names = Array.from({ length: layers }, (_, layer) => [
    `encoder.layer.${layer}.attention.self.query`,
    `encoder.layer.${layer}.attention.self.value`,
  ]).flat()
  const config = createConfig({
    nFrequency: 6,
    scaling: 1.5,
    targetModules: ['query', 'value'],
    initWeights: false,
    ...(head && { modulesToSave: ['classifier'] }),
    ...options,
  })
  return createAdapter(config, Object.fromEntries(names.map((name) => [name, shape])), {
    initialSeed,
    ...(head && { savedModules: { classifier: head } }),
  })
}

/** The adapter as its files hold it in a dtype. */
export function inDtype(adapter: Adapter, dtype: 'F32' | 'F16' | 'BF16'): Promise<Adapter> {
  return loadAdapter(adapter.toBytes({ dtype }))
}

/** Matches an adapter to a model with one part. */
export function matched<Part extends object>(
  name: string,
  adapter: Adapter,
  part: Part,
  { shape, labels }: { readonly shape?: Shape; readonly labels?: ClassLabels } = {},
): MatchedShares<Part> {
  const layers = new Map<string, Layer>()
  for (const module of adapter.modules.keys()) layers.set(`weight of ${module}`, adapter.layer(module, shape))
  const modules = new Set(Array.from(adapter.savedTensors.keys(), (tensor) => savedModule(tensor) as string))
  const replacedModules = new Map(
    Array.from(modules, (module) => {
      const [outFeatures = 0, inFeatures = 0] =
        adapter.savedTensors.get(`base_model.model.${module}.weight`)?.shape ?? []
      const saved = readSavedModule(adapter, module, { shape: [outFeatures, inFeatures], hasBias: true })
      return [`weight of ${module}`, { module, inFeatures, isResized: false, ...saved }]
    }),
  )
  const replaces = new Map(Array.from(replacedModules, ([key, { module }]) => [key, module]))
  return { shares: new Map([[part, { name, source: adapter, layers, replacedModules, replaces }]]), labels }
}
