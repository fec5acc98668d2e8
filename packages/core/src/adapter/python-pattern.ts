/**
 * Regular expressions from strangers: Python's dialect and Python's answers, run in time linear in the pattern by RE2. Configurations
 * are written for Python's `re`, and a pattern may come from anywhere, so neither another dialect nor a backtracking engine will do.
 *
 * A pattern is read into a tree and written out again for RE2 in one of two ways. The simple way serves ASCII texts without line breaks,
 * in which all conditions on a position but look-aheads are RE2's own. For every other text or pattern each position of the text gets a
 * marker character that says which of the pattern's conditions hold there, and the conditions become one-character look-behinds at
 * the markers: that gives look-aheads, `$` before a last line break and Unicode's word boundaries their exact meaning.
 *
 * @see https://github.com/google/re2/wiki/WhyRE2
 */
import { RE2JS } from 're2js'
import { FourierFTError } from '../errors.js'
import {
  type AssertionNode,
  isAssertion,
  type PatternNode,
  PatternProblem,
  parsePythonPattern,
} from './parse-python-pattern.js'
import { PatternBudget, type PatternSize } from './pattern-budget.js'
import {
  type CodeRange,
  estimatedRanges,
  isWord,
  MAX_ASCII,
  MAX_CODE_POINT,
  resolveSet,
} from './python-character-set.js'

export interface PythonPattern {
  /** `re.fullmatch(pattern, text) is not None` */
  fullMatch(text: string): boolean
  /** `re.match(pattern, text) is not None` */
  match(text: string): boolean
  /** `re.match(pattern, text).groupdict()`, or null where nothing matches. Groups inside look-aheads are absent. */
  groups(text: string): ReadonlyMap<string, string | undefined> | null
}

/** Code points; the longest real patterns list some thousand module names. */
const MAX_PATTERN_LENGTH = 32_768
/** Instructions of a program, with counted repetitions written out. */
const MAX_INSTRUCTIONS = 40_000
/** Those of them that are not a plain character: what the engine may have to follow at once, at each character of a name. */
const MAX_CHOICES = 4000
/** Bits of a marker. Distinct conditions of a pattern, not their occurrences. */
const MAX_CONDITIONS = 8
/** Ranges of characters in a program, Unicode's categories written out: a few megabytes. */
const MAX_RANGES = 200_000

/**
 * @param option names the option that the pattern is from in errors
 * @param budget is what the pattern and its matches may cost together with others; default: each costs only itself
 * @throws FourierFTError INVALID_PATTERN: Python refuses the pattern, or it holds what cannot run in linear time (back-references,
 *   look-behinds, conditional and atomic groups, possessive quantifiers), or it is too large; with the position in code points
 */
export function compilePythonPattern(
  pattern: string,
  { option, budget }: { readonly option: string; readonly budget?: PatternBudget },
): PythonPattern {
  try {
    if (pattern.length > MAX_PATTERN_LENGTH) {
      throw new PatternProblem(`more than ${MAX_PATTERN_LENGTH} characters`)
    }
    const tree = parsePythonPattern(pattern)
    const isChoice = (node: PatternNode) => (isPlainCharacter(node) ? 0 : 1)
    if (sizeOf(tree, () => 1) > MAX_INSTRUCTIONS || sizeOf(tree, isChoice) > MAX_CHOICES) {
      throw new PatternProblem('too many alternatives, or repetitions that multiply to too many')
    }
    return new CompiledPattern(tree, {
      refuse: (problem) => invalid(pattern, option, problem),
      spend: (work) => (budget ?? new PatternBudget()).spend(work, option),
      compile: (size) => (budget ?? new PatternBudget()).compile(size, option),
    })
  } catch (error) {
    if (error instanceof PatternProblem) throw invalid(pattern, option, error.message, error)
    throw error
  }
}

/** Whether the error is about a pattern that Python accepts, and that cannot be run here. */
export function isInexpressible(error: unknown): boolean {
  if (!FourierFTError.isInstance(error) || error.code !== 'INVALID_PATTERN') return false
  const { cause } = error.details
  return !(cause instanceof PatternProblem && cause.isMalformed)
}

function invalid(pattern: string, option: string, problem: string, cause?: PatternProblem): FourierFTError {
  const position = cause?.position
  const shown = pattern.length > 200 ? `${pattern.slice(0, 200)}…` : pattern
  const where = position === undefined ? '' : `, at position ${position}`
  return new FourierFTError(
    'INVALID_PATTERN',
    `${option}: the regular expression ${JSON.stringify(shown)} cannot be used: ${problem}${where}. ` +
      "It has to be one that Python's re accepts and that can be matched in linear time.",
    { option, received: pattern, expected: 'a regular expression that can be matched in linear time', cause },
  )
}

