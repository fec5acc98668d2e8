import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FourierFTError } from '../errors.js'
import { PatternBudget } from './pattern-budget.js'
import { compilePythonPattern } from './python-pattern.js'

// test/matching compares the results with Python's. This file tests the errors, the limits and the properties.

const compile = (pattern: string) => compilePythonPattern(pattern, { option: 'target_modules' })

function errorOf(run: () => unknown): FourierFTError {
  try {
    run()
  } catch (error) {
    if (FourierFTError.isInstance(error)) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('errors', () => {
  it.each([
    ['a(b', 1, 'missing )'],
    ['ab)', 2, 'unbalanced parenthesis'],
    ['😀*+', 1, 'possessive quantifier'],
    ['(a)\\1', 3, 'back-reference'],
    ['x(?<=a)', 1, 'look-behind'],
    ['x(?>a)', 1, 'atomic group'],
    ['(a)(?(1)b)', 3, 'conditional group'],
    ['a{1001}', 2, 'more than 1000'],
    ['[z-a]', 1, 'bad character range'],
    ['\\p{L}', 0, 'bad escape \\p'],
  ])('name the problem of %s and its position', (pattern, position, problem) => {
    const error = errorOf(() => compile(pattern))
    expect(error.code).toBe('INVALID_PATTERN')
    expect(error.details.option).toBe('target_modules')
    expect(error.message).toContain('target_modules')
    expect(error.message).toContain(JSON.stringify(pattern))
    expect(error.message).toContain(problem)
    expect(error.problem.endsWith(`at position ${position}`)).toBe(true)
  })
})

describe('limits', () => {
  it.each([
    ['nested repetitions', '(?:(?:(?:a{100}){100}){100}){100}'],
    ['repetitions of a long text', `(?:${'ab'.repeat(500)}){1,1000}`],
    ['many repetitions', 'a{1000}'.repeat(50)],
    ['repetitions of a set', '.{1000}'.repeat(5)],
    ['optional characters', '.?'.repeat(3000)],
    ['alternatives', Array.from({ length: 5000 }, (_, i) => `.${i}`).join('|')],
    ['groups', `${'('.repeat(5000)}a${')'.repeat(5000)}`],
    ['length', 'a'.repeat(100_000)],
    ['look-aheads', Array.from({ length: 20 }, (_, i) => `(?!${i})`).join('')],
    ['look-aheads in look-aheads', `${'(?=a'.repeat(200)}${')'.repeat(200)}`],
    ['sets of Unicode’s categories', '\\w'.repeat(300)],
  ])('reject %s that are too many or too large', (_, pattern) => {
    expect(errorOf(() => compile(pattern).fullMatch('é')).code).toBe('INVALID_PATTERN')
  })

  it('accept patterns as large as in real configurations', () => {
    const names = Array.from({ length: 500 }, (_, i) => `model\\.layers\\.${i}\\.self_attn\\.q_proj`)
    const pattern = compile(names.join('|'))
    expect(pattern.fullMatch('model.layers.499.self_attn.q_proj')).toBe(true)
    expect(pattern.fullMatch('model.layers.500.self_attn.q_proj')).toBe(false)
  })

  it('count the work of look-aheads in look-aheads before they run', () => {
    const nested = `${'(?=.*'.repeat(8)}z${')'.repeat(8)}`
    expect(compile(nested).match('ab'.repeat(50))).toBe(false)
    const error = errorOf(() => compile(nested).match('ab'.repeat(900)))
    expect(error.code).toBe('INVALID_PATTERN')
    expect(error.message).toMatch(/costs \d+ steps on one name; expected at most/)
  })

  it('apply to all patterns of one budget together', () => {
    const budget = new PatternBudget()
    const shared = compilePythonPattern('a+', { option: 'x', budget })
    for (let i = 0; i < 16; i++) budget.spend(6e7, 'y')
    expect(shared.match('a')).toBe(true)
    const error = errorOf(() => {
      for (let i = 0; i < 100; i++) compilePythonPattern('[ab]{500}', { option: 'x', budget })
    })
    expect(error).toMatchObject({ code: 'INVALID_PATTERN', details: { option: 'x' } })
    expect(error.message).toContain('cost more than')
    expect(errorOf(() => shared.match('a')).message).toContain('cost more than')
    expect(compile('a+').match('a')).toBe(true)
  })

  it('reject a look-ahead at each position of a long text', () => {
    const pattern = compile('(?!.*x).*')
    expect(pattern.fullMatch('a'.repeat(1000))).toBe(true)
    expect(errorOf(() => pattern.fullMatch('a'.repeat(100_000))).code).toBe('INVALID_PATTERN')
  })
})

describe('hostile patterns', () => {
  // A backtracking engine takes 2^n or n^k steps for a text of n characters: the test would not end.
  const bombs = [
    '(a+)+$',
    '(a|a)*b',
    '(a|aa)+$',
    '(.*)*x',
    '(a*)*b',
    '([a-z]+)*\\d',
    '(a?){50}a{50}',
    '(.*a){20}',
    'a*a*a*a*a*a*b',
    '(?!(a+)+$)b',
  ]

  it.each(bombs)('%s ends', (bomb) => {
    const text = `${'a'.repeat(1200)}!`
    const pattern = compile(bomb)
    expect(pattern.fullMatch(text)).toBe(false)
    expect(compile(`.*\\.${bomb}`).match(text)).toBe(false)
    expect(compile(`(?:^|.*?\\.)${bomb}\\.(?P<idx>\\d+)\\.`).groups(text)).toBeNull()
  })

  it('end for any nesting of repetitions, on any text', () => {
    const nested = fc
      .array(fc.constantFrom('*', '+', '?', '*?', '{2}', '{1,3}', '|a', '|.', '$', '(?!b)'), {
        minLength: 2,
        maxLength: 6,
      })
      .map((layers) =>
        layers.reduce((inner, layer) => (layer.startsWith('(') ? layer + inner : `(${inner})${layer}`), 'a'),
      )
    fc.assert(
      fc.property(
        nested,
        fc.constantFrom('b', '$', '\\.', ''),
        fc.constantFrom('!', 'é', '\n'),
        (body, tail, end) => {
          const pattern = compile(body + tail)
          const text = 'a'.repeat(300) + end
          // A pattern that matches the whole text also matches at its start.
          if (pattern.fullMatch(text)) expect(pattern.match(text)).toBe(true)
        },
      ),
      { numRuns: 200 },
    )
  })
})

describe('properties', () => {
  const text = fc.string({
    unit: fc.constantFrom('a', 'b', '.', '_', '0', 'é', '\n', '😀', '٣'),
    maxLength: 12,
  })
  const escaped = (literal: string) =>
    [...literal].map((c) => (/\W/.test(c) && c !== '\n' ? `\\${c}` : c)).join('')

  it('an escaped text matches only that text', () => {
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(compile(escaped(a)).fullMatch(a)).toBe(true)
        expect(compile(escaped(a)).fullMatch(b)).toBe(a === b)
        expect(compile(escaped(a)).match(b)).toBe(b.startsWith(a))
      }),
    )
  })

  it('look-aheads are conjunctions', () => {
    const part = fc.constantFrom('a', 'é', '.*b', '\\w+', '.*\\b0', '[^a]*$', '(?:ab|.)*', '\\d')
    fc.assert(
      fc.property(part, part, text, (condition, body, subject) => {
        const both = compile(condition).match(subject) && compile(body).fullMatch(subject)
        const onlyBody = !compile(condition).match(subject) && compile(body).fullMatch(subject)
        expect(compile(`(?=${condition})${body}`).fullMatch(subject)).toBe(both)
        expect(compile(`^(?!${condition})(?:${body})`).fullMatch(subject)).toBe(onlyBody)
      }),
    )
  })

  it('an empty string has no \\B, as in Python before 3.14', () => {
    const results = (pattern: string, subject: string) => {
      const compiled = compile(pattern)
      return [compiled.match(subject), compiled.fullMatch(subject), compiled.groups(subject) !== null]
    }
    for (const pattern of ['\\B', 'x?\\B', '\\B|x', '(?=\\B)', '(?a:\\B)', '(?:\\B){2}'])
      expect([pattern, ...results(pattern, '')]).toEqual([pattern, false, false, false])
    for (const pattern of ['(?!\\B)', '\\B|', '(?:\\B)*'])
      expect([pattern, ...results(pattern, '')]).toEqual([pattern, true, true, true])
    expect(results('\\B', '-')).toEqual([true, false, true])
    expect(results('-(?=\\B)', '-')).toEqual([true, true, true])
  })

  it('named groups that take no part in the match are undefined', () => {
    const groups = compile('(?P<first>a+)(?P<other>b)?\\.(?P<idx>\\d+)').groups('aa.٣x')
    expect([...(groups ?? [])]).toEqual([
      ['first', 'aa'],
      ['other', undefined],
      ['idx', '٣'],
    ])
    expect(compile('(?P<a>b)').groups('a')).toBeNull()
  })
})
