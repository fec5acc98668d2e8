import { describe, expect, it } from 'vitest'
import { parseModelName } from './adapter-name.js'
import { ServerError } from './errors.js'

const BASE = 'onnx-community/all-MiniLM-L6-v2-ONNX'

describe('parseModelName', () => {
  it.each([
    [BASE, BASE, null],
    [`${BASE}:customer-1`, BASE, 'customer-1'],
    ['customer-1', BASE, 'customer-1'],
    ['customer_1.v2', BASE, 'customer_1.v2'],
    ['someone/adapter', BASE, 'someone/adapter'],
    [`${BASE}:someone/adapter`, BASE, 'someone/adapter'],
    ['/models/a:b', '/models/a:b', null],
    ['/models/a:b:c', '/models/a:b', 'c'],
    ['C:\\models\\minilm:c', 'C:\\models\\minilm', 'c'],
    ['minilm', 'minilm', null],
    ['minilm:minilm', 'minilm', 'minilm'],
    ['a'.repeat(200), BASE, 'a'.repeat(200)],
    ['0', BASE, '0'],
    ['_', BASE, '_'],
  ])('reads %s with the base model %s', (name, base, adapter) => {
    expect(parseModelName(name, base)).toBe(adapter)
  })

  it.each([
    '',
    '.',
    '..',
    '.hidden',
    '-rf',
    '../secret',
    'a/../b',
    '../../etc',
    'a/b/c',
    '/etc',
    'a/',
    '/a',
    'a\\b',
    'a:b',
    'a b',
    'a\0',
    'a\n',
    'ä',
    '%2e%2e',
    'a/.b',
    './b',
    '-o/b',
    `${BASE}:`,
    `${BASE}:..`,
    `${BASE}:${BASE}:a`,
    `${BASE}x`.replace('/', '//'),
    'a'.repeat(201),
    `${'a'.repeat(201)}/b`,
    `a/${'b'.repeat(201)}`,
    '\u202e',
  ])('rejects %j', (name) => {
    expect(() => parseModelName(name, BASE)).toThrow(
      expect.objectContaining({ code: 'model_not_found', status: 404, param: 'model' }),
    )
  })

  it('shows neither long nor unprintable texts in full', () => {
    const messageFor = (name: string) => {
      try {
        parseModelName(name, BASE)
      } catch (error) {
        if (error instanceof ServerError) return error.message
      }
      return ''
    }
    expect(messageFor('x'.repeat(1_000_000)).length).toBeLessThan(500)
    expect(messageFor('\u001b[2J')).toContain("'\\u001b[2J'")
  })
})
