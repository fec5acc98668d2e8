/**
 * The hyper-parameters of the paper, for comparisons and as starting points. Learning rate times α is 4 to 15 for language models (QNLI with
 * RoBERTa-base: 0.29) and 60 to 90 for images.
 *
 * @see Gao et al., "Parameter-Efficient Fine-Tuning with Discrete Fourier Transform", ICML 2024, appendix B, tables 9 to 12
 */

/** One column of the tables. */
export interface PaperSettings {
  /** Where the numbers come from. */
  readonly source: string
  /** Options of `addAdapter`, without the modules. */
  readonly adapter: { readonly nFrequency: number; readonly scaling: number }
  /** Options of `train` of `@fourierft/transformers`. What the paper does not give is missing. */
  readonly training: {
    readonly epochs: number
    readonly learningRate: number
    readonly headLearningRate?: number
    readonly schedule: 'linear'
    readonly warmup?: number
    readonly batchSize?: number
    readonly accumulate?: number
    readonly weightDecay?: number
    readonly labelSmoothing?: number
    readonly maxLength?: number
  }
}

const GLUE_TASKS = ['stsb', 'rte', 'mrpc', 'cola', 'sst2', 'qnli'] as const
const IMAGE_SETS = [
  'oxford-pets',
  'stanford-cars',
  'cifar10',
  'dtd',
  'eurosat',
  'fgvc',
  'resisc45',
  'cifar100',
] as const

type GlueName = `roberta-${'base' | 'large'}/${(typeof GLUE_TASKS)[number]}`
type ImageName = `vit/${(typeof IMAGE_SETS)[number]}`

/** `model/task`. */
export type PaperSettingsName = GlueName | `gpt2-${'medium' | 'large'}/e2e` | 'llama/instructions' | ImageName

const ROBERTA_BASE = {
  epochs: [60, 90, 30, 100, 40, 40],
  learningRate: [9e-2, 9e-2, 5e-2, 1.2e-1, 5e-2, 1e-2],
  headLearningRate: [9e-3, 1.1e-2, 6e-3, 8e-3, 6e-3, 1e-3],
  maxLength: [512, 512, 512, 512, 512, 512],
  scaling: [84, 110, 141, 49, 140, 29],
  batchSize: [32, 32, 32, 32, 32, 32],
}
const ROBERTA_LARGE = {
  epochs: [30, 60, 30, 80, 10, 30],
  learningRate: [7e-2, 8e-2, 6e-2, 4.3e-2, 4.3e-2, 6e-2],
  headLearningRate: [1e-3, 5e-3, 1e-3, 1.1e-2, 1e-3, 5e-3],
  maxLength: [512, 512, 512, 256, 128, 512],
  scaling: [121, 90, 120, 120, 99, 69],
  batchSize: [32, 32, 32, 128, 32, 32],
}
const VIT = {
  learningRate: [3e-1, 3e-1, 3e-1, 3e-1, 2e-1, 3e-1, 3e-1, 2e-1],
  headLearningRate: [1e-3, 1e-3, 1e-3, 1e-3, 8e-4, 1e-3, 1e-3, 7e-4],
  weightDecay: [8e-4, 4e-5, 9e-5, 7e-5, 3e-4, 7e-5, 3e-4, 1e-4],
}

function glue(model: 'base' | 'large', table: typeof ROBERTA_BASE): [PaperSettingsName, PaperSettings][] {
  return GLUE_TASKS.map((task, i) => [
    `roberta-${model}/${task}`,
    {
      source: 'table 9',
      adapter: { nFrequency: 1000, scaling: table.scaling[i] },
      training: {
        epochs: table.epochs[i],
        learningRate: table.learningRate[i],
        headLearningRate: table.headLearningRate[i],
        schedule: 'linear',
        warmup: 0.06,
        batchSize: table.batchSize[i],
        maxLength: table.maxLength[i],
      },
    },
  ])
}

function generation(learningRate: number, headLearningRate: number, weightDecay: number): PaperSettings {
  return {
    source: 'table 10',
    adapter: { nFrequency: 1000, scaling: 300 },
    training: {
      epochs: 5,
      learningRate,
      headLearningRate,
      schedule: 'linear',
      batchSize: 128,
      weightDecay,
      labelSmoothing: 0.1,
    },
  }
}

const images = IMAGE_SETS.map((task, i): [PaperSettingsName, PaperSettings] => [
  `vit/${task}`,
  {
    source: 'table 12',
    adapter: { nFrequency: 3000, scaling: 300 },
    training: {
      epochs: 10,
      learningRate: VIT.learningRate[i],
      headLearningRate: VIT.headLearningRate[i],
      schedule: 'linear',
      weightDecay: VIT.weightDecay[i],
    },
  },
])

/** The settings of the paper by `model/task`. The batch size of table 12 is not given. */
export const PAPER_SETTINGS = Object.fromEntries([
  ...glue('base', ROBERTA_BASE),
  ...glue('large', ROBERTA_LARGE),
  ['gpt2-medium/e2e', generation(2e-2, 2e-4, 0.01)],
  ['gpt2-large/e2e', generation(5e-2, 1e-4, 0.03)],
  [
    'llama/instructions',
    {
      source: 'table 11',
      adapter: { nFrequency: 1000, scaling: 300 },
      training: {
        epochs: 1,
        learningRate: 3e-2,
        schedule: 'linear',
        warmup: 0.06,
        batchSize: 4,
        accumulate: 4,
      },
    },
  ],
  ...images,
]) as Readonly<Record<PaperSettingsName, PaperSettings>>
