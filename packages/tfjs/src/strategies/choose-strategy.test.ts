import { describe, expect, it } from 'vitest'
import { useBackend } from '../__fixtures__/use-backend.js'
import { cheapestOnTensorflow, chooseStrategy } from './choose-strategy.js'

describe('chooseStrategy', () => {
  it('chooses spectral for large layers or few tokens, and dense for small layers with many tokens', async () => {
    await useBackend('wasm')
    expect(chooseStrategy({ tokens: 1, shape: [64, 64], n: 200 })).toBe('spectral')
    expect(chooseStrategy({ tokens: 2048, shape: [64, 64], n: 1000 })).toBe('dense')
    expect(chooseStrategy({ tokens: 512, shape: [768, 768], n: 1000 })).toBe('spectral')
    expect(chooseStrategy({ tokens: 32, shape: [4096, 4096], n: 1000 })).toBe('spectral')
  })

  it('chooses spectral more often on cpu, which multiplies slowly', async () => {
    const size = { tokens: 2048, shape: [256, 256], n: 1000 } as const
    await useBackend('cpu')
    expect(chooseStrategy(size)).toBe('spectral')
    await useBackend('wasm')
    expect(chooseStrategy(size)).toBe('dense')
  })

  // Called directly, because `auto` chooses the native operator if it is available. The expected strategies were measured to be faster
  // than the others by more than 10 %.
  it.each([
    [16, 1024, 256, 'dense'],
    [64, 512, 1000, 'dense'],
    [256, 4096, 1000, 'dense'],
    [768, 1024, 64, 'factored'],
    [256, 128, 64, 'factored'],
    [256, 128, 1000, 'spectral'],
    [768, 512, 1000, 'spectral'],
    [4096, 1, 1000, 'spectral'],
  ] as const)(
    'without the native operator on TensorFlow, for d = %i, T = %i, n = %i, chooses %s',
    (d, tokens, n, fastest) => {
      expect(cheapestOnTensorflow({ shape: [d, d], tokens, n })).toBe(fastest)
    },
  )
})
