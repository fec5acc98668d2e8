/**
 * The character sets of Python's `re` for `str` patterns: Unicode-aware categories, simple case folding, complements. They are resolved to
 * plain ranges, because `\w` and `(?i)` have other meanings in other engines.
 */

/** An inclusive range of code points. */
export type CodeRange = readonly [first: number, last: number]

/** `d`, `w`, `s` are the categories `\d`, `\w`, `\s`; capitals are their complements. */
export type Category = 'd' | 'D' | 'w' | 'W' | 's' | 'S'

export interface CharacterSet {
  readonly ranges: readonly CodeRange[]
  readonly categories: readonly Category[]
  readonly negated: boolean
  /** Ranges match either case. They are then in ASCII, because the parser rejects others. */
  readonly ignoreCase: boolean
  /** The flag `a`: categories and case folding are limited to ASCII. */
  readonly ascii: boolean
}

export const MAX_ASCII = 0x7f
export const MAX_CODE_POINT = 0x10ffff

/** Returns the members of a set up to `limit` ({@link MAX_ASCII} or {@link MAX_CODE_POINT}), sorted, neither overlapping nor adjacent. */
export function resolveSet(set: CharacterSet, limit: number): CodeRange[] {
  const ranges = [...set.ranges]
  if (set.ignoreCase) ranges.push(...otherCases(set))
  for (const category of set.categories) ranges.push(...categoryRanges(category, set.ascii, limit))
  const members = union(ranges)
  return clip(set.negated ? complement(members) : members, limit)
}

/** The number of ranges of each category in Unicode 15, rounded up. */
const RANGES_PER_CATEGORY: ReadonlyMap<string, number> = new Map([
  ['d', 80],
  ['w', 800],
  ['s', 12],
])

/**
 * Returns an upper bound on the number of ranges of {@link resolveSet}. It does not compute the ranges, because there may be thousands of
 * sets.
 */
export function estimatedRanges(
  { ranges, categories, ignoreCase, ascii }: CharacterSet,
  limit: number,
): number {
  const isAsciiOnly = ascii || limit === MAX_ASCII
  const rangesOf = (category: Category) =>
    isAsciiOnly ? 10 : (RANGES_PER_CATEGORY.get(category.toLowerCase()) ?? 0)
  const others = ignoreCase ? 2 * ranges.length : 0
  return 1 + ranges.length + others + categories.reduce((sum, category) => sum + rangesOf(category), 0)
}

/** Checks whether `\w` matches the character: a letter, a number or the underscore. `\b` is a boundary between such characters and others. */
export function isWord(codePoint: number, ascii: boolean): boolean {
  if (codePoint <= MAX_ASCII)
    return ASCII_WORD.some(([first, last]) => first <= codePoint && codePoint <= last)
  return !ascii && WORD.test(String.fromCodePoint(codePoint))
}

/** Returns the value, 0 to 9, of a character that `\d` matches. */
export function digitValue(digit: string): number {
  const codePoint = digit.codePointAt(0) ?? 0
  // Unicode assigns decimal digits in runs of ten, from zero on.
  let first = codePoint
  while (DECIMAL.test(String.fromCodePoint(first - 1))) first--
  return (codePoint - first) % 10
}

const ASCII_DIGIT: readonly CodeRange[] = [[0x30, 0x39]]
const ASCII_WORD: readonly CodeRange[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
]
const ASCII_SPACE: readonly CodeRange[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
]
/** `str.isspace`: white space and separators by Unicode's bidirectional types WS, B, S and the category Zs. */
const SPACE: readonly CodeRange[] = [
  [0x09, 0x0d],
  [0x1c, 0x20],
  [0x85, 0x85],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
]
const DECIMAL = /^\p{Nd}$/u
const WORD = /^[\p{L}\p{N}_]$/u

/** All letters and numbers are in the planes 0 to 3. */
const LAST_LETTER_PLANE = 0x3ffff

function categoryRanges(category: Category, ascii: boolean, limit: number): readonly CodeRange[] {
  const positive = category.toLowerCase()
  const isAsciiOnly = ascii || limit === MAX_ASCII
  let ranges: readonly CodeRange[]
  // Even within ASCII, the flag `a` changes `\s` (0x1c to 0x1f), but not `\d` and `\w`.
  if (positive === 's') ranges = ascii ? ASCII_SPACE : SPACE
  else if (positive === 'd') ranges = isAsciiOnly ? ASCII_DIGIT : tabulate(DECIMAL)
  else ranges = isAsciiOnly ? ASCII_WORD : tabulate(WORD)
  return category === positive ? ranges : complement(ranges)
}

const tables = new Map<RegExp, readonly CodeRange[]>()

/** Returns all characters of a class in the Unicode tables of the JavaScript engine. Computed when a name outside ASCII first needs it. */
function tabulate(characterClass: RegExp): readonly CodeRange[] {
  const cached = tables.get(characterClass)
  if (cached) return cached
  const ranges: CodeRange[] = []
  let first = -1
  for (let codePoint = 0; codePoint <= LAST_LETTER_PLANE + 1; codePoint++) {
    const isMember = codePoint <= LAST_LETTER_PLANE && characterClass.test(String.fromCodePoint(codePoint))
    if (isMember && first < 0) first = codePoint
    if (!isMember && first >= 0) {
      ranges.push([first, codePoint - 1])
      first = -1
    }
  }
  tables.set(characterClass, ranges)
  return ranges
}

/**
 * Returns the additional characters that an ASCII set matches regardless of case: the other case of its letters and, as in Python,
 * characters that are lower-cased to one of its letters or are equivalent to it: İ and ı to i, ſ to s, the Kelvin sign to k.
 */
function otherCases(set: CharacterSet): CodeRange[] {
  const has = (codePoint: number) =>
    set.ranges.some(([first, last]) => first <= codePoint && codePoint <= last)
  const hasEitherCase = (letter: string) =>
    has(letter.charCodeAt(0)) || has(letter.toUpperCase().charCodeAt(0))
  const found: CodeRange[] = []
  for (let upper = 0x41; upper <= 0x5a; upper++) {
    if (has(upper) || has(upper + 0x20)) found.push([upper, upper], [upper + 0x20, upper + 0x20])
  }
  if (!set.ascii) {
    if (hasEitherCase('i')) found.push([0x130, 0x131])
    if (hasEitherCase('s')) found.push([0x17f, 0x17f])
    if (hasEitherCase('k')) found.push([0x212a, 0x212a])
  }
  return found
}

function union(ranges: readonly CodeRange[]): CodeRange[] {
  const result: CodeRange[] = []
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const previous = result.at(-1)
    if (previous && first <= previous[1] + 1) {
      result[result.length - 1] = [previous[0], Math.max(previous[1], last)]
    } else {
      result.push([first, last])
    }
  }
  return result
}

/** @param ranges sorted, neither overlapping nor adjacent */
function complement(ranges: readonly CodeRange[]): CodeRange[] {
  const result: CodeRange[] = []
  let next = 0
  for (const [first, last] of ranges) {
    if (first > next) result.push([next, first - 1])
    next = last + 1
  }
  if (next <= MAX_CODE_POINT) result.push([next, MAX_CODE_POINT])
  return result
}

function clip(ranges: readonly CodeRange[], limit: number): CodeRange[] {
  return ranges.filter(([first]) => first <= limit).map(([first, last]) => [first, Math.min(last, limit)])
}
