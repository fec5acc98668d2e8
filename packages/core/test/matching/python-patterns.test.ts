/** Compares patterns with Python's results, which make-patterns.py recorded. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  compilePythonPattern,
  isInexpressible,
  type PythonPattern,
} from '../../src/adapter/python-pattern.js'
import { FourierFTError } from '../../src/errors.js'

const fixture: {
  texts: string[]
  cases: [pattern: string, result: string | { error: string }][]
  layerNames: string[]
  groups: [pattern: string, groups: (Record<string, string | null> | null)[]][]
} = JSON.parse(readFileSync(new URL('./__fixtures__/python-patterns.json', import.meta.url), 'utf8'))

/** Patterns that Python accepts and this package rejects: they have no linear-time equivalent, or need Python's own tables. */
const UNSUPPORTED = [
  'a?+',
  'a*+',
  'a{2}+',
  'a++',
  '(?>a)',
  '(?>a*)a',
  '(a)\\1',
  '(?P<n>a)(?P=n)',
  '(?<=a)b',
  '(?<!a)b',
  '(a)?(?(1)b|c)',
  '(?P<x>a)?(?(x)b)',
  '\\N{EM DASH}',
  '(?i)é',
]
/** Malformed patterns that begin like unsupported ones: the parser stops before it finds the error. */
const STOPPED_EARLY = [
  '(a)\\2',
  '\\1',
  '(a\\1)',
  '(?P=n)',
  '(?<a)',
  '(?<n>a)',
  '(?<',
  '(?(1)a|b)',
  '\\8',
  '\\9',
  '\\N',
  '\\2s*a',
]
/** Includes generated patterns with `é` under `(?i)`. */
const isUnsupported = (pattern: string) => UNSUPPORTED.includes(pattern) || /^\(\?i\).*é/.test(pattern)

function compile(pattern: string): PythonPattern | FourierFTError {
  try {
    return compilePythonPattern(pattern, { option: 'target_modules' })
  } catch (error) {
    if (FourierFTError.isInstance(error)) return error
    throw error
  }
}

function resultOf(pattern: PythonPattern, text: string): string {
  return String(Number(pattern.match(text)) + 2 * Number(pattern.fullMatch(text)))
}

describe('Python patterns', () => {
  const valid = fixture.cases.filter(([, result]) => typeof result === 'string') as [string, string][]
  const invalid = fixture.cases.filter(([, result]) => typeof result !== 'string')

  it('the fixture has enough patterns of each kind', () => {
    expect(valid.length).toBeGreaterThan(500)
    expect(invalid.length).toBeGreaterThan(100)
    expect(valid.filter(([pattern]) => isUnsupported(pattern)).length).toBeLessThan(20)
  })

  it.each(valid)('%j', (pattern, expected) => {
    const compiled = compile(pattern)
    if (isUnsupported(pattern)) {
      expect(isInexpressible(compiled)).toBe(true)
      return
    }
    if (FourierFTError.isInstance(compiled)) throw compiled
    const wrong = fixture.texts.flatMap((text, i) => {
      const [want] = expected[i] ?? ''
      const got = resultOf(compiled, text)
      return want === '-' || want === got ? [] : [{ text, python: want, got }]
    })
    expect(wrong).toEqual([])
  })

  it.each(invalid)('rejects %j', (pattern) => {
    const compiled = compile(pattern)
    expect(compiled).toBeInstanceOf(FourierFTError)
    expect(compiled).toMatchObject({ code: 'INVALID_PATTERN', details: { option: 'target_modules' } })
    expect(isInexpressible(compiled)).toBe(STOPPED_EARLY.includes(pattern))
  })

  it.each(fixture.groups)('groups of %j', (pattern, expected) => {
    const compiled = compilePythonPattern(pattern, { option: 'layers_pattern' })
    const found = fixture.layerNames.map((name) => {
      const groups = compiled.groups(name)
      return groups && Object.fromEntries([...groups].map(([group, text]) => [group, text ?? null]))
    })
    expect(found).toEqual(expected)
  })
})