/** What a pattern at work needs of the world around it. */
interface Context {
  /** Makes the error of the pattern. */
  readonly refuse: (problem: string) => FourierFTError
  /** Counts work that is about to be done. */
  readonly spend: (work: number) => void
  /** Counts a program that is about to be compiled. */
  readonly compile: (size: PatternSize) => void
}

/** A tree, written out for RE2 in one of the two ways. */
interface Program {
  /** Steps that making the subject of a text of so many characters takes: its look-aheads, mostly. */
  readonly subjectWork: (length: number) => number
  /** Steps that a match takes on the subject of such a text. */
  readonly matchWork: (length: number) => number
  readonly whole: () => RE2JS
  readonly prefix: () => RE2JS
  /** The named groups; the engine knows them by number. */
  readonly names: readonly string[]
  /** What the engine sees of a text. */
  readonly subject: (text: string) => string
  /** What was captured, as it stands in the text. */
  readonly captured: (part: string) => string
}

class CompiledPattern implements PythonPattern {
  private readonly simple: Program | null
  private readonly marked: () => Program
  private readonly context: Context
  /** For the empty text, in which Python finds no `\B`; null where the pattern has none. */
  private readonly empty: (() => CompiledPattern) | null

  constructor(tree: PatternNode, context: Context) {
    this.context = context
    this.simple = hasLookAhead(tree) ? null : simpleProgram(tree, context)
    this.marked = once(() => markedProgram(tree, context))
    this.empty = some(tree, isNonBoundary)
      ? once(() => new CompiledPattern(withoutNonBoundaries(tree), context))
      : null
    // Now, so that a pattern that the engine refuses is refused whether or not a name is ever tried.
    const program = this.simple ?? this.marked()
    program.whole()
  }

  fullMatch(text: string): boolean {
    const program = this.programFor(text)
    return program.whole().testExact(program.subject(text))
  }

  match(text: string): boolean {
    const program = this.programFor(text)
    return program.prefix().test(program.subject(text))
  }

  groups(text: string): ReadonlyMap<string, string | undefined> | null {
    const program = this.programFor(text)
    const matcher = program.prefix().matcher(program.subject(text))
    if (!matcher.lookingAt()) return null
    return new Map(
      program.names.map((name, i) => {
        const part = matcher.group(`g${i}`)
        return [name, part === null ? undefined : program.captured(part)]
      }),
    )
  }

  private programFor(text: string): Program {
    if (text === '' && this.empty) return this.empty().programFor(text)
    const program = this.simple && isPlain(text) ? this.simple : this.marked()
    this.context.spend(program.subjectWork(text.length) + program.matchWork(text.length))
    return program
  }
}

/** ASCII, and no line break: `$` is `\Z`, `\b` is RE2's, sets are small. */
export function isPlain(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit > MAX_ASCII || unit === LINE_BREAK) return false
  }
  return true
}

const LINE_BREAK = 0x0a

function simpleProgram(tree: PatternNode, context: Context): Program {
  const size = checkedSize(tree, MAX_ASCII, context)
  const writer = new Writer(MAX_ASCII, '', (condition) => {
    switch (condition.kind) {
      case 'start':
      case 'line start':
        return '\\A'
      case 'word boundary':
        return condition.negated ? '\\B' : '\\b'
      default:
        return '\\z'
    }
  })
  const body = writer.write(tree)
  return {
    subjectWork: () => 0,
    matchWork: (length) => size.instructions * (length + 1),
    whole: once(() => compileRe2(body, 0, size, context)),
    prefix: once(() => compileRe2(`\\A(?:${body})`, 0, size, context)),
    names: writer.names,
    subject: (text) => text,
    captured: (part) => part,
  }
}

/** Markers are the first private characters of plane 15. A text may hold them too: markers stand at every other place, and only there. */
const MARKER = 0xf0000
const ANY_MARKER = `[${escapeCode(MARKER)}-${escapeCode(MARKER + 2 ** MAX_CONDITIONS - 1)}]`

