/** Clipping compared with PyTorch's `clip_grad_norm_` (`__fixtures__/make-vectors.py`). */
import { expect, test } from 'vitest'
import vectors from './__fixtures__/vectors.json' with { type: 'json' }
import { clipGradientNorm } from './clip-gradient-norm.js'

// A sum of at most three squares, a root, a quotient and a product: fewer than 8 roundings of 1.1e-16 each.
const LIMIT = 1e-15

test.each(vectors.clipping)(
  'clips $gradients to $maxNorm like PyTorch',
  ({ gradients, maxNorm, norm, clipped }) => {
    const arrays = gradients.map((values) => Float64Array.from(values))
    expect(Math.abs(clipGradientNorm(arrays, maxNorm) - norm)).toBeLessThanOrEqual(LIMIT * norm)
    for (const [index, expected] of clipped.entries()) {
      for (const [i, value] of expected.entries()) {
        const difference = Math.abs((arrays[index]?.[i] ?? Number.NaN) - value)
        expect(difference).toBeLessThanOrEqual(LIMIT * Math.abs(value))
      }
    }
  },
)

test('clips float32 gradients whose squares overflow float32', () => {
  const gradient = Float32Array.of(3e30, 4e30)
  expect(clipGradientNorm([gradient], 5)).toBeCloseTo(5e30, -24)
  expect(gradient[0]).toBeCloseTo(3, 5)
  expect(gradient[1]).toBeCloseTo(4, 5)
})

test.each([Number.NaN, Infinity, -Infinity])('rejects a gradient with %d and changes nothing', (value) => {
  const gradients = [Float32Array.of(3, 4), Float32Array.of(1, value)]
  expect(() => clipGradientNorm(gradients, 1)).toThrow(
    expect.objectContaining({
      code: 'NOT_FINITE',
      message: expect.stringContaining('gradient 1'),
      advice: 'skip this batch, or lower the learning rate',
    }),
  )
  expect(gradients).toEqual([Float32Array.of(3, 4), Float32Array.of(1, value)])
})

test.each([-1, Number.NaN])('rejects maxNorm %d', (maxNorm) => {
  expect(() => clipGradientNorm([Float32Array.of(1)], maxNorm)).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION' }),
  )
})
