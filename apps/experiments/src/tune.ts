/**
 * Prints the results by which the learning rates in `settings.ts` are chosen: `node dist/tune.js expressiveness | parameters | bases | mails`. It uses no
 * test digits and no test mails, and none of the seeds of the reported results.
 */
import { type Spread, startTensorFlow } from '@fourierft/quickstart'
import { basisConfig } from './bases.js'
import { basisNames } from './basis.js'
import { compareOnDigits, type MethodConfig } from './digits-comparison.js'
import { epochOfFullAccuracy, trainHiddenLayer, type UpdateName } from './expressiveness-training.js'
import { compareOnMails } from './fine-tuning/compare-on-mails.js'
import type { MailMethod } from './fine-tuning/mail-methods.js'
import type { RestOfNetwork } from './hidden-layer-network.js'
import { fourierOnMails, loraOnMails, nameOf, rateOf } from './mails.js'
import { fourierConfig, loraConfig } from './parameters.js'
import {
  basesSettings,
  expressivenessSettings,
  mailSettings,
  parametersSettings,
  tuningSeed,
} from './settings.js'
import { markdownTable } from './table-text.js'

const EXPERIMENTS: Readonly<Record<string, () => Promise<string[][]>>> = {
  async expressiveness() {
    const { epochs, tuningSeeds, rateGrids } = expressivenessSettings
    const restOfNetwork: readonly RestOfNetwork[] = ['frozen', 'trained']
    const methods: readonly UpdateName[] = ['FourierFT', 'LoRA']
    const rows = restOfNetwork.flatMap((network) =>
      methods.flatMap((method) =>
        rateGrids[method].map((learningRate) => {
          const epochsToFull = tuningSeeds.map((seed) => {
            const run = trainHiddenLayer({ method, restOfNetwork: network, learningRate, epochs, seed })
            return epochOfFullAccuracy(run) ?? 'never'
          })
          return [network, method, `${learningRate}`, epochsToFull.join(', ')]
        }),
      ),
    )
    return [['network', 'method', 'rate', 'epochs to 100 %'], ...rows]
  },
  parameters() {
    const { fourier, lora, rateGrids } = parametersSettings
    return onDigits([
      ...fourier.flatMap(({ n }) =>
        rateGrids.fourier.map((learningRate) => fourierConfig({ n, learningRate })),
      ),
      ...lora.flatMap(({ rank }) => rateGrids.lora.map((learningRate) => loraConfig({ rank, learningRate }))),
    ])
  },
  bases: () =>
    onDigits(basisNames.flatMap((basis) => basesSettings.rateGrid.map((rate) => basisConfig(basis, rate)))),
  async mails() {
    const { rateGrids } = mailSettings
    const methods: MailMethod[] = [
      ...rateGrids.headOnly.map((headLearningRate) => ({ kind: 'head only', headLearningRate }) as const),
      ...rateGrids.fourier.flatMap(({ n, rates }) => rates.map((rate) => fourierOnMails(n, rate))),
      ...rateGrids.lora.flatMap(({ rank, rates }) => rates.map((rate) => loraOnMails(rank, rate))),
    ]
    const outcomes = await compareOnMails(methods, {
      seeds: [tuningSeed],
      quick: false,
      scoredOn: 'validation',
      log: 'fourierft-experiments/mails-tuning.jsonl',
    })
    return tableOf(
      outcomes.map(({ method, ...rest }) => ({ name: nameOf(method), rate: rateOf(method), ...rest })),
    )
  },
}

async function onDigits(configs: readonly MethodConfig[]): Promise<string[][]> {
  const outcomes = await compareOnDigits(configs, {
    seeds: [tuningSeed],
    quick: false,
    scoredOn: 'validation',
  })
  return tableOf(outcomes.map(({ learningRate, ...rest }) => ({ rate: `${learningRate}`, ...rest })))
}

function tableOf(
  outcomes: readonly {
    readonly name: string
    readonly rate: string
    readonly loss: Spread
    readonly accuracy: Spread
  }[],
): string[][] {
  return [
    ['method', 'rate', 'validation loss', 'validation accuracy'],
    ...outcomes.map(({ name, rate, loss, accuracy }) => [
      name,
      rate,
      loss.mean.toFixed(3),
      `${(100 * accuracy.mean).toFixed(1)} %`,
    ]),
  ]
}

const [name = ''] = process.argv.slice(2)
const tune = Object.hasOwn(EXPERIMENTS, name) ? EXPERIMENTS[name] : undefined
if (tune === undefined) {
  console.error(
    `tune: expected one of ${Object.keys(EXPERIMENTS).join(', ')}; received ${JSON.stringify(name)}`,
  )
  process.exitCode = 2
} else {
  if (name !== 'mails') await startTensorFlow()
  console.log(markdownTable(await tune()))
}
