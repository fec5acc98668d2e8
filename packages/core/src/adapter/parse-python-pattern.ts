/**
 * Parses a regular expression in the dialect of Python's `re` (3.11, `str` patterns) into a tree, which `python-pattern.ts` matches.
 * Rejects patterns that Python rejects, and patterns that cannot be matched in linear time.
 *
 * @see https://docs.python.org/3.11/library/re.html#regular-expression-syntax
 */
import type { Category, CharacterSet, CodeRange } from './python-character-set.js'
import { MAX_ASCII, MAX_CODE_POINT } from './python-character-set.js'

export type PatternNode =
  | { readonly kind: 'set'; readonly set: CharacterSet }
  | { readonly kind: 'sequence'; readonly items: readonly PatternNode[] }
  | { readonly kind: 'alternation'; readonly alternatives: readonly PatternNode[] }
  | {
      readonly kind: 'repeat'
      readonly item: PatternNode
      readonly min: number
      readonly max: number
      readonly lazy: boolean
    }
  | { readonly kind: 'group'; readonly item: PatternNode; readonly name?: string }
  | AssertionNode

/** A condition on a position. It consumes no characters. */
export type AssertionNode =
  | { readonly kind: 'start' | 'end' | 'end or last line break' | 'line start' | 'line end' }
  | { readonly kind: 'word boundary'; readonly negated: boolean; readonly ascii: boolean }
  | { readonly kind: 'look-ahead'; readonly negated: boolean; readonly item: PatternNode }

/** A problem in a pattern. Its position, if it has one, is an index in code points. */
export class PatternProblem extends Error {
  readonly position: number | undefined
  /** True if Python also rejects the pattern; false if only this package cannot run it. */
  readonly isMalformed: boolean

  constructor(problem: string, position?: number, isMalformed = false) {
    super(problem)
    this.position = position
    this.isMalformed = isMalformed
  }
}

/** Limits the recursion of the parser and the engine. Real patterns have less nesting. */
const MAX_NESTING = 100
/** The largest counted repetition that the engine accepts. */
const MAX_REPEAT = 1000

interface Flags {
  readonly ignoreCase: boolean
  readonly multiline: boolean
  readonly dotAll: boolean
  readonly verbose: boolean
  readonly ascii: boolean
}

/** Parses a pattern. @throws PatternProblem */
export function parsePythonPattern(pattern: string): PatternNode {
  const parser = new Parser([...pattern])
  const node = parser.alternation(NO_FLAGS, 0)
  if (parser.next !== undefined) parser.fail('unbalanced parenthesis')
  return node
}

const NO_FLAGS: Flags = { ignoreCase: false, multiline: false, dotAll: false, verbose: false, ascii: false }
const FLAG_NAMES: ReadonlyMap<string, keyof Flags> = new Map([
  ['i', 'ignoreCase'],
  ['m', 'multiline'],
  ['s', 'dotAll'],
  ['x', 'verbose'],
  ['a', 'ascii'],
])
const CONTROL_ESCAPES: ReadonlyMap<string, number> = new Map([
  ['a', 7],
  ['b', 8],
  ['t', 9],
  ['n', 10],
  ['v', 11],
  ['f', 12],
  ['r', 13],
  ['\\', 0x5c],
])
const CATEGORIES = 'dDwWsS'

class Parser {
  private readonly characters: readonly string[]
  private position = 0
  private readonly groupNames = new Set<string>()
  /** Flags that a group such as `(?i)` at the start of the pattern sets for the whole pattern. */
  private globalFlags: Partial<Flags> = {}

  constructor(characters: readonly string[]) {
    this.characters = characters
  }

  get next(): string | undefined {
    return this.characters[this.position]
  }

  /** Rejects a pattern that Python also rejects. */
  fail(problem: string, position = this.position): never {
    throw new PatternProblem(problem, position, true)
  }

  /** Rejects a pattern that Python accepts but this package cannot run. */
  private unsupported(problem: string, position = this.position): never {
    throw new PatternProblem(problem, position)
  }

  alternation(flags: Flags, nesting: number): PatternNode {
    if (nesting > MAX_NESTING) this.unsupported(`groups nested deeper than ${MAX_NESTING}`)
    const alternatives: PatternNode[] = []
    do {
      alternatives.push(this.sequence(flags, nesting, nesting === 0 && alternatives.length === 0))
    } while (this.accept('|'))
    const [only] = alternatives
    return only && alternatives.length === 1 ? only : { kind: 'alternation', alternatives }
  }

