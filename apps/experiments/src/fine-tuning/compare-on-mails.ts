/** Trains several methods on mails, each with several seeds. */
import { type Spread, spread } from '@fourierft/quickstart'
import type { RunOptions } from '../experiment.js'
import { MailComparison, type MailMethod, type MailRun } from './mail-methods.js'
import { cacheFolder } from './mail-model.js'
import { readMails } from './mails.js'
import { RunLog } from './run-log.js'

export const mailTraining = { epochs: 3, batchSize: 16, maxLength: 64 } as const
/** The numbers of mails. Validation mails are for the choice of rates. */
export const mailCounts = { training: 800, validation: 300, test: 600 } as const
/** With `quick`. */
const quickCounts = { training: 32, validation: 20, test: 20 } as const
const quickTraining = { ...mailTraining, epochs: 1, maxLength: 16 } as const

export interface MailOutcome {
  readonly method: MailMethod
  readonly accuracy: Spread
  readonly loss: Spread
  readonly parameters: number
  readonly bytes: number
  readonly seconds: Spread
}

export interface MailOptions extends RunOptions {
  readonly scoredOn: 'validation' | 'test'
  /** The file of finished runs; they are not repeated. */
  readonly log?: string
}

/** Returns outcomes in the order of the methods. Writes progress to standard error. */
export async function compareOnMails(
  methods: readonly MailMethod[],
  { seeds, quick, scoredOn, log: path }: MailOptions,
): Promise<MailOutcome[]> {
  const counts = quick ? quickCounts : mailCounts
  const training = quick ? quickTraining : mailTraining
  const held = counts.validation + counts.test
  const mails = await readMails(cacheFolder, { training: counts.training, held })
  const parts = {
    training: mails.training,
    scored:
      scoredOn === 'test' ? mails.held.slice(counts.validation) : mails.held.slice(0, counts.validation),
  }
  const comparison = await MailComparison.open(training)
  const log = new RunLog<MailRun>(path)
  const outcomes: MailOutcome[] = []
  for (const method of methods) {
    const runs: MailRun[] = []
    for (const seed of seeds) {
      const settings = { method, seed, scoredOn, mails: counts.training, ...training }
      const run = await log.run(settings, () => comparison.run(method, parts, seed))
      console.error(
        `${JSON.stringify(method)}, seed ${seed}: ${scoredOn} loss ${run.loss.toFixed(3)}, ${(100 * run.accuracy).toFixed(1)} %, ${run.seconds.toFixed(0)} s`,
      )
      runs.push(run)
    }
    const [{ parameters, bytes }] = runs as [MailRun]
    const spreadOf = (value: (run: MailRun) => number) => spread(runs.map(value))
    outcomes.push({
      method,
      accuracy: spreadOf(({ accuracy }) => accuracy),
      loss: spreadOf(({ loss }) => loss),
      parameters,
      bytes,
      seconds: spreadOf(({ seconds }) => seconds),
    })
  }
  return outcomes
}
