/**
 * Tests random and damaged patterns, some with look-aheads in look-aheads. Each pattern is rejected with a typed error, or gives the same results
 * as JavaScript's engine on short texts, on which a backtracking engine is fast. `FOURIERFT_MUTANTS` sets the number of patterns,
 * `FOURIERFT_MUTANT_SEED` the first seed. A failure names the pattern.
 */
import { expect, it } from 'vitest'
import { MersenneTwister } from '../entries/mersenne-twister.js'
import { FourierFTError } from '../errors.js'
import { PatternBudget } from './pattern-budget.js'
import { compilePythonPattern, type PythonPattern } from './python-pattern.js'

const MUTANTS = Number(process.env.FOURIERFT_MUTANTS ?? 4000)
/** The time depends on the number of patterns. */
const NO_LIMIT = 0
const FIRST_SEED = Number(process.env.FOURIERFT_MUTANT_SEED ?? 1)

/** Pieces of patterns that mean the same in Python and JavaScript, on ASCII texts without line breaks. */
const PIECES =
  'a b a b . \\. [ab] [^a] \\w (?: (?= (?! (?=.* (?!.* ( ) ) ) ) | * + ? *? {2} {1,2} $ ^ \\b'.split(' ')
const SEEDS = [
  '(?= .* a ) b',
  '(?! (?= a ) . ) * b',
  '(?: (?= a (?! b ) ) \\w ) + $',
  '^ (?= .* (?= .* b ) ) . * \\. a',
].map((seed) => seed.split(' '))
const TEXTS = ['', 'a', 'b', 'ab', 'ba', 'a.b', 'b.a', 'aabb', 'ab.ab', '..', 'b_a.', 'abab.ba']

function mutant(random: (below: number) => number): string {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)]
  const pieces = random(3) === 0 ? [] : [...pick(SEEDS)]
  for (let rounds = 1 + random(8); rounds > 0; rounds--) {
    const at = random(pieces.length + 1)
    const piece = pick(PIECES)
    // Close most groups.
    if (piece.startsWith('(') && random(4) > 0) pieces.splice(at, random(2), piece, pick(PIECES), ')')
    else if (random(4) === 0) pieces.splice(at, 1)
    else pieces.splice(at, random(2), piece)
  }
  return pieces.join('')
}

function compiled(pattern: string, budget: PatternBudget): PythonPattern | undefined {
  try {
    return compilePythonPattern(pattern, { option: 'x', budget })
  } catch (error) {
    if (FourierFTError.isInstance(error) && error.code === 'INVALID_PATTERN' && error.message.length < 2000)
      return undefined
    throw new Error(`pattern ${pattern}`, { cause: error })
  }
}

it(
  `matches or rejects ${MUTANTS} patterns`,
  () => {
    let compiledCount = 0
    let matched = 0
    for (let seed = FIRST_SEED; seed < FIRST_SEED + MUTANTS; seed++) {
      const generator = new MersenneTwister(seed)
      const pattern = mutant((below) => generator.nextUint32() % below)
      const ours = compiled(pattern, new PatternBudget())
      if (!ours) continue
      compiledCount++
      const whole = new RegExp(`^(?:${pattern})$`)
      const prefix = new RegExp(`^(?:${pattern})`)
      for (const text of TEXTS) {
        const [full, match] = [ours.fullMatch(text), ours.match(text)]
        if (full || match) matched++
        if (full !== whole.test(text) || match !== prefix.test(text))
          throw new Error(`seed ${seed}: ${pattern} on '${text}' is ${full}, ${match}`)
      }
    }
    // If all patterns were rejected, or none matched, this would test nothing.
    expect(compiledCount).toBeGreaterThan(MUTANTS / 4)
    expect(matched).toBeGreaterThan(compiledCount)
  },
  NO_LIMIT,
)