  private sequence(outer: Flags, nesting: number, first: boolean): PatternNode {
    const items: PatternNode[] = []
    while (true) {
      const flags: Flags = nesting === 0 ? { ...outer, ...this.globalFlags } : outer
      const start = this.position
      const c = this.next
      if (c === undefined || c === '|' || c === ')') break
      this.position++
      if (flags.verbose && ' \t\n\r\v\f'.includes(c)) continue
      if (flags.verbose && c === '#') {
        while (this.next !== undefined && this.next !== '\n') this.position++
        continue
      }
      if (c === '\\') items.push(this.escape(flags, start))
      else if (c === '[') items.push(this.characterClass(flags, start))
      else if (c === '.') items.push(dot(flags))
      else if (c === '^') items.push({ kind: flags.multiline ? 'line start' : 'start' })
      else if (c === '$') items.push({ kind: flags.multiline ? 'line end' : 'end or last line break' })
      else if (c === '(') {
        const node = this.group(flags, nesting, start, first && items.length === 0)
        if (node) items.push(node)
      } else {
        const range = '*+?{'.includes(c) ? this.quantifier(c) : null
        if (range) items.push(this.repeat(items.pop(), range, start))
        else items.push(this.literal(codePointOf(c), flags, start))
      }
    }
    const [only] = items
    return only && items.length === 1 ? only : { kind: 'sequence', items }
  }

  private accept(character: string): boolean {
    if (this.next !== character) return false
    this.position++
    return true
  }

  /** Reads the bounds of `*`, `+`, `?` or `{…}`. Returns null if the brace is a literal character. */
  private quantifier(c: string): readonly [min: number, max: number] | null {
    if (c === '*') return [0, Number.POSITIVE_INFINITY]
    if (c === '+') return [1, Number.POSITIVE_INFINITY]
    if (c === '?') return [0, 1]
    const start = this.position
    if (this.next === '}') return null
    const low = this.digits()
    const high = this.accept(',') ? this.digits() : low
    if (!this.accept('}')) {
      this.position = start
      return null
    }
    const min = low === '' ? 0 : Number(low)
    const max = high === '' ? Number.POSITIVE_INFINITY : Number(high)
    if (max < min) this.fail('min repeat greater than max repeat', start)
    if (min > MAX_REPEAT || (max > MAX_REPEAT && max !== Number.POSITIVE_INFINITY)) {
      this.unsupported(`a repetition of more than ${MAX_REPEAT}`, start)
    }
    return [min, max]
  }

  private digits(): string {
    const start = this.position
    while (this.next !== undefined && this.next >= '0' && this.next <= '9') this.position++
    return this.characters.slice(start, this.position).join('')
  }

  private repeat(
    item: PatternNode | undefined,
    [min, max]: readonly [number, number],
    start: number,
  ): PatternNode {
    if (!item || (isAssertion(item) && item.kind !== 'look-ahead')) this.fail('nothing to repeat', start)
    if (item.kind === 'repeat') this.fail('multiple repeat', start)
    if (this.next === '+')
      this.unsupported('a possessive quantifier, which has no linear-time equivalent', start)
    return { kind: 'repeat', item, min, max, lazy: this.accept('?') }
  }

  private group(flags: Flags, nesting: number, start: number, isAtStart: boolean): PatternNode | null {
    let inner = flags
    let name: string | undefined
    let lookAhead: { negated: boolean } | undefined
    if (this.accept('?')) {
      const c = this.next
      if (c === undefined) this.fail('unexpected end of pattern')
      this.position++
      if (c === '#') {
        while (this.next !== undefined && this.next !== ')') this.position++
        if (!this.accept(')')) this.fail('missing ), unterminated comment', start)
        return null
      }
      if (c === '=' || c === '!') lookAhead = { negated: c === '!' }
      else if (c === 'P') name = this.groupName(start)
      else if (c === '<') this.unsupported('a look-behind, which is not supported', start)
      else if (c === '(') this.unsupported('a conditional group, which has no linear-time equivalent', start)
      else if (c === '>') this.unsupported('an atomic group, which has no linear-time equivalent', start)
      else if (c === '-' || FLAG_NAMES.has(c) || c === 'u' || c === 'L') {
        const scoped = this.flags(c, flags, start, isAtStart)
        if (scoped === null) return null
        inner = scoped
      } else if (c !== ':') this.fail(`unknown extension ?${c}`, start)
    }
    const item = this.alternation(inner, nesting + 1)
    if (!this.accept(')')) this.fail('missing ), unterminated subpattern', start)
    if (lookAhead) return { kind: 'look-ahead', negated: lookAhead.negated, item }
    return { kind: 'group', item, ...(name === undefined ? {} : { name }) }
  }

