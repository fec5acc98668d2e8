/** `FittingTraining`: the training session of a trainer, and whether the memory suffices for a step. */
import { FourierFTError } from '@fourierft/core'
import type { MemoryPolicy } from '@fourierft/onnx'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'
import type { TrainingSession } from './training-session.js'

/** `auto` begins as `fast`, and changes to `lean` before the first step that does not fit into the budget. */
export type TrainerMemory = MemoryPolicy | 'auto'

export const TRAINER_MEMORY = ['fast', 'lean', 'auto'] as const satisfies readonly TrainerMemory[]

export interface FittingTrainingOptions {
  readonly memory: TrainerMemory
  /** Bytes for the values of a step. Undefined: `fast` may take what is free if it can change, and all memory of the machine otherwise. */
  readonly budget: number | undefined
  open(policy: MemoryPolicy): Promise<TrainingSession>
}

export class FittingTraining {
  readonly #options: FittingTrainingOptions
  #current: TrainingSession
  #policy: MemoryPolicy
  #change: Promise<void> | undefined
  /** Bytes: the largest need of the runs so far. The runtime keeps this memory, so it is not free any more. */
  #largest = 0

  private constructor(options: FittingTrainingOptions, policy: MemoryPolicy, current: TrainingSession) {
    this.#options = options
    this.#policy = policy
    this.#current = current
  }

  static async open(options: FittingTrainingOptions): Promise<FittingTraining> {
    const policy = options.memory === 'auto' ? 'fast' : options.memory
    return new FittingTraining(options, policy, await options.open(policy))
  }

  get current(): TrainingSession {
    return this.#current
  }

  get policy(): MemoryPolicy {
    return this.#policy
  }

  /**
   * Returns a session in which a run with these feeds fits into the budget.
   *
   * @throws {FourierFTError} `INVALID_OPTION` if no session that `memory` allows fits
   */
  async sessionFor(feeds: InferenceSession.FeedsType): Promise<TrainingSession> {
    const needed = this.#current.memoryFor(feeds)
    if (needed <= this.#largest) return this.#current
    const { memory, budget } = this.#options
    const { free, total } = platform.memory()
    const canChange = memory === 'auto' && this.#policy === 'fast'
    const limit = budget ?? (canChange ? this.#largest + free : total)
    if (needed <= limit) {
      this.#largest = needed
      return this.#current
    }
    if (!canChange) throw this.#tooLarge(needed, limit)
    this.#change ??= this.#becomeLean()
    await this.#change
    return this.sessionFor(feeds)
  }

  async #becomeLean(): Promise<void> {
    try {
      const lean = await this.#options.open('lean')
      const fast = this.#current
      this.#current = lean
      this.#policy = 'lean'
      this.#largest = 0
      await fast.release()
    } finally {
      this.#change = undefined
    }
  }

  #tooLarge(needed: number, limit: number): FourierFTError {
    const isStated = this.#options.budget !== undefined
    const smaller = 'use smaller batches; step() takes several as one'
    return new FourierFTError(
      'INVALID_OPTION',
      `${isStated ? 'memoryBudget' : 'memory'}: a step with this batch needs about ${formatBytes(needed)}; ${
        isStated ? `the budget is ${formatBytes(limit)}` : `the machine has ${formatBytes(limit)}`
      }`,
      {
        option: isStated ? 'memoryBudget' : 'memory',
        expected: limit,
        received: needed,
        advice: this.#policy === 'fast' ? `choose memory: 'lean', or ${smaller}` : smaller,
      },
    )
  }
}

function formatBytes(bytes: number): string {
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`
}
