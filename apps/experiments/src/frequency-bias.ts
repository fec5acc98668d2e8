/** Figure 5: entries sampled from a band of frequencies around f_c, compared with uniform entries. */
import { baseConfig, startTensorFlow } from '@fourierft/quickstart'
import { attachFourier } from './attached-methods.js'
import { colours } from './chart-frame.js'
import { compareOnDigits, type MethodConfig } from './digits-comparison.js'
import { errorBarChart } from './error-bar-chart.js'
import type { Experiment } from './experiment.js'
import { digitsSeeds, frequencyBiasSettings } from './settings.js'
import { decimal, percentage } from './table-text.js'

const { n, learningRate, paperWidth, paperBandwidth, paperCentres } = frequencyBiasSettings

/** Scales a frequency or a bandwidth of the paper to the smaller spectrum of the demo's layers. */
const scaled = (frequency: number): number => (frequency * baseConfig.hidden_size) / paperWidth

const withoutBias: MethodConfig = {
  name: 'no bias',
  learningRate,
  attach: (model, seed) => attachFourier(model, { n, seed }),
}

const bandPass = (paperCentre: number): MethodConfig => ({
  name: `f_c = ${scaled(paperCentre).toFixed(1)}`,
  learningRate,
  attach: (model, seed) =>
    attachFourier(model, {
      n,
      seed,
      entries: {
        sampler: 'bandpass',
        seed,
        centerFrequency: scaled(paperCentre),
        bandwidth: scaled(paperBandwidth),
      },
    }),
})

export const frequencyBias: Experiment = {
  name: 'frequency-bias',
  title: 'Figure 5: accuracy against the central frequency of the band that entries are drawn from',
  seeds: digitsSeeds,
  start: startTensorFlow,
  async run(options) {
    const centres = options.quick ? paperCentres.slice(0, 2) : paperCentres
    const configs = [withoutBias, ...centres.map(bandPass)]
    const outcomes = await compareOnDigits(configs, { ...options, scoredOn: 'test' })
    const [uniform, ...bands] = outcomes
    if (uniform === undefined) throw new Error('the run without bias is missing')
    const bandwidth = scaled(paperBandwidth).toFixed(1)
    return {
      table: [
        ['entries', "the paper's f_c", 'test accuracy', 'test loss'],
        ...outcomes.map(({ name, accuracy, loss }, index) => [
          name,
          index === 0 ? '–' : `${centres[index - 1]}`,
          percentage(accuracy),
          decimal(loss),
        ]),
      ],
      figure: errorBarChart({
        title: 'Accuracy against the central frequency',
        subtitle: `n = ${n}, W = ${bandwidth} on spectra of 64 × 64; mean and standard deviation of ${options.seeds.length} seeds`,
        xTitle: 'central frequency f_c',
        xScale: 'linear',
        series: [
          {
            name: 'band-pass',
            colour: colours.fourier,
            points: bands.map(({ accuracy }, index) => ({ x: scaled(centres[index] ?? 0), accuracy })),
          },
        ],
        reference: { name: 'no bias', accuracy: uniform.accuracy },
      }),
    }
  },
}