  private groupName(start: number): string {
    if (this.accept('=')) this.unsupported('a back-reference, which has no linear-time equivalent', start)
    if (!this.accept('<')) this.fail('unknown extension ?P', start)
    const end = this.characters.indexOf('>', this.position)
    if (end < 0) this.fail('missing >, unterminated name', start)
    const name = this.characters.slice(this.position, end).join('')
    if (!/^[\p{L}\p{Nl}_][\p{L}\p{N}\p{M}\p{Pc}]*$/u.test(name))
      this.fail('bad character in group name', start)
    if (this.groupNames.has(name)) this.fail(`redefinition of group name ${JSON.stringify(name)}`, start)
    this.groupNames.add(name)
    this.position = end + 1
    return name
  }

  /** Reads flags. Returns those of the group for `(?flags-flags:`, and null for `(?flags)`, which applies to the whole pattern. */
  private flags(first: string, outer: Flags, start: number, isAtStart: boolean): Flags | null {
    const on = new Set<string>()
    const off = new Set<string>()
    let c: string | undefined = first
    for (; c !== undefined && !'-:)'.includes(c); c = this.characters[this.position++]) {
      if (c === 'L') this.fail("bad inline flags: cannot use 'L' flag with a str pattern", start)
      if (!FLAG_NAMES.has(c) && c !== 'u') this.fail('unknown flag', start)
      on.add(c)
    }
    if (on.has('a') && on.has('u'))
      this.fail("bad inline flags: flags 'a', 'u' and 'L' are incompatible", start)
    const added = Object.fromEntries(
      [...on].filter((flag) => flag !== 'u').map((flag) => [FLAG_NAMES.get(flag), true]),
    )
    if (c === ')') {
      if (!isAtStart) this.fail('global flags not at the start of the expression', start)
      this.globalFlags = { ...this.globalFlags, ...added }
      return null
    }
    if (c === '-') {
      for (
        c = this.characters[this.position++];
        c !== undefined && c !== ':';
        c = this.characters[this.position++]
      ) {
        if (!FLAG_NAMES.has(c)) this.fail('unknown flag', start)
        if (c === 'a') this.fail("bad inline flags: cannot turn off flags 'a', 'u' and 'L'", start)
        if (on.has(c)) this.fail('bad inline flags: flag turned on and off', start)
        off.add(c)
      }
      if (off.size === 0) this.fail('missing flag', start)
    }
    if (c !== ':') this.fail('missing -, : or )', start)
    const removed = Object.fromEntries([...off].map((flag) => [FLAG_NAMES.get(flag), false]))
    return { ...outer, ...added, ...removed, ...(on.has('u') ? { ascii: false } : {}) }
  }

  /** Reads an escape outside a character class, after the backslash. */
  private escape(flags: Flags, start: number): PatternNode {
    const c = this.next
    if (c === undefined) this.fail('bad escape (end of pattern)', start)
    if (c === 'A') return this.assertion({ kind: 'start' })
    if (c === 'Z') return this.assertion({ kind: 'end' })
    if (c === 'b' || c === 'B') {
      return this.assertion({ kind: 'word boundary', negated: c === 'B', ascii: flags.ascii })
    }
    if (c >= '1' && c <= '9') {
      const octal = this.characters.slice(this.position, this.position + 3).join('')
      if (!/^[0-7]{3}$/.test(octal))
        this.unsupported('a back-reference, which has no linear-time equivalent', start)
    }
    const item = this.classEscape(start)
    if (typeof item === 'string') return setNode({ categories: [item] }, flags)
    return this.literal(item, flags, start)
  }

  private assertion(node: AssertionNode): AssertionNode {
    this.position++
    return node
  }

