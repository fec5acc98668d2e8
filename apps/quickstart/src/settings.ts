/** The settings of the methods that the demo compares. The learning rates were chosen from the results of `tune.ts`, which README.md shows. */

/** The angle of the rotated digits. */
export const degrees = 45

/** The training of all methods. */
export const training = { epochs: 4, batchSize: 32 } as const

/** A seed determines the order of the digits, the initial values of LoRA and the entries of FourierFT. */
export const seeds = [1, 2, 3] as const

/** The adapted layers: query and value of each block, as in the FourierFT paper. Everything else is frozen, including the classifier. */
export const targetModules = ['query', 'value'] as const

export const fourierSettings = { nFrequency: 256, scaling: 128, learningRate: 5e-2 } as const

/** LoRA with as many parameters as FourierFT, and with twice as many. */
export const loraSettings = [
  { rank: 2, alpha: 2, learningRate: 4e-2 },
  { rank: 4, alpha: 4, learningRate: 2e-2 },
] as const

export const fullSettings = { learningRate: 2e-3 } as const

export interface DemoSize {
  readonly seeds: readonly number[]
  readonly epochs: number
  /** The largest number of digits to use of each set. */
  readonly adaptation: number
  readonly test: number
}

export const wholeDemo: DemoSize = { seeds, epochs: training.epochs, adaptation: Infinity, test: Infinity }

/** `--quick`: enough to test the program, too little to compare the methods. */
export const quickDemo: DemoSize = { seeds: seeds.slice(0, 1), epochs: 1, adaptation: 320, test: 200 }
