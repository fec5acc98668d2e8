/**
 * Limits the total work of all regular expressions of one configuration: compiling, matching, and look-aheads, for every name and pattern.
 * Each pattern runs in linear time, but an untrusted file chooses the number of patterns, their sizes and the names. Work is counted before
 * it is done, not measured, so every machine accepts or rejects the same files.
 *
 * One step is one instruction of a pattern at one character of a name, and takes at most about ten nanoseconds.
 */
import { FourierFTError } from '../errors.js'

/** Steps of one operation, such as reading an adapter or matching a model's modules: a few seconds at most. */
const MAX_WORK = 1e9
/** Steps of one match, which cannot be interrupted. */
const MAX_WORK_PER_MATCH = 6e7
/** Instructions of all compiled patterns in memory: about ten megabytes. */
const MAX_INSTRUCTIONS_IN_MEMORY = 100_000
/** The additional memory of each compiled pattern, as a number of instructions. */
const INSTRUCTIONS_PER_PATTERN = 10
/** Steps to compile an instruction or a range of characters. */
const WORK_PER_INSTRUCTION = 1000
const WORK_PER_RANGE = 50

/** The steps and the memory that are left for one operation. */
export class PatternBudget {
  private left = MAX_WORK
  private inMemory = 0
  private exceeded = false

  /** Whether the budget has thrown an error. */
  get isExceeded(): boolean {
    return this.exceeded
  }

  /**
   * Counts the work of compiling a pattern, and the memory for it until {@link release}.
   *
   * @throws FourierFTError INVALID_PATTERN if the work is too much (see `spend`), or the patterns need too much memory
   */
  compile({ instructions, ranges }: PatternSize, option: string): void {
    this.spend(WORK_PER_INSTRUCTION * instructions + WORK_PER_RANGE * ranges, option)
    this.inMemory += INSTRUCTIONS_PER_PATTERN + instructions
    if (this.inMemory <= MAX_INSTRUCTIONS_IN_MEMORY) return
    this.exceeded = true
    throw new FourierFTError(
      'INVALID_PATTERN',
      `${option}: the regular expressions of the configuration have more than ${MAX_INSTRUCTIONS_IN_MEMORY} instructions`,
      {
        advice: 'use fewer or shorter patterns',
        option,
        expected: `at most ${MAX_INSTRUCTIONS_IN_MEMORY} instructions`,
        received: this.inMemory,
      },
    )
  }

  /** Records that the compiled patterns are no longer in memory. */
  release(): void {
    this.inMemory = 0
  }

  /**
   * Counts work that is about to be done.
   *
   * @param option the option that contains the pattern
   * @throws FourierFTError INVALID_PATTERN if the match or the whole operation costs too much
   */
  spend(work: number, option: string): void {
    this.left -= work
    if (this.left >= 0 && work <= MAX_WORK_PER_MATCH) return
    this.exceeded = true
    const problem =
      work > MAX_WORK_PER_MATCH
        ? `one of its regular expressions costs ${Math.ceil(work)} steps on one name; expected at most ${MAX_WORK_PER_MATCH}`
        : `the regular expressions of the configuration cost more than ${MAX_WORK} steps on the names of the modules`
    throw new FourierFTError('INVALID_PATTERN', `${option}: ${problem}`, {
      advice: 'use fewer or shorter patterns and look-aheads, or write the names of the modules in full',
      option,
      expected: `at most ${MAX_WORK} steps`,
      received: work,
    })
  }
}

/** The size of a compiled pattern, with counted repetitions expanded. */
export interface PatternSize {
  readonly instructions: number
  /** Ranges of characters in the sets of the instructions; they take most of a pattern's memory. */
  readonly ranges: number
}
