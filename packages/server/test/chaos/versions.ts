/** Versions of adapters for the tiny models of the fixtures. A few numbers determine a version, so its files can be made again after the run. */
import {
  Adapter,
  type AdapterBytes,
  createAdapter,
  createConfig,
  type LinearWeights,
  type Shape,
} from '@fourierft/core'
import { Random } from './random.js'

export type ModelName = 'bert' | 'roberta' | 'gpt2'

/** Modules of two layers that adapters of one kind change, and the head that they replace. */
interface Targets {
  readonly modules: readonly string[]
  readonly n: number
  /** Classes of a `classifier` of their own. */
  readonly classes?: number
}

export interface ChaosModel {
  readonly task: string
  readonly layer: (index: number) => string
  readonly shapes: Readonly<Record<string, Shape>>
  readonly scaling: number
  readonly targets: readonly Targets[]
}

/** How many adapters a model has. Each seed of entries with each of the targets is a kind of adapters, which needs a graph of its own. */
export interface Population {
  readonly count: number
  readonly seeds: number
}

const SQUARE: Shape = [32, 32]
const ENCODER = {
  'attention.self.query': SQUARE,
  'attention.self.key': SQUARE,
  'attention.self.value': SQUARE,
  'attention.output.dense': SQUARE,
  'intermediate.dense': [64, 32],
  'output.dense': [32, 64],
} as const

export const MODELS: Readonly<Record<ModelName, ChaosModel>> = {
  bert: {
    task: 'text-classification',
    layer: (index) => `bert.encoder.layer.${index}.`,
    shapes: ENCODER,
    scaling: 150,
    targets: [
      { modules: ['attention.self.query', 'attention.self.value'], n: 24 },
      { modules: ['attention.self.key', 'intermediate.dense'], n: 32, classes: 3 },
      {
        modules: ['attention.self.query', 'attention.self.value', 'attention.output.dense', 'output.dense'],
        n: 24,
        classes: 5,
      },
    ],
  },
  roberta: {
    task: 'feature-extraction',
    layer: (index) => `encoder.layer.${index}.`,
    shapes: ENCODER,
    scaling: 100,
    targets: [
      { modules: ['attention.self.query', 'attention.self.value'], n: 24 },
      { modules: ['attention.self.key', 'intermediate.dense'], n: 32 },
      { modules: ['attention.output.dense', 'output.dense'], n: 16 },
    ],
  },
  gpt2: {
    task: 'text-generation',
    layer: (index) => `transformer.h.${index}.`,
    shapes: { 'attn.c_attn': [96, 32], 'mlp.c_fc': [128, 32], 'mlp.c_proj': [32, 128] },
    scaling: 100,
    targets: [
      { modules: ['attn.c_attn'], n: 32 },
      { modules: ['attn.c_attn', 'mlp.c_fc'], n: 24 },
      { modules: ['mlp.c_fc', 'mlp.c_proj'], n: 24 },
    ],
  },
}

export const MODEL_NAMES = Object.keys(MODELS) as readonly ModelName[]

export interface Version {
  readonly model: ModelName
  readonly seed: number
  readonly targets: number
  readonly dtype: 'F32' | 'F16'
  /** Seed of the coefficients and of the head. */
  readonly initialSeed: number
}

export const kindOf = ({ model, seed, targets }: Version) => `${model} ${seed} ${targets}`
export const idOf = ({ dtype, initialSeed, ...version }: Version) =>
  `${kindOf({ dtype, initialSeed, ...version })} ${dtype} ${initialSeed}`

/** The first version of the adapter with an index: all kinds in turn. */
export function firstVersion(model: ModelName, index: number, seeds: number): Version {
  const { targets } = MODELS[model]
  return {
    model,
    seed: index % seeds,
    targets: Math.floor(index / seeds) % targets.length,
    dtype: index % 7 < 3 ? 'F16' : 'F32',
    initialSeed: index,
  }
}

/** Kinds that the first versions of a model's adapters have, in turn. */
export const kindsOf = (model: ModelName, { seeds }: Population) => seeds * MODELS[model].targets.length

export function adapterOf({ model, seed, targets, initialSeed }: Version): Adapter {
  const { layer, shapes, scaling, targets: all } = MODELS[model]
  const { modules, n, classes } = all[targets] as Targets
  const config = createConfig({
    nFrequency: n,
    scaling,
    targetModules: [...modules],
    randomLocSeed: 1000 + seed,
    initWeights: false,
    fanInFanOut: model === 'gpt2',
    ...(classes !== undefined && { modulesToSave: ['classifier'] }),
  })
  const names = [0, 1].flatMap((index) =>
    modules.map((module) => [layer(index) + module, shapes[module] as Shape]),
  )
  const adapter = createAdapter(config, Object.fromEntries(names), {
    initialSeed,
    ...(classes !== undefined && { savedModules: { classifier: head(classes, initialSeed) } }),
  })
  return classes === 5 ? withLabels(adapter) : adapter
}

/** The model has names for three classes. */
function withLabels(adapter: Adapter): Adapter {
  const id2label = { 0: 'awful', 1: 'bad', 2: 'neutral', 3: 'good', 4: 'great' }
  return new Adapter({ ...adapter, metadata: { ...adapter.metadata, id2label: JSON.stringify(id2label) } })
}

export function bytesOf(version: Version): AdapterBytes {
  return adapterOf(version).toBytes({ dtype: version.dtype })
}

function head(classes: number, seed: number): LinearWeights {
  const random = new Random(seed, 17)
  const numbers = (count: number) => Float32Array.from({ length: count }, () => random.next() - 0.5)
  return { shape: [classes, 32], weight: numbers(classes * 32), bias: numbers(classes) }
}

/** An adapter with numbers that are too large for float32 once they are scaled. */
export function overflowing(version: Version): AdapterBytes {
  const adapter = adapterOf(version)
  const large = Array.from(adapter.modules, ([name, { coefficients }]) => [
    name,
    coefficients.map(() => 3e38),
  ])
  return adapter.withCoefficients(Object.fromEntries(large)).toBytes({ dtype: 'F32' })
}

/** What an adapter's folder contains. */
export type Content =
  | {
      readonly type: 'good'
      readonly version: Version
      /** The version whose numbers are still in the second half of the file. */
      readonly rest?: Version
    }
  | { readonly type: 'broken'; readonly how: string }
  | { readonly type: 'absent' }

/** The files of a good content. */
export function filesOf({ version, rest }: Content & { readonly type: 'good' }): AdapterBytes {
  const files = bytesOf(version)
  if (rest === undefined) return files
  const model = bytesOf(rest).model.slice()
  model.set(files.model.subarray(0, model.length >> 1))
  return { config: files.config, model }
}

export const contentId = (content: Content & { readonly type: 'good' }) =>
  content.rest ? `${idOf(content.version)} then ${idOf(content.rest)}` : idOf(content.version)