function markedProgram(tree: PatternNode, context: Context): Program {
  const { refuse } = context
  const { ranges, instructions } = checkedSize(tree, MAX_CODE_POINT, context)
  // A marker follows each character.
  const size = { ranges, instructions: 2 * instructions }
  const tests = new Map<string, PositionTest>()
  const writer = new Writer(MAX_CODE_POINT, ANY_MARKER, (condition) => {
    const key = JSON.stringify({ ...condition, negated: false })
    const keys = [...tests.keys()]
    const bit = keys.includes(key) ? keys.indexOf(key) : keys.length
    if (bit >= MAX_CONDITIONS) throw refuse(`more than ${MAX_CONDITIONS} different look-aheads and anchors`)
    if (bit === keys.length) tests.set(key, positionTest(condition, context))
    const wanted = 'negated' in condition && condition.negated ? 0 : 1
    return `(?<=${markersWith(bit, wanted)})`
  })
  const body = writer.write(tree)
  /** The text with a marker before each character and at the end. */
  const subject = (text: string): string => {
    const characters = [...text]
    const conditions = [...tests.values()]
    let marked = ''
    for (let position = 0; position <= characters.length; position++) {
      let bits = 0
      conditions.forEach((holds, bit) => {
        if (holds.at(characters, position)) bits |= 1 << bit
      })
      marked += String.fromCodePoint(MARKER + bits) + (characters[position] ?? '')
    }
    return marked
  }
  return {
    subjectWork: (length) => [...tests.values()].reduce((sum, { work }) => sum + work(length), length),
    // In the subject each character has a marker beside it.
    matchWork: (length) => size.instructions * (2 * length + 1),
    whole: once(() => compileRe2(`${ANY_MARKER}(?:${body})`, RE2JS.LOOKBEHINDS, size, context)),
    prefix: once(() => compileRe2(`\\A${ANY_MARKER}(?:${body})`, RE2JS.LOOKBEHINDS, size, context)),
    names: writer.names,
    subject,
    // A part begins with a character and ends with a marker.
    captured: (part) => [...part].filter((_, i) => i % 2 === 0).join(''),
  }
}

interface PositionTest {
  /** Whether the condition, taken without its negation, holds before character `position`. */
  readonly at: (characters: readonly string[], position: number) => boolean
  /** Steps that the test takes at all positions of a text of so many characters. */
  readonly work: (length: number) => number
}

function positionTest(condition: AssertionNode, context: Context): PositionTest {
  const isBreak = (character: string | undefined) => character === '\n'
  const quick = (at: PositionTest['at']): PositionTest => ({ at, work: (length) => length + 1 })
  switch (condition.kind) {
    case 'start':
      return quick((_, position) => position === 0)
    case 'end':
      return quick((characters, position) => position === characters.length)
    case 'line start':
      return quick((characters, position) => position === 0 || isBreak(characters[position - 1]))
    case 'line end':
      return quick((characters, position) => position === characters.length || isBreak(characters[position]))
    case 'end or last line break':
      return quick(
        (characters, position) =>
          position === characters.length ||
          (position === characters.length - 1 && isBreak(characters[position])),
      )
    case 'word boundary': {
      const word = (character: string | undefined) =>
        character !== undefined && isWord(character.codePointAt(0) ?? 0, condition.ascii)
      return quick((characters, position) => word(characters[position - 1]) !== word(characters[position]))
    }
    case 'look-ahead': {
      const { item } = condition
      // On the rest of a plain text the simple way gives the same answer unless a condition looks back, or is a look-ahead itself.
      const simple = looksBack(item) || hasLookAhead(item) ? null : simpleProgram(item, context)
      let marked: { text: string; subject: string } | undefined
      const program = markedProgram(item, context)
      return {
        at(characters, position) {
          if (simple) {
            const rest = characters.slice(position).join('')
            if (isPlain(rest)) return simple.prefix().test(rest)
          }
          const text = characters.join('')
          if (marked?.text !== text) marked = { text, subject: program.subject(text) }
          // A marker takes two units.
          const offset = characters.slice(0, position).join('').length + 2 * position
          return program.prefix().test(marked.subject.slice(offset))
        },
        // The subject is made once; then the rest of it is matched at each position: the one case that is quadratic in the text.
        work: (length) => program.subjectWork(length) + (program.matchWork(length) * (length + 2)) / 2,
      }
    }
  }
}

/** The size of a program for texts of characters up to `limit`. */
function checkedSize(tree: PatternNode, limit: number, { refuse }: Context): PatternSize {
  const ranges = sizeOf(tree, (node) => (node.kind === 'set' ? estimatedRanges(node.set, limit) : 0))
  if (ranges > MAX_RANGES) throw refuse('too many sets of characters')
  return { ranges, instructions: sizeOf(tree, () => 1) }
}

