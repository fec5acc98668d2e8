import { expect, test } from 'vitest'
import type { Pipe } from '../engine.js'
import { checkCharacters, maxCharacters, positionCount } from './prompt-length.js'

const pipeOf = (config: object) => ({ model: { config }, tokenizer: {} }) as Pipe

test.each([
  [{ max_position_embeddings: 512 }, 16_384],
  [{ n_positions: 1024 }, 32_768],
  [{ text_config: { max_position_embeddings: 256 } }, 8192],
  [{ max_position_embeddings: 131_072 }, 100_000],
  [{}, 100_000],
])('the longest text of a model with %j has %i characters', (config, expected) => {
  const pipe = pipeOf(config)
  expect(maxCharacters(pipe)).toBe(expected)
  expect(() => checkCharacters(pipe, [expected], 'input')).not.toThrow()
  expect(() => checkCharacters(pipe, [1, expected + 1], 'input')).toThrow(
    expect.objectContaining({ code: 'context_length_exceeded', status: 400, param: 'input' }),
  )
})

test('the texts of a request have two million characters together', () => {
  const pipe = pipeOf({ max_position_embeddings: 512 })
  expect(() => checkCharacters(pipe, new Array(2000).fill(1000), 'input')).not.toThrow()
  expect(() => checkCharacters(pipe, [...new Array(2000).fill(1000), 1], 'input')).toThrow(
    expect.objectContaining({ code: 'invalid_value', status: 400, param: 'input' }),
  )
})

test('the table of positions has its size also where another field says it', () => {
  expect(positionCount(pipeOf({ n_positions: 64 }))).toBe(64)
  expect(positionCount(pipeOf({ n_positions: '64' }))).toBeUndefined()
})
