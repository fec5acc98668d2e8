/** Figure 7: the number of epochs that FourierFT and LoRA, with equally many trained values, need to separate eight classes of points. */
import { type Spread, spread, startTensorFlow } from '@fourierft/quickstart'
import { clusters } from './clusters.js'
import type { Experiment } from './experiment.js'
import { expressivenessFigure } from './expressiveness-figure.js'
import {
  type ExpressivenessOutcome,
  type ExpressivenessRun,
  epochOfFullAccuracy,
  trainHiddenLayer,
  type UpdateName,
} from './expressiveness-training.js'
import type { RestOfNetwork } from './hidden-layer-network.js'
import { expressivenessSettings as settings } from './settings.js'
import { percentage } from './table-text.js'

const networks: readonly RestOfNetwork[] = ['frozen', 'trained']
const methods: readonly UpdateName[] = ['FourierFT', 'LoRA']
const quickEpochs = 40

export const expressiveness: Experiment = {
  name: 'expressiveness',
  title: 'Figure 7: a hidden layer of 64 × 64 with 128 trained values, FourierFT and LoRA',
  seeds: settings.seeds,
  start: startTensorFlow,
  async run({ seeds, quick }) {
    const epochs = quick ? quickEpochs : settings.epochs
    const outcomes = networks.flatMap((restOfNetwork) =>
      methods.map((method): ExpressivenessOutcome => {
        const learningRate = settings.rates[restOfNetwork][method]
        const runs = seeds.map((seed) =>
          trainHiddenLayer({ method, restOfNetwork, learningRate, epochs, seed }),
        )
        console.error(
          `${method}, network ${restOfNetwork}: ${fullAccuracyCount(runs)} of ${seeds.length} at 100 %`,
        )
        return { restOfNetwork, method, runs }
      }),
    )
    const [shownSeed = 1] = seeds
    return {
      table: [
        [
          'network',
          'method',
          'trained in ΔW',
          'rate',
          'runs that reach 100 %',
          'after epochs',
          'best',
          'last',
        ],
        ...outcomes.map(row),
      ],
      figure: expressivenessFigure(clusters({ ...settings.clusters, seed: shownSeed }), outcomes),
    }
  },
}

function row({ restOfNetwork, method, runs }: ExpressivenessOutcome): string[] {
  return [
    restOfNetwork,
    method,
    `${runs[0]?.parameters ?? 0}`,
    `${settings.rates[restOfNetwork][method]}`,
    `${fullAccuracyCount(runs)} of ${runs.length}`,
    epochsText(runs),
    percentage(accuracies(runs, (curve) => Math.max(...curve))),
    percentage(accuracies(runs, (curve) => curve.at(-1) ?? 0)),
  ]
}

const fullAccuracyCount = (runs: readonly ExpressivenessRun[]): number =>
  runs.filter((run) => epochOfFullAccuracy(run) !== undefined).length

/** Returns the smallest, median and largest number of epochs of the runs that reach 100 %. */
function epochsText(runs: readonly ExpressivenessRun[]): string {
  const epochs = runs.flatMap((run) => epochOfFullAccuracy(run) ?? []).sort((a, b) => a - b)
  if (epochs.length === 0) return '–'
  return `${epochs[0]} … ${epochs[epochs.length >> 1]} … ${epochs.at(-1)}`
}

const accuracies = (
  runs: readonly ExpressivenessRun[],
  choose: (accuracies: readonly number[]) => number,
): Spread => spread(runs.map(({ curve }) => choose(curve.map(({ accuracy }) => accuracy))))
