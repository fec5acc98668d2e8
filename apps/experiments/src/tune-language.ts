/** Chooses the learning rates of the experiment `language`: `node dist/tune-language.js MODEL [LOG]` prints the perplexity of validation chapters. The log
 * can be that of the experiment, `language.jsonl`: runs are not repeated. */
import { compareOnChapters } from './fine-tuning/compare-on-chapters.js'
import type { LanguageMethod } from './fine-tuning/language-methods.js'
import { defaultLayers, dtypeOf, fourierOnChapters, loraOnChapters, nameOf, rateOf } from './language.js'
import { languageSettings } from './settings.js'
import { markdownTable } from './table-text.js'

const [model, log] = process.argv.slice(2)
if (model === undefined) {
  console.error('tune-language: expected the folder of a model')
  process.exitCode = 2
} else {
  const { rateGrids } = languageSettings
  const methods: readonly LanguageMethod[] = [
    ...rateGrids.fourier.map((rate) => fourierOnChapters('fp32', rate)),
    ...rateGrids.defaultLayers.map(defaultLayers),
    ...rateGrids.lora.map((rate) => loraOnChapters('fp32', rate)),
    ...rateGrids.full.map((learningRate) => ({ kind: 'full' as const, learningRate })),
    ...rateGrids.headOnly.map((learningRate) => ({ kind: 'head only' as const, learningRate })),
  ]
  const outcomes = await compareOnChapters(methods, {
    seeds: languageSettings.seeds.slice(0, 1),
    quick: false,
    scoredOn: 'validation',
    model,
    ...(log !== undefined && { log }),
  })
  console.log(
    markdownTable([
      ['method', 'model', 'rate', 'validation perplexity'],
      ...outcomes.map(({ method, perplexity }) => [
        nameOf(method),
        dtypeOf(method),
        rateOf(method),
        perplexity.mean.toFixed(2),
      ]),
    ]),
  )
}
