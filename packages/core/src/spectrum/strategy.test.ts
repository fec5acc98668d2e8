import { describe, expect, it } from 'vitest'
import { chooseStrategy } from './strategy.js'

describe('chooseStrategy', () => {
  it.each([
    ['spectral', 'the layers of real models', { tokens: 1, shape: [4096, 4096], n: 1000 }],
    ['spectral', 'many tokens in a layer of a real model', { tokens: 2048, shape: [3072, 768], n: 1000 }],
    ['dense', 'a tiny layer with many tokens', { tokens: 512, shape: [16, 16], n: 200 }],
    ['spectral', 'a tiny layer with one token', { tokens: 1, shape: [16, 16], n: 200 }],
    ['factored', 'a few entries at prime lengths', { tokens: 8, shape: [1009, 1009], n: 8 }],
    ['spectral', 'many entries at prime lengths', { tokens: 8, shape: [1009, 1009], n: 1000 }],
  ] as const)('chooses %s for %s', (strategy, _, size) => {
    expect(chooseStrategy(size)).toBe(strategy)
  })
})
