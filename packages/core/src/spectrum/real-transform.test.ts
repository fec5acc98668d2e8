import { describe, expect, it } from 'vitest'
import { directTransform, halfLength, type RealTransform, realFft } from './real-transform.js'
import { unitCircle } from './unit-circle.js'

/** The layer sizes of the paper's models, and a large prime with its double. */
const MODEL_LENGTHS = [768, 1024, 1280, 3072, 4096, 5120, 11008, 14336, 4099, 8198]

/** Unit roundoff of float64. */
const U = 2 ** -53

/*
 * The naive transform sums N products of rounded factors. The roundings are nearly independent, so the error of a sum is about √N·U times
 * the norm ‖x‖₂ of its terms; the error of the fast transform is smaller, log2(N)·U. The limit is eight standard deviations; a wrong sign
 * or twiddle factor gives an error ten orders of magnitude larger.
 */
function limit(length: number): number {
  return 8 * (1 + Math.sqrt(length)) * U
}

function noise(length: number, seed: number): Float64Array {
  let state = seed >>> 0
  return Float64Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

function norm(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))
}

/** Returns the largest error of `analyse` at the given frequencies, relative to ‖x‖₂. */
function analysisError(transform: RealTransform, length: number, frequencies: Iterable<number>): number {
  const { cos, sin } = unitCircle(length)
  const x = noise(length + 3, length)
  const re = new Float64Array(halfLength(length))
  const im = new Float64Array(halfLength(length))
  transform.analyse(x, 3, re, im)
  let worst = 0
  for (const k of frequencies) {
    let [a, b] = [0, 0]
    for (let q = 0; q < length; q++) {
      a += x[3 + q] * cos[(q * k) % length]
      b += x[3 + q] * sin[(q * k) % length]
    }
    worst = Math.max(worst, Math.hypot(re[k] - a, im[k] - b))
  }
  return worst / norm(x.subarray(3))
}

/** Returns the largest error of `synthesise` at the given outputs, relative to the norm of the spectrum; frequencies outside `used` are zero. */
function synthesisError(
  transform: RealTransform,
  length: number,
  outputs: Iterable<number>,
  used: Iterable<number> = Array(halfLength(length)).keys(),
): number {
  const { cos, sin } = unitCircle(length)
  const re = new Float64Array(halfLength(length))
  const im = new Float64Array(halfLength(length))
  const values = noise(2 * halfLength(length), length + 1)
  for (const k of used) {
    re[k] = values[2 * k]
    im[k] = values[2 * k + 1]
  }
  // The result is added to the values in `y`, and the neighbours are unchanged.
  const y = new Float64Array(length + 2).fill(0.5)
  transform.synthesise(re, im, y, 1)
  expect([y[0], y[length + 1]]).toEqual([0.5, 0.5])
  let worst = 0
  for (const p of outputs) {
    let sum = 0.5
    for (let k = 0; k < re.length; k++) sum += re[k] * cos[(p * k) % length] - im[k] * sin[(p * k) % length]
    worst = Math.max(worst, Math.abs(y[1 + p] - sum))
  }
  return worst / (0.5 + norm(re) + norm(im))
}

/** Returns a few indices below `count`, including the first and the last. */
function someIndices(count: number): number[] {
  return [
    0,
    1,
    2,
    count - 1,
    ...noise(20, count).map((value) => Math.floor(((value + 1) / 2) * count)),
  ].filter((index) => index < count)
}

describe('realFft', () => {
  it('equals the naive transform both ways at every length from 1 to 130', () => {
    for (let length = 1; length <= 130; length++) {
      const transform = realFft(length)
      const frequencies = Array(halfLength(length)).keys()
      expect(analysisError(transform, length, frequencies), `analyse ${length}`).toBeLessThan(limit(length))
      expect(synthesisError(transform, length, Array(length).keys()), `synthesise ${length}`).toBeLessThan(
        limit(length),
      )
    }
  })

  it.each(MODEL_LENGTHS)('equals the naive transform both ways at length %i', (length) => {
    const transform = realFft(length)
    expect(analysisError(transform, length, someIndices(halfLength(length)))).toBeLessThan(limit(length))
    expect(synthesisError(transform, length, someIndices(length))).toBeLessThan(limit(length))
  })
})

describe('directTransform', () => {
  it.each([1, 2, 3, 12, 35, 101, 768])(
    'equals the naive transform at its frequencies, length %i',
    (length) => {
      const frequencies = Int32Array.from(new Set(someIndices(halfLength(length)))).sort()
      const transform = directTransform(length, frequencies)
      expect(analysisError(transform, length, frequencies)).toBeLessThan(limit(length))
      expect(synthesisError(transform, length, Array(length).keys(), frequencies)).toBeLessThan(limit(length))
    },
  )
})
