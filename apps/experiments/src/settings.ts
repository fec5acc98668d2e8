/**
 * The settings of all experiments. The model, the digits, the training and the scaling are those of the demo (`@fourierft/quickstart`).
 * `tune.ts` chose the learning rates; README.md shows its tables.
 */
import { seeds as demoSeeds } from '@fourierft/quickstart'
import type { BasisName } from './basis.js'

export const digitsSeeds = demoSeeds

/** The seed for choosing learning rates. */
export const tuningSeed = 0

/** Figure 7. Classes, width, n, rank and epochs are those of the paper. It does not give the number of points, the radius, the noise or the network around the layer. */
export const expressivenessSettings = {
  clusters: { classes: 8, pointsPerClass: 30, radius: 4, deviation: 0.5 },
  width: 64,
  n: 128,
  rank: 1,
  scaling: 64,
  epochs: 2000,
  scoredEvery: 10,
  seeds: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
  tuningSeeds: [101, 102, 103],
  rates: {
    frozen: { FourierFT: 1, LoRA: 0.3 },
    trained: { FourierFT: 0.03, LoRA: 0.01 },
  },
  rateGrids: { FourierFT: [0.03, 0.1, 0.3, 1], LoRA: [0.01, 0.03, 0.1, 0.3] },
} as const

/** Figure 4. n = 128, 256, 512, 1024 and r = 1, 2, 4, 8 train equally many values in each layer. */
export const parametersSettings = {
  fourier: [
    { n: 16, learningRate: 0.4 },
    { n: 32, learningRate: 0.4 },
    { n: 64, learningRate: 0.1 },
    { n: 128, learningRate: 0.05 },
    { n: 256, learningRate: 0.05 },
    { n: 512, learningRate: 0.025 },
    { n: 1024, learningRate: 0.0125 },
  ],
  lora: [
    { rank: 1, learningRate: 0.08 },
    { rank: 2, learningRate: 0.04 },
    { rank: 4, learningRate: 0.02 },
    { rank: 8, learningRate: 0.02 },
  ],
  rateGrids: { fourier: [0.0125, 0.025, 0.05, 0.1, 0.2, 0.4], lora: [0.01, 0.02, 0.04, 0.08, 0.16] },
} as const

/**
 * Figure 5. The paper's layers are 768 × 768 with W = 200 and f_c = 0, 100 … 500; these are 64 × 64. Equation 5 does not change if D, f_c
 * and W are divided by the same number, here 768/64 = 12. As in the paper, the other settings are those of the run without bias.
 */
export const frequencyBiasSettings = {
  n: 64,
  learningRate: 0.1,
  paperWidth: 768,
  paperBandwidth: 200,
  paperCentres: [0, 100, 200, 300, 400, 500],
} as const

/** Table 6. */
export const basesSettings = {
  n: 256,
  rates: { fourier: 0.05, orthogonal: 0.05, random: 0.1 } satisfies Record<BasisName, number>,
  rateGrid: [0.025, 0.05, 0.1, 0.2],
} as const

/** Real mails. 6 layers of 384 × 384: n trains 6 n numbers, r trains 4,608 r. */
export const mailSettings = {
  seeds: [1, 2, 3],
  fourier: [
    { n: 250, learningRate: 0.2 },
    { n: 600, learningRate: 0.4 },
    { n: 1000, learningRate: 0.4 },
    { n: 4000, learningRate: 0.05 },
  ],
  lora: [
    { rank: 1, learningRate: 0.005 },
    { rank: 8, learningRate: 0.002 },
  ],
  /** The rate with which LoRA is usually trained. */
  trap: { n: 1000, learningRate: 0.0001 },
  headLearningRate: 0.001,
  headOnlyLearningRate: 0.001,
  rateGrids: {
    headOnly: [0.001, 0.003, 0.01],
    fourier: [
      { n: 250, rates: [0.1, 0.2, 0.4] },
      { n: 600, rates: [0.2, 0.4] },
      { n: 1000, rates: [0.05, 0.1, 0.2, 0.4] },
      { n: 4000, rates: [0.025, 0.05, 0.1] },
    ],
    lora: [
      { rank: 1, rates: [0.002, 0.005, 0.01] },
      { rank: 8, rates: [0.001, 0.002, 0.005] },
    ],
  },
} as const

/** A language model of 4 layers × 192 and other texts. 28 linear layers without the head: n trains 28 n numbers, r trains 14,592 r. */
export const languageSettings = {
  seeds: [1],
  fourier: { n: 1000, learningRate: 0.2 },
  defaultLayers: { learningRate: 0.2 },
  lora: { rank: 8, learningRate: 0.01 },
  headOnlyLearningRate: 0.003,
  fullLearningRate: 0.002,
  rateGrids: {
    fourier: [0.05, 0.2, 0.4],
    defaultLayers: [0.2, 0.4],
    lora: [0.005, 0.01, 0.02],
    headOnly: [0.003, 0.01],
    full: [0.001, 0.002, 0.004],
  },
} as const