  /**
   * Reads the category or code point of an escape, after the backslash. Escapes have the same meaning inside and outside a class, except
   * `\b` and back-references.
   */
  private classEscape(start: number): Category | number {
    const c = this.next
    if (c === undefined) this.fail('bad escape (end of pattern)', start)
    this.position++
    if (CATEGORIES.includes(c)) return c as Category
    const control = CONTROL_ESCAPES.get(c)
    if (control !== undefined) return control
    if (c === 'x') return this.hexadecimal(2, start)
    if (c === 'u') return this.hexadecimal(4, start)
    if (c === 'U') {
      const codePoint = this.hexadecimal(8, start)
      if (codePoint > MAX_CODE_POINT) this.fail('bad escape: beyond U+10FFFF', start)
      return codePoint
    }
    if (c === 'N') this.unsupported('a character by its Unicode name, which is not supported', start)
    if (c >= '0' && c <= '7') {
      let digits = c
      while (digits.length < 3 && this.next !== undefined && this.next >= '0' && this.next <= '7') {
        digits += this.next
        this.position++
      }
      const codePoint = Number.parseInt(digits, 8)
      if (codePoint > 0o377) this.fail('octal escape value outside of range 0-0o377', start)
      return codePoint
    }
    if (/[0-9A-Za-z]/.test(c)) this.fail(`bad escape \\${c}`, start)
    return codePointOf(c)
  }

  private hexadecimal(length: number, start: number): number {
    const digits = this.characters.slice(this.position, this.position + length).join('')
    if (digits.length !== length || !/^[0-9a-fA-F]+$/.test(digits)) this.fail('incomplete escape', start)
    this.position += length
    return Number.parseInt(digits, 16)
  }

  private literal(codePoint: number, flags: Flags, start: number): PatternNode {
    this.checkCase(codePoint, flags, start)
    return setNode({ ranges: [[codePoint, codePoint]] }, flags)
  }

  /** Rejects case folding beyond ASCII: engines differ in it, and module names do not need it. */
  private checkCase(codePoint: number, flags: Flags, start: number): void {
    if (flags.ignoreCase && codePoint > MAX_ASCII) {
      this.unsupported('a character outside ASCII under (?i), which is not supported', start)
    }
  }

  private characterClass(flags: Flags, start: number): PatternNode {
    const negated = this.accept('^')
    const ranges: CodeRange[] = []
    const categories: Category[] = []
    let isEmpty = true
    while (true) {
      const at = this.position
      if (this.next === undefined) this.fail('unterminated character set', start)
      if (this.next === ']' && !isEmpty) break
      isEmpty = false
      const low = this.classItem(start)
      if (this.next === '-' && this.characters[this.position + 1] !== ']') {
        this.position++
        if (this.next === undefined) this.fail('unterminated character set', start)
        const high = this.classItem(start)
        if (typeof low === 'string' || typeof high === 'string' || high < low)
          this.fail('bad character range', at)
        this.checkCase(high, flags, at)
        ranges.push([low, high])
      } else if (typeof low === 'string') {
        categories.push(low)
      } else {
        this.checkCase(low, flags, at)
        ranges.push([low, low])
      }
    }
    this.position++
    return setNode({ ranges, categories, negated }, flags)
  }

  private classItem(start: number): Category | number {
    const c = this.next
    if (c === undefined) this.fail('unterminated character set', start)
    const at = this.position++
    return c === '\\' ? this.classEscape(at) : codePointOf(c)
  }
}

/** Checks whether a node is a condition on a position. */
export function isAssertion(node: PatternNode): node is AssertionNode {
  return !['set', 'sequence', 'alternation', 'repeat', 'group'].includes(node.kind)
}

function dot(flags: Flags): PatternNode {
  return setNode({ ranges: flags.dotAll ? [] : [[0x0a, 0x0a]], negated: true }, flags)
}

function setNode(
  set: Partial<Pick<CharacterSet, 'ranges' | 'categories' | 'negated'>>,
  { ignoreCase, ascii }: Flags,
): PatternNode {
  return { kind: 'set', set: { ranges: [], categories: [], negated: false, ...set, ignoreCase, ascii } }
}

function codePointOf(character: string): number {
  return character.codePointAt(0) ?? 0
}
