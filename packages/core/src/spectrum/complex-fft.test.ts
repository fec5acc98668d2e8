import { describe, expect, it } from 'vitest'
import { complexFft } from './complex-fft.js'
import { unitCircle } from './unit-circle.js'

/** Half the layer sizes of the paper's models (a real transform of length d uses d/2 points), and lengths with a large prime factor. */
const MODEL_LENGTHS = [384, 512, 640, 1536, 2048, 2560, 5504, 7168, 1009, 2 * 1009]

/** Unit roundoff of float64. */
const U = 2 ** -53

function noise(length: number, seed: number): Float64Array {
  let state = seed
  return Float64Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

function naive(
  re: Float64Array,
  im: Float64Array,
  k: number,
  circle: { cos: Float64Array; sin: Float64Array },
) {
  const { length } = re
  let sumRe = 0
  let sumIm = 0
  for (let m = 0; m < length; m++) {
    const turn = (m * k) % length
    sumRe += re[m] * circle.cos[turn] - im[m] * circle.sin[turn]
    sumIm += re[m] * circle.sin[turn] + im[m] * circle.cos[turn]
  }
  return [sumRe, sumIm] as const
}

/** Returns the largest error at the given frequencies, relative to ‖z‖₂. */
function relativeError(length: number, frequencies: Iterable<number>): number {
  const fft = complexFft(length)
  const re = noise(length, 2 * length + 1)
  const im = noise(length, 7 * length + 3)
  const circle = unitCircle(length)
  let worst = 0
  // Twice, because a plan is used again and again.
  for (let run = 0; run < 2; run++) {
    fft.inputRe.set(re)
    fft.inputIm.set(im)
    fft.run()
    for (const k of frequencies) {
      const [a, b] = naive(re, im, k, circle)
      worst = Math.max(worst, Math.hypot(fft.outputRe[k] - a, fft.outputIm[k] - b))
    }
  }
  let energy = 0
  for (let m = 0; m < length; m++) energy += re[m] ** 2 + im[m] ** 2
  return worst / Math.sqrt(energy)
}

/*
 * The naive transform sums N products with nearly independent roundings, so its error is about √N·U·‖z‖₂ in each of the two parts. The
 * error of the fast transform is of the order of log2(N)·U·‖z‖₂, and three times that for Bluestein's. The limit is eight standard
 * deviations; a wrong sign or twiddle factor gives an error ten orders of magnitude larger.
 */
function limit(length: number): number {
  return 8 * (1 + Math.sqrt(length)) * U
}

describe('complexFft', () => {
  it('equals the naive transform at every length from 1 to 130', () => {
    for (let length = 1; length <= 130; length++) {
      expect(relativeError(length, Array(length).keys()), `length ${length}`).toBeLessThan(limit(length))
    }
  })

  it.each(MODEL_LENGTHS)('equals the naive transform at length %i', (length) => {
    const frequencies = Array.from(
      { length: 40 },
      (_, i) => Math.floor((i * length) / 40) + (i % 2 && i < 39 ? 1 : 0),
    )
    expect(relativeError(length, [...frequencies, length - 1])).toBeLessThan(limit(length))
  })
})
