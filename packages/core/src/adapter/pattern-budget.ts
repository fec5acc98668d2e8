/**
 * A limit on the work of all regular expressions of one configuration together: compiling, matching, look-aheads, names times patterns.
 * Each pattern runs in linear time, but an untrusted file chooses their number, their sizes and the names. Work is counted before it is
 * done, not measured, so the same file is accepted or rejected on every machine.
 *
 * A unit is one instruction of a pattern at one character of a name: about ten nanoseconds at worst.
 */
import { FourierFTError } from '../errors.js'

/** Of one operation, such as reading an adapter or matching a model's modules: seconds at worst. */
const MAX_WORK = 1e9
/** Of one match, which cannot be interrupted. */
const MAX_WORK_OF_MATCH = 6e7
/** Instructions of the compiled patterns that are held at the same time: some ten megabytes. */
const MAX_HELD = 100_000
/** Further memory of each compiled pattern, as a number of instructions. */
const HELD_BY_PATTERN = 10
/** The work of compiling an instruction, and a range of characters. */
const WORK_OF_INSTRUCTION = 1000
const WORK_OF_RANGE = 50

export class PatternBudget {
  private left = MAX_WORK
  private held = 0
  private exceeded = false

  /** Whether the budget has thrown an error. */
  get isExceeded(): boolean {
    return this.exceeded
  }

  /**
   * Counts the work of compiling a pattern, and the memory for it until {@link release}.
   *
   * @throws FourierFTError INVALID_PATTERN if the work is too much (see `spend`), or the patterns are too many or too large to hold
   */
  compile({ instructions, ranges }: PatternSize, option: string): void {
    this.spend(WORK_OF_INSTRUCTION * instructions + WORK_OF_RANGE * ranges, option)
    this.held += HELD_BY_PATTERN + instructions
    if (this.held <= MAX_HELD) return
    this.exceeded = true
    throw new FourierFTError(
      'INVALID_PATTERN',
      `${option}: the regular expressions of the configuration have more than ${MAX_HELD} instructions`,
      {
        advice: 'use fewer or shorter patterns',
        option,
        expected: `at most ${MAX_HELD} instructions`,
        received: this.held,
      },
    )
  }

  /** The compiled patterns are no longer held. */
  release(): void {
    this.held = 0
  }

  /**
   * Counts work that is about to be done.
   *
   * @param option the option that holds the pattern
   * @throws FourierFTError INVALID_PATTERN if the operation costs too much
   */
  spend(work: number, option: string): void {
    this.left -= work
    if (this.left >= 0 && work <= MAX_WORK_OF_MATCH) return
    this.exceeded = true
    const problem =
      work > MAX_WORK_OF_MATCH
        ? `one of its regular expressions costs ${Math.ceil(work)} steps on one name; expected at most ${MAX_WORK_OF_MATCH}`
        : `the regular expressions of the configuration cost more than ${MAX_WORK} steps on the names of the modules`
    throw new FourierFTError('INVALID_PATTERN', `${option}: ${problem}`, {
      advice: 'use fewer or shorter patterns and look-aheads, or write the names of the modules in full',
      option,
      expected: `at most ${MAX_WORK} steps`,
      received: work,
    })
  }
}

/** The size of a compiled pattern, with counted repetitions written out. */
export interface PatternSize {
  readonly instructions: number
  /** Ranges of characters in the sets of the instructions; they take most of a pattern's memory. */
  readonly ranges: number
}
