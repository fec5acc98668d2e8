/** Figure 4: accuracy against the number of trained values, for FourierFT with several n and LoRA with several ranks. */
import { startTensorFlow } from '@fourierft/quickstart'
import { attachFourier, attachLoraOfRank } from './attached-methods.js'
import { colours } from './chart-frame.js'
import { compareOnDigits, type MethodConfig, type Outcome } from './digits-comparison.js'
import { errorBarChart, type Series } from './error-bar-chart.js'
import type { Experiment } from './experiment.js'
import { digitsSeeds, parametersSettings } from './settings.js'
import { count, decimal, percentage } from './table-text.js'

export const fourierConfig = ({ n, learningRate }: { n: number; learningRate: number }): MethodConfig => ({
  name: `FourierFT, n = ${n}`,
  learningRate,
  attach: (model, seed) => attachFourier(model, { n, seed }),
})

export const loraConfig = ({ rank, learningRate }: { rank: number; learningRate: number }): MethodConfig => ({
  name: `LoRA, r = ${rank}`,
  learningRate,
  attach: (model, seed) => attachLoraOfRank(model, { rank, seed }),
})

export const parameters: Experiment = {
  name: 'parameters',
  title: 'Figure 4: accuracy against trained parameters, FourierFT and LoRA',
  seeds: digitsSeeds,
  start: startTensorFlow,
  async run(options) {
    const selection = <T>(all: readonly T[]) => (options.quick ? all.slice(0, 2) : all)
    const fourier = selection(parametersSettings.fourier).map(fourierConfig)
    const lora = selection(parametersSettings.lora).map(loraConfig)
    const outcomes = await compareOnDigits([...fourier, ...lora], { ...options, scoredOn: 'test' })
    return {
      table: [
        ['method', 'trained in each layer', 'rate', 'test accuracy', 'test loss'],
        ...outcomes.map(({ name, learningRate, parametersPerLayer, accuracy, loss }) => [
          name,
          count(parametersPerLayer),
          `${learningRate}`,
          percentage(accuracy),
          decimal(loss),
        ]),
      ],
      figure: errorBarChart({
        title: 'Accuracy against trained parameters',
        subtitle: `Digits transformer, query and value; mean and standard deviation of ${options.seeds.length} seeds`,
        xTitle: 'trained parameters in each layer',
        xScale: 'doubling',
        series: [
          series('FourierFT', colours.fourier, outcomes.slice(0, fourier.length)),
          series('LoRA', colours.lora, outcomes.slice(fourier.length)),
        ],
      }),
    }
  },
}

const series = (name: string, colour: string, outcomes: readonly Outcome[]): Series => ({
  name,
  colour,
  points: outcomes.map(({ parametersPerLayer: x, accuracy }) => ({ x, accuracy })),
})
