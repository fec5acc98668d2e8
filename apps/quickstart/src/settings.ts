/** What the demo compares, and with which settings. The rates were chosen by `tune.ts`; README.md has its table. */

/** The new domain: digits turned by so many degrees. */
export const degrees = 45

/** The same for every method; the seed decides the order of the digits, LoRA's start and FourierFT's entries. */
export const training = { epochs: 4, batchSize: 32 } as const

export const seeds = [1, 2, 3] as const

/** The adapters sit on query and value of each block, as in the FourierFT paper; everything else stays frozen, the classifier too. */
export const targetModules = ['query', 'value'] as const

export const fourierSettings = { nFrequency: 256, scaling: 128, learningRate: 5e-2 } as const

/** LoRA twice: with as many numbers as FourierFT, and with twice as many. */
export const loraSettings = [
  { rank: 2, alpha: 2, learningRate: 4e-2 },
  { rank: 4, alpha: 4, learningRate: 2e-2 },
] as const

export const fullSettings = { learningRate: 2e-3 } as const

export interface DemoSize {
  readonly seeds: readonly number[]
  readonly epochs: number
  /** At most so many digits of each set. */
  readonly adaptation: number
  readonly test: number
}

export const wholeDemo: DemoSize = { seeds, epochs: training.epochs, adaptation: Infinity, test: Infinity }

/** `--quick`: enough to see that everything works, too little to say anything about the methods. */
export const quickDemo: DemoSize = { seeds: seeds.slice(0, 1), epochs: 1, adaptation: 320, test: 200 }
