/** A small language model, pretrained on speeches, is adapted to a novel: FourierFT in 4 and 32 bits, LoRA, the head alone, and all linear layers. */
import type { Spread } from '@fourierft/quickstart'
import { env } from 'onnxruntime-node'
import { colours } from './chart-frame.js'
import type { Experiment } from './experiment.js'
import { compareOnChapters, type LanguageOutcome } from './fine-tuning/compare-on-chapters.js'
import type { Dtype, LanguageMethod } from './fine-tuning/language-methods.js'
import { perplexityChart } from './perplexity-chart.js'
import { languageSettings } from './settings.js'
import { count } from './table-text.js'

export const fourierOnChapters = (
  dtype: Dtype,
  learningRate: number = languageSettings.fourier.learningRate,
): LanguageMethod => ({ kind: 'FourierFT', dtype, n: languageSettings.fourier.n, learningRate })

export const loraOnChapters = (
  dtype: Dtype,
  learningRate: number = languageSettings.lora.learningRate,
): LanguageMethod => ({ kind: 'LoRA', dtype, rank: languageSettings.lora.rank, learningRate })

/** The layers that `addAdapter` adapts without options. */
export function defaultLayers(
  learningRate: number = languageSettings.defaultLayers.learningRate,
): LanguageMethod {
  const targetModules = ['q_proj', 'v_proj']
  return { kind: 'FourierFT', dtype: 'fp32', n: languageSettings.fourier.n, learningRate, targetModules }
}

const methods: readonly LanguageMethod[] = [
  { kind: 'base', dtype: 'fp32' },
  { kind: 'base', dtype: 'q4' },
  fourierOnChapters('fp32'),
  fourierOnChapters('q4'),
  defaultLayers(),
  { kind: 'defaults', dtype: 'fp32' },
  { kind: 'defaults', dtype: 'q4' },
  loraOnChapters('fp32'),
  loraOnChapters('q4'),
  { kind: 'head only', learningRate: languageSettings.headOnlyLearningRate },
  { kind: 'full', learningRate: languageSettings.fullLearningRate },
]

/** @param model the folder that `language-model/export.py` wrote */
export const language = (model: string): Experiment => ({
  ...languageDescription,
  async run({ seeds, quick, folder }) {
    const outcomes = await compareOnChapters(methods, {
      seeds,
      quick,
      model,
      scoredOn: 'test',
      ...(!quick && { log: `${folder}/language.jsonl` }),
    })
    // The points of q4 would cover those of fp32.
    const drawn = outcomes.filter(({ method }) => dtypeOf(method) === 'fp32')
    return {
      table: [
        [
          'method',
          'model',
          'trained',
          'file, kB',
          'rate',
          'test perplexity',
          'in the other file',
          'processor seconds',
        ],
        ...outcomes.map(({ method, parameters, bytes, perplexity, otherPerplexity, seconds }) => [
          nameOf(method),
          dtypeOf(method),
          count(parameters),
          count(Math.round(bytes / 1000)),
          rateOf(method),
          twoDecimals(perplexity),
          otherPerplexity ? twoDecimals(otherPerplexity) : '–',
          seconds.mean.toFixed(0),
        ]),
      ],
      figure: perplexityChart({
        title: 'Perplexity of a novel against trained parameters',
        subtitle: 'A float32 model of speeches; chapters that it has not seen',
        points: drawn
          .filter(({ method }) => method.kind !== 'base')
          .map((outcome) => ({
            name: nameOf(outcome.method),
            colour: colourOf(outcome),
            parameters: outcome.parameters,
            perplexity: outcome.perplexity,
          })),
        references: drawn
          .filter(({ method }) => method.kind === 'base')
          .map(({ perplexity }) => ({ name: 'base', perplexity: perplexity.mean })),
      }),
    }
  },
})

export const languageDescription = {
  name: 'language',
  title: 'A language model of speeches, adapted to a novel',
  seeds: languageSettings.seeds,
  start: async () => `onnxruntime-node ${env.versions.node}`,
} as const satisfies Partial<Experiment>

export function nameOf(method: LanguageMethod): string {
  switch (method.kind) {
    case 'FourierFT':
      return `FourierFT, n = ${method.n}${method.targetModules ? `, ${method.targetModules.join(' and ')}` : ''}`
    case 'LoRA':
      return `LoRA, r = ${method.rank}`
    case 'defaults':
      return 'FourierFT, defaults'
    case 'full':
      return 'all linear layers'
    default:
      return method.kind
  }
}

export const rateOf = (method: LanguageMethod): string =>
  'learningRate' in method ? String(method.learningRate) : '–'

export const dtypeOf = (method: LanguageMethod): Dtype => ('dtype' in method ? method.dtype : 'fp32')

const colourOf = ({ method: { kind } }: LanguageOutcome): string => {
  if (kind === 'FourierFT' || kind === 'defaults') return colours.fourier
  return kind === 'LoRA' ? colours.lora : colours.orthogonal
}

/** One seed has no deviation. */
const twoDecimals = ({ mean, deviation }: Spread): string =>
  Number.isFinite(deviation) && deviation > 0
    ? `${mean.toFixed(2)} ± ${deviation.toFixed(2)}`
    : mean.toFixed(2)
