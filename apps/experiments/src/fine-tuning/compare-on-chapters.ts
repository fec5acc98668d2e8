/** Adapts a language model to chapters of a novel by several methods, each with several seeds. */
import { type Spread, spread } from '@fourierft/quickstart'
import type { RunOptions } from '../experiment.js'
import { type ChapterCounts, readChapters } from './chapters.js'
import {
  LanguageComparison,
  type LanguageMethod,
  type LanguageRun,
  type ScoredPart,
} from './language-methods.js'
import { cacheFolder } from './mail-model.js'
import { RunLog } from './run-log.js'

/** The blocks are as long as those on which the model was pretrained. */
export const languageTraining = { epochs: 3, batchSize: 16, maxLength: 128 } as const
const chapterCounts: ChapterCounts = { test: 4, validation: 4, training: 10 }
/** With `quick`. */
const quickCounts: ChapterCounts = { test: 1, validation: 1, training: 1 }

export interface LanguageOutcome {
  readonly method: LanguageMethod
  readonly perplexity: Spread
  /** In the file of the other dtype; only FourierFT. */
  readonly otherPerplexity: Spread | undefined
  readonly parameters: number
  readonly bytes: number
  readonly seconds: Spread
}

export interface LanguageOptions extends RunOptions {
  /** The folder of the model. */
  readonly model: string
  readonly scoredOn: ScoredPart
  /** The file of finished runs; they are not repeated. */
  readonly log?: string
}

/**
 * Returns outcomes in the order of the methods. Writes progress to standard error.
 *
 * @throws {Error} if a file of the model is not the same at the end
 */
export async function compareOnChapters(
  methods: readonly LanguageMethod[],
  { seeds, quick, scoredOn, model, log: path }: LanguageOptions,
): Promise<LanguageOutcome[]> {
  const counts = quick ? quickCounts : chapterCounts
  const training = quick ? { ...languageTraining, epochs: 1 } : languageTraining
  const chapters = await readChapters(cacheFolder, counts)
  const comparison = await LanguageComparison.open(model, training)
  const before = await comparison.hashes()
  const log = new RunLog<LanguageRun>(path)
  const outcomes: LanguageOutcome[] = []
  for (const method of methods) {
    const runs: LanguageRun[] = []
    for (const seed of seeds) {
      const settings = { method, seed, chapters: counts, ...training, model: before }
      const run = await log.run(settings, () => comparison.run(method, chapters, seed))
      console.error(
        `${JSON.stringify(method)}, seed ${seed}: ${scoredOn} perplexity ${run.perplexity[scoredOn].toFixed(2)}, ${run.seconds.toFixed(0)} s`,
      )
      runs.push(run)
    }
    const [{ parameters, bytes, otherPerplexity }] = runs as [LanguageRun]
    outcomes.push({
      method,
      perplexity: spread(runs.map((run) => run.perplexity[scoredOn])),
      otherPerplexity:
        otherPerplexity === undefined ? undefined : spread(runs.map((run) => run.otherPerplexity as number)),
      parameters,
      bytes,
      seconds: spread(runs.map((run) => run.seconds)),
    })
  }
  const after = await comparison.hashes()
  await comparison.release()
  if (after.fp32 !== before.fp32 || after.q4 !== before.q4) throw new Error(`${model}: a file has changed`)
  return outcomes
}
