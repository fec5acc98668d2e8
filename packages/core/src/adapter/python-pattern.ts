/**
 * Runs untrusted regular expressions in Python's dialect with RE2, in linear time and with Python's results. Configurations are written for
 * Python's `re`, so another dialect would give other results. Patterns are untrusted, so a backtracking engine could hang.
 *
 * A pattern is parsed into a tree, which is written for RE2 in one of two ways. The simple way is for ASCII texts without line breaks, and for
 * patterns without look-aheads: RE2 then has the same conditions on a position as Python. For all other texts and patterns, a marker character
 * is inserted at each position of the text. The marker encodes which of the pattern's conditions are true at its position, and each condition
 * becomes a look-behind at one marker. This gives look-aheads, `$` before a last line break and Unicode's word boundaries their exact meaning.
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

/** A compiled pattern, with the methods of Python's `re`. */
export interface PythonPattern {
  /** `re.fullmatch(pattern, text) is not None` */
  fullMatch(text: string): boolean
  /** `re.match(pattern, text) is not None` */
  match(text: string): boolean
  /** `re.match(pattern, text).groupdict()`, or null if nothing matches. Groups inside look-aheads are absent. */
  groups(text: string): ReadonlyMap<string, string | undefined> | null
}

/** UTF-16 units of a pattern. The longest real patterns list some thousand module names. */
const MAX_PATTERN_LENGTH = 32_768
/** Instructions of a program, with counted repetitions expanded. */
const MAX_INSTRUCTIONS = 40_000
/** Instructions other than a plain character. The engine may have to follow all of them at each character of a name. */
const MAX_CHOICES = 4000
/** Bits of a marker: the number of different conditions in a pattern. */
const MAX_CONDITIONS = 8
/** Ranges of characters in a program, with Unicode's categories expanded: a few megabytes. */
const MAX_RANGES = 200_000

/**
 * Compiles a pattern.
 *
 * @param option name of the option in errors
 * @param budget limit on the total work of this pattern and others; default: each compilation and each match has its own limit
 * @throws FourierFTError INVALID_PATTERN if Python rejects the pattern, if it cannot run in linear time (back-references, look-behinds,
 *   conditional and atomic groups, possessive quantifiers), or if it is too large; with the position in code points
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
      rejection: (problem) => invalid(pattern, option, problem),
      spend: (work) => (budget ?? new PatternBudget()).spend(work, option),
      compile: (size) => (budget ?? new PatternBudget()).compile(size, option),
    })
  } catch (error) {
    if (error instanceof PatternProblem) throw invalid(pattern, option, error.message, error)
    throw error
  }
}

/** Checks whether the error is about a pattern that Python accepts but this package cannot run. */
export function isInexpressible(error: unknown): boolean {
  if (!FourierFTError.isInstance(error) || error.code !== 'INVALID_PATTERN') return false
  const { cause } = error.details
  return !(cause instanceof PatternProblem && cause.isMalformed)
}

function invalid(pattern: string, option: string, problem: string, cause?: PatternProblem): FourierFTError {
  const position = cause?.position
  const excerpt = pattern.length > 200 ? `${pattern.slice(0, 200)}…` : pattern
  const where = position === undefined ? '' : `, at position ${position}`
  return new FourierFTError(
    'INVALID_PATTERN',
    `${option}: the regular expression ${JSON.stringify(excerpt)} cannot be used: ${problem}${where}`,
    {
      advice: "use a regular expression that Python's re accepts and that can be matched in linear time",
      option,
      received: pattern,
      expected: 'a regular expression that can be matched in linear time',
      cause,
    },
  )
}

/** The errors and the budget of one pattern. */
interface Context {
  /** Returns the error that rejects the pattern. */
  readonly rejection: (problem: string) => FourierFTError
  /** Counts work that is about to be done. */
  readonly spend: (work: number) => void
  /** Counts a program that is about to be compiled. */
  readonly compile: (size: PatternSize) => void
}

/** A tree written for RE2 in one of the two ways. */
interface Program {
  /** Steps to make the engine's input for a text of `length` characters, mostly for look-aheads. */
  readonly inputWork: (length: number) => number
  /** Steps of a match on that input. */
  readonly matchWork: (length: number) => number
  /** Matches the whole input. */
  readonly whole: () => RE2JS
  /** Matches at the start of the input. */
  readonly prefix: () => RE2JS
  /** Names of the named groups; in the engine, group i is called `g<i>`. */
  readonly names: readonly string[]
  /** Makes the engine's input for a text. */
  readonly inputFor: (text: string) => string
  /** Converts a captured part of the input back to the text. */
  readonly textOf: (part: string) => string
}

class CompiledPattern implements PythonPattern {
  private readonly simple: Program | null
  private readonly marked: () => Program
  private readonly context: Context
  /** The pattern for the empty text, in which Python finds no `\B`; null if the pattern has no `\B`. */
  private readonly empty: (() => CompiledPattern) | null