function compileRe2(pattern: string, flags: number, size: PatternSize, { refuse, compile }: Context): RE2JS {
  compile(size)
  try {
    return RE2JS.compile(pattern, flags)
  } catch (cause) {
    throw refuse(`the engine refuses it (${cause instanceof Error ? cause.message : cause})`)
  }
}

/** Writes a tree in RE2's syntax. */
class Writer {
  readonly names: string[] = []
  private readonly limit: number
  /** What follows each character of the text. */
  private readonly separator: string
  private readonly condition: (node: AssertionNode) => string

  constructor(limit: number, separator: string, condition: (node: AssertionNode) => string) {
    this.limit = limit
    this.separator = separator
    this.condition = condition
  }

  write(node: PatternNode): string {
    switch (node.kind) {
      case 'set': {
        const set = writeSet(resolveSet(node.set, this.limit))
        return this.separator === '' ? set : `(?:${set}${this.separator})`
      }
      case 'sequence':
        return node.items.map((item) => this.write(item)).join('')
      case 'alternation':
        return `(?:${node.branches.map((branch) => this.write(branch)).join('|')})`
      case 'repeat':
        return `(?:${this.write(node.item)})${bounds(node.min, node.max)}${node.lazy ? '?' : ''}`
      case 'group': {
        if (node.name === undefined) return `(?:${this.write(node.item)})`
        const number = this.names.push(node.name) - 1
        return `(?P<g${number}>${this.write(node.item)})`
      }
      default:
        return this.condition(node)
    }
  }
}

function bounds(min: number, max: number): string {
  return max === Number.POSITIVE_INFINITY ? `{${min},}` : `{${min},${max}}`
}

function writeSet(ranges: readonly CodeRange[]): string {
  // A set without members matches nothing; RE2 has no empty class.
  if (ranges.length === 0) return `[^${escapeCode(0)}-${escapeCode(MAX_CODE_POINT)}]`
  return `[${ranges.map(([first, last]) => `${escapeCode(first)}-${escapeCode(last)}`).join('')}]`
}

function escapeCode(codePoint: number): string {
  return `\\x{${codePoint.toString(16)}}`
}

/** The class of markers in which `bit` is `wanted`. */
function markersWith(bit: number, wanted: 0 | 1): string {
  const run = 2 ** bit
  const ranges: CodeRange[] = []
  for (let first = wanted * run; first < 2 ** MAX_CONDITIONS; first += 2 * run) {
    ranges.push([MARKER + first, MARKER + first + run - 1])
  }
  return writeSet(ranges)
}

function children(node: PatternNode): readonly PatternNode[] {
  if (node.kind === 'sequence') return node.items
  if (node.kind === 'alternation') return node.branches
  return 'item' in node ? [node.item] : []
}

function some(node: PatternNode, predicate: (node: PatternNode) => boolean): boolean {
  return predicate(node) || children(node).some((child) => some(child, predicate))
}

const hasLookAhead = (tree: PatternNode) => some(tree, (node) => node.kind === 'look-ahead')
const looksBack = (tree: PatternNode) =>
  some(tree, (node) => isAssertion(node) && ['start', 'line start', 'word boundary'].includes(node.kind))

const isNonBoundary = (node: PatternNode) => node.kind === 'word boundary' && node.negated

const NOTHING: PatternNode = {
  kind: 'set',
  set: { ranges: [], categories: [], negated: false, ignoreCase: false, ascii: false },
}

/** Nothing matches in the place of each `\B`. */
function withoutNonBoundaries(node: PatternNode): PatternNode {
  if (isNonBoundary(node)) return NOTHING
  if (node.kind === 'sequence') return { ...node, items: node.items.map(withoutNonBoundaries) }
  if (node.kind === 'alternation') return { ...node, branches: node.branches.map(withoutNonBoundaries) }
  return 'item' in node ? { ...node, item: withoutNonBoundaries(node.item) } : node
}

/** The weight of a tree, with counted repetitions written out. */
function sizeOf(node: PatternNode, weight: (node: PatternNode) => number): number {
  const inner = children(node).reduce((sum, child) => sum + sizeOf(child, weight), weight(node))
  if (node.kind !== 'repeat') return inner
  return inner * Math.max(1, node.max === Number.POSITIVE_INFINITY ? node.min + 1 : node.max)
}

function isPlainCharacter(node: PatternNode): boolean {
  if (node.kind !== 'set') return false
  const { ranges, categories, negated } = node.set
  return !negated && categories.length === 0 && ranges.length === 1 && ranges[0]?.[0] === ranges[0]?.[1]
}

function once<T>(make: () => T): () => T {
  let made: T | undefined
  return () => {
    made ??= make()
    return made
  }
}
