/** Table 6: FourierFT with the Fourier basis, with random orthogonal bases, and with Gaussian bases. */
import { startTensorFlow } from '@fourierft/quickstart'
import { attachBasis } from './attached-methods.js'
import { type BasisName, basisNames } from './basis.js'
import { colours } from './chart-frame.js'
import { compareOnDigits, type MethodConfig } from './digits-comparison.js'
import { errorBarChart } from './error-bar-chart.js'
import type { Experiment } from './experiment.js'
import { basesSettings, digitsSeeds } from './settings.js'
import { decimal, percentage } from './table-text.js'

export const basisConfig = (basis: BasisName, learningRate: number): MethodConfig => ({
  name: `${basis} basis`,
  learningRate,
  attach: (model, seed) => attachBasis(model, { basis, n: basesSettings.n, seed }),
})

export const bases: Experiment = {
  name: 'bases',
  title: 'Table 6: three types of basis',
  seeds: digitsSeeds,
  start: startTensorFlow,
  async run(options) {
    const configs = basisNames.map((basis) => basisConfig(basis, basesSettings.rates[basis]))
    const outcomes = await compareOnDigits(configs, { ...options, scoredOn: 'test' })
    return {
      table: [
        ['basis', 'rate', 'test accuracy', 'test loss'],
        ...outcomes.map(({ learningRate, accuracy, loss }, index) => [
          basisNames[index] ?? '',
          `${learningRate}`,
          percentage(accuracy),
          decimal(loss),
        ]),
      ],
      figure: errorBarChart({
        title: 'Accuracy with three types of basis',
        subtitle: `n = ${basesSettings.n}; mean and standard deviation of ${options.seeds.length} seeds`,
        xTitle: 'basis',
        xScale: 'names',
        series: outcomes.map(({ accuracy }, index) => {
          const name = basisNames[index] ?? 'fourier'
          return { name: percentage(accuracy), colour: colours[name], points: [{ x: name, accuracy }] }
        }),
      }),
    }
  },
}