  constructor(tree: PatternNode, context: Context) {
    this.context = context
    this.simple = hasLookAhead(tree) ? null : simpleProgram(tree, context)
    this.marked = once(() => markedProgram(tree, context))
    this.empty = some(tree, isNonBoundary)
      ? once(() => new CompiledPattern(withoutNonBoundaries(tree), context))
      : null
    // Compiles now, so that a pattern that the engine rejects throws before any name is tested.
    const program = this.simple ?? this.marked()
    program.whole()
  }

  fullMatch(text: string): boolean {
    const program = this.programFor(text)
    return program.whole().testExact(program.inputFor(text))
  }

  match(text: string): boolean {
    const program = this.programFor(text)
    return program.prefix().test(program.inputFor(text))
  }

  groups(text: string): ReadonlyMap<string, string | undefined> | null {
    const program = this.programFor(text)
    const matcher = program.prefix().matcher(program.inputFor(text))
    if (!matcher.lookingAt()) return null
    return new Map(
      program.names.map((name, i) => {
        const part = matcher.group(`g${i}`)
        return [name, part === null ? undefined : program.textOf(part)]
      }),
    )
  }

  private programFor(text: string): Program {
    if (text === '' && this.empty) return this.empty().programFor(text)
    const program = this.simple && isPlain(text) ? this.simple : this.marked()
    this.context.spend(program.inputWork(text.length) + program.matchWork(text.length))
    return program
  }
}

/** Checks whether a text is ASCII without line breaks. For such texts `$` equals `\Z`, `\b` equals RE2's, and sets are small. */
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
    inputWork: () => 0,
    matchWork: (length) => size.instructions * (length + 1),
    whole: once(() => compileRe2(body, 0, size, context)),
    prefix: once(() => compileRe2(`\\A(?:${body})`, 0, size, context)),
    names: writer.names,
    inputFor: (text) => text,
    textOf: (part) => part,
  }
}

/** Markers are the first private characters of plane 15. A text may contain them: markers are known by their position in the input. */
const MARKER = 0xf0000
const ANY_MARKER = `[${escapeCode(MARKER)}-${escapeCode(MARKER + 2 ** MAX_CONDITIONS - 1)}]`

function markedProgram(tree: PatternNode, context: Context): Program {
  const { rejection } = context
  const { ranges, instructions } = checkedSize(tree, MAX_CODE_POINT, context)
  // A marker follows each character.
  const size = { ranges, instructions: 2 * instructions }
  const tests = new Map<string, PositionTest>()
  const writer = new Writer(MAX_CODE_POINT, ANY_MARKER, (condition) => {
    const key = JSON.stringify({ ...condition, negated: false })
    const keys = [...tests.keys()]
    const bit = keys.includes(key) ? keys.indexOf(key) : keys.length
    if (bit >= MAX_CONDITIONS)
      throw rejection(`more than ${MAX_CONDITIONS} different look-aheads and anchors`)
    if (bit === keys.length) tests.set(key, positionTest(condition, context))
    const wanted = 'negated' in condition && condition.negated ? 0 : 1
    return `(?<=${markersWith(bit, wanted)})`
  })
  const body = writer.write(tree)
  /** Inserts a marker before each character and at the end. */
  const inputFor = (text: string): string => {
    const characters = [...text]
    const conditions = [...tests.values()]
    let marked = ''
    for (let position = 0; position <= characters.length; position++) {
      let bits = 0
      conditions.forEach((condition, bit) => {
        if (condition.at(characters, position)) bits |= 1 << bit
      })
      marked += String.fromCodePoint(MARKER + bits) + (characters[position] ?? '')
    }
    return marked
  }
  return {
    inputWork: (length) => [...tests.values()].reduce((sum, { work }) => sum + work(length), length),
    // The input has a marker for each character.
    matchWork: (length) => size.instructions * (2 * length + 1),
    whole: once(() => compileRe2(`${ANY_MARKER}(?:${body})`, RE2JS.LOOKBEHINDS, size, context)),
    prefix: once(() => compileRe2(`\\A${ANY_MARKER}(?:${body})`, RE2JS.LOOKBEHINDS, size, context)),
    names: writer.names,
    inputFor,
    // A captured part begins with a character and ends with a marker.
    textOf: (part) => [...part].filter((_, i) => i % 2 === 0).join(''),
  }
}

/** The test of one condition. */
interface PositionTest {
  /** Checks whether the condition, ignoring its negation, is true before character `position`. */
  readonly at: (characters: readonly string[], position: number) => boolean
  /** Steps of the test at all positions of a text of `length` characters. */
  readonly work: (length: number) => number
}

