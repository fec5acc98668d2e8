/**
 * What the regular expressions of one configuration may cost, all of them together: compiling, matching, look-aheads, names times patterns.
 * Each pattern runs in linear time, but a stranger's file chooses their number, their sizes and the names. Work is counted before it is
 * done, never measured, so the same file gets the same answer on every machine.
 *
 * A unit is one instruction of a pattern at one character of a name: about ten nanoseconds at worst.
 */
import { FourierFTError } from '../errors.js'

/** Of one operation, such as reading an adapter or matching a model's modules: seconds at worst. */
const MAX_WORK = 1e9
/** Of one match, which nothing can interrupt. */
const MAX_WORK_AT_ONCE = 6e7
/** Instructions of the compiled patterns that are held at once: some ten megabytes. */
const MAX_HELD = 100_000
/** What each compiled pattern holds besides, in instructions. */
const HELD_BY_PATTERN = 10
/** Compiling costs this much for each instruction, and that much for each range of characters. */
const WORK_OF_INSTRUCTION = 1000
const WORK_OF_RANGE = 50

export class PatternBudget {
  private left = MAX_WORK
  private held = 0
  private exceeded = false

  /** Whether an error of the budget was thrown. */
  get isExceeded(): boolean {
    return this.exceeded
  }

  /**
   * Counts the work of compiling a pattern, and the memory for it until {@link release}.
   *
   * @throws FourierFTError INVALID_PATTERN, as `spend`; or the patterns are too many or too large to be held at once
   */
  compile({ instructions, ranges }: PatternSize, option: string): void {
    this.spend(WORK_OF_INSTRUCTION * instructions + WORK_OF_RANGE * ranges, option)
    this.held += HELD_BY_PATTERN + instructions
    if (this.held <= MAX_HELD) return
    this.exceeded = true
    throw new FourierFTError(
      'INVALID_PATTERN',
      `${option}: the regular expressions of the configuration have more than ${MAX_HELD} instructions. Use fewer or shorter patterns.`,
      { option, expected: `at most ${MAX_HELD} instructions`, received: this.held },
    )
  }

  /** The patterns that were compiled so far are no longer held. */
  release(): void {
    this.held = 0
  }

  /**
   * Counts work that is about to be done.
   *
   * @param option names the option that the pattern is from
   * @throws FourierFTError INVALID_PATTERN: it is more than the operation may cost; nothing was done
   */
  spend(work: number, option: string): void {
    this.left -= work
    if (this.left >= 0 && work <= MAX_WORK_AT_ONCE) return
    this.exceeded = true
    const what =
      work > MAX_WORK_AT_ONCE
        ? `one of its regular expressions costs ${Math.ceil(work)} steps on one name; expected at most ${MAX_WORK_AT_ONCE}`
        : `the regular expressions of the configuration cost more than ${MAX_WORK} steps on the names of the modules`
    throw new FourierFTError(
      'INVALID_PATTERN',
      `${option}: ${what}. Use fewer or shorter patterns and look-aheads, or write the names of the modules in full.`,
      { option, expected: `at most ${MAX_WORK} steps`, received: work },
    )
  }
}

/** What a compiled pattern consists of, with counted repetitions written out. */
export interface PatternSize {
  readonly instructions: number
  /** Of characters, in the sets of the instructions; they are what compiled patterns take memory for. */
  readonly ranges: number
}