function positionTest(condition: AssertionNode, context: Context): PositionTest {
  const isBreak = (character: string | undefined) => character === '\n'
  const constantTime = (at: PositionTest['at']): PositionTest => ({ at, work: (length) => length + 1 })
  switch (condition.kind) {
    case 'start':
      return constantTime((_, position) => position === 0)
    case 'end':
      return constantTime((characters, position) => position === characters.length)
    case 'line start':
      return constantTime((characters, position) => position === 0 || isBreak(characters[position - 1]))
    case 'line end':
      return constantTime(
        (characters, position) => position === characters.length || isBreak(characters[position]),
      )
    case 'end or last line break':
      return constantTime(
        (characters, position) =>
          position === characters.length ||
          (position === characters.length - 1 && isBreak(characters[position])),
      )
    case 'word boundary': {
      const word = (character: string | undefined) =>
        character !== undefined && isWord(character.codePointAt(0) ?? 0, condition.ascii)
      return constantTime(
        (characters, position) => word(characters[position - 1]) !== word(characters[position]),
      )
    }
    case 'look-ahead': {
      const { item } = condition
      // On the rest of a plain text, the simple way gives the same result, unless the look-ahead contains another look-ahead or a condition
      // that looks back.
      const simple = looksBack(item) || hasLookAhead(item) ? null : simpleProgram(item, context)
      let last: { text: string; input: string } | undefined
      const program = markedProgram(item, context)
      return {
        at(characters, position) {
          if (simple) {
            const rest = characters.slice(position).join('')
            if (isPlain(rest)) return simple.prefix().test(rest)
          }
          const text = characters.join('')
          if (last?.text !== text) last = { text, input: program.inputFor(text) }
          // A marker takes two UTF-16 units.
          const offset = characters.slice(0, position).join('').length + 2 * position
          return program.prefix().test(last.input.slice(offset))
        },
        // The input is made once, and its rest is matched at each position. Only this case is quadratic in the length of the text.
        work: (length) => program.inputWork(length) + (program.matchWork(length) * (length + 2)) / 2,
      }
    }
  }
}

/** Returns the size of a program for characters up to `limit`. */
function checkedSize(tree: PatternNode, limit: number, { rejection }: Context): PatternSize {
  const ranges = sizeOf(tree, (node) => (node.kind === 'set' ? estimatedRanges(node.set, limit) : 0))
  if (ranges > MAX_RANGES) throw rejection('too many sets of characters')
  return { ranges, instructions: sizeOf(tree, () => 1) }
}

function compileRe2(
  pattern: string,
  flags: number,
  size: PatternSize,
  { rejection, compile }: Context,
): RE2JS {
  compile(size)
  try {
    return RE2JS.compile(pattern, flags)
  } catch (cause) {
    throw rejection(`the engine rejects it (${cause instanceof Error ? cause.message : cause})`)
  }
}

/** Writes a tree in RE2's syntax. */
class Writer {
  readonly names: string[] = []
  private readonly limit: number
  /** The pattern of the marker that follows each character of the input; empty in the simple way. */
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
        return `(?:${node.alternatives.map((alternative) => this.write(alternative)).join('|')})`
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
  // An empty set matches nothing. RE2 has no empty class, so this writes the complement of all characters.
  if (ranges.length === 0) return `[^${escapeCode(0)}-${escapeCode(MAX_CODE_POINT)}]`
  return `[${ranges.map(([first, last]) => `${escapeCode(first)}-${escapeCode(last)}`).join('')}]`
}

function escapeCode(codePoint: number): string {
  return `\\x{${codePoint.toString(16)}}`
}

/** Returns the character class of the markers in which `bit` has the value `wanted`. */
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
  if (node.kind === 'alternation') return node.alternatives
  return 'item' in node ? [node.item] : []
}

function some(node: PatternNode, predicate: (node: PatternNode) => boolean): boolean {
  return predicate(node) || children(node).some((child) => some(child, predicate))
}

const hasLookAhead = (tree: PatternNode) => some(tree, (node) => node.kind === 'look-ahead')
const looksBack = (tree: PatternNode) =>
  some(tree, (node) => isAssertion(node) && ['start', 'line start', 'word boundary'].includes(node.kind))

const isNonBoundary = (node: PatternNode) => node.kind === 'word boundary' && node.negated

const MATCHES_NOTHING: PatternNode = {
  kind: 'set',
  set: { ranges: [], categories: [], negated: false, ignoreCase: false, ascii: false },
}

/** Replaces each `\B` by a set that matches nothing. */
function withoutNonBoundaries(node: PatternNode): PatternNode {
  if (isNonBoundary(node)) return MATCHES_NOTHING
  if (node.kind === 'sequence') return { ...node, items: node.items.map(withoutNonBoundaries) }
  if (node.kind === 'alternation')
    return { ...node, alternatives: node.alternatives.map(withoutNonBoundaries) }
  return 'item' in node ? { ...node, item: withoutNonBoundaries(node.item) } : node
}

/** Returns the sum of the weights of a tree's nodes, with counted repetitions expanded. */
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
  let value: T | undefined
  return () => {
    value ??= make()
    return value
  }
}
