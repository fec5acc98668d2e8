/**
 * Fourier transforms in float64 between d real numbers and half a spectrum, the frequencies `0 … ⌊d/2⌋`. There are two ways to compute
 * them: fast transforms (strategy `spectral`), and direct sums at the few frequencies in use (strategy `factored`).
 */
import type { FloatArray } from '../adapter/layer.js'
import { complexFft } from './complex-fft.js'
import { cachedPlan } from './plan-cache.js'
import { unitCircle } from './unit-circle.js'

/** With `e(t) = exp(2πi·t)`; `re` and `im` hold `⌊d/2⌋ + 1` numbers. Up to a conjugate, the two functions are adjoint to each other. */
export interface RealTransform {
  /** Sets `re[k] + i·im[k] = Σ_q x[offset + q]·e(q·k/d)`. */
  analyse(x: FloatArray, offset: number, re: Float64Array, im: Float64Array): void
  /** Adds `Re Σ_{k ≤ ⌊d/2⌋} (re[k] + i·im[k])·e(p·k/d)` to `y[offset + p]`. Terms are not doubled for their conjugates. */
  synthesise(re: Float64Array, im: Float64Array, y: FloatArray, offset: number): void
}

/** Returns the number of frequencies `0 … ⌊length/2⌋`. In the spectrum of real numbers the others are conjugates of these. */
export function halfLength(length: number): number {
  return Math.floor(length / 2) + 1
}

/** Returns a plan for fast transforms of any length, O(d log d) for each call. Plans are cached. */
export function realFft(length: number): RealTransform {
  return cachedPlan(`real-fft ${length}`, () => (length % 2 === 0 ? evenFft(length) : oddFft(length)))
}

/** Even d: transforms d/2 complex points `x[2m] + i·x[2m+1]`, then splits the result into the transforms of the even and odd samples. */
function evenFft(length: number): RealTransform {
  const half = length / 2
  const fft = complexFft(half)
  const { inputRe, inputIm, outputRe, outputIm } = fft
  const { cos, sin } = unitCircle(length)
  return {
    analyse(x, offset, re, im) {
      for (let m = 0, q = offset; m < half; m++, q += 2) {
        inputRe[m] = x[q]
        inputIm[m] = x[q + 1]
      }
      fft.run()
      re[0] = outputRe[0] + outputIm[0]
      im[0] = 0
      re[half] = outputRe[0] - outputIm[0]
      im[half] = 0
      for (let k = 1, l = half - 1; k <= l; k++, l--) {
        // Even samples: E = (Z[k] + conj Z[l])/2. Odd samples: O = (Z[k] − conj Z[l])/2i; X[k] = E + e(k/d)·O, X[l] = conj(E − e(k/d)·O).
        const evenRe = 0.5 * (outputRe[k] + outputRe[l])
        const evenIm = 0.5 * (outputIm[k] - outputIm[l])
        const oddRe = 0.5 * (outputIm[k] + outputIm[l])
        const oddIm = 0.5 * (outputRe[l] - outputRe[k])
        const rotatedRe = oddRe * cos[k] - oddIm * sin[k]
        const rotatedIm = oddRe * sin[k] + oddIm * cos[k]
        re[k] = evenRe + rotatedRe
        im[k] = evenIm + rotatedIm
        re[l] = evenRe - rotatedRe
        im[l] = rotatedIm - evenIm
      }
    },
    synthesise(re, im, y, offset) {
      // y = Σ_{all j} S[j]·e(p·j/d) for the Hermitian S that is (re + i·im)/2 for 0 < j < d/2, and real at 0 and d/2.
      inputRe[0] = re[0] + re[half]
      inputIm[0] = re[0] - re[half]
      for (let k = 1, l = half - 1; k <= l; k++, l--) {
        // Z[k] = E + i·e(k/d)·O and Z[l] = conj(E) + i·conj(e(k/d)·O), with E, O = (S[k] ± conj S[l]).
        const evenRe = 0.5 * (re[k] + re[l])
        const evenIm = 0.5 * (im[k] - im[l])
        const oddRe = 0.5 * (re[k] - re[l])
        const oddIm = 0.5 * (im[k] + im[l])
        const rotatedRe = oddRe * cos[k] - oddIm * sin[k]
        const rotatedIm = oddRe * sin[k] + oddIm * cos[k]
        inputRe[k] = evenRe - rotatedIm
        inputIm[k] = evenIm + rotatedRe
        inputRe[l] = evenRe + rotatedIm
        inputIm[l] = rotatedRe - evenIm
      }
      fft.run()
      for (let m = 0, p = offset; m < half; m++, p += 2) {
        y[p] += outputRe[m]
        y[p + 1] += outputIm[m]
      }
    },
  }
}

/** Odd d has no transform of half the length: transforms d complex points with imaginary part 0; the synthesis ignores the imaginary part of its result. */
function oddFft(length: number): RealTransform {
  const fft = complexFft(length)
  const { inputRe, inputIm, outputRe, outputIm } = fft
  const frequencies = halfLength(length)
  return {
    analyse(x, offset, re, im) {
      for (let q = 0; q < length; q++) inputRe[q] = x[offset + q]
      inputIm.fill(0)
      fft.run()
      for (let k = 0; k < frequencies; k++) {
        re[k] = outputRe[k]
        im[k] = outputIm[k]
      }
    },
    synthesise(re, im, y, offset) {
      for (let k = 0; k < frequencies; k++) {
        inputRe[k] = re[k]
        inputIm[k] = im[k]
      }
      inputRe.fill(0, frequencies)
      inputIm.fill(0, frequencies)
      fft.run()
      for (let p = 0; p < length; p++) y[offset + p] += outputRe[p]
    },
  }
}

/**
 * Makes a transform by direct sums at the listed frequencies (each in `0 … ⌊d/2⌋`), O(d) for each. No other frequency is read or written.
 * The basis vectors are never stored: their values are read from the unit circle at `q·k mod d`, which advances by addition.
 */
export function directTransform(length: number, frequencies: Int32Array): RealTransform {
  const { cos, sin } = cachedPlan(`unit-circle ${length}`, () => unitCircle(length))
  const samples = cachedPlan(`direct-samples ${length}`, () => new Float64Array(length))
  return {
    analyse(x, offset, re, im) {
      for (let q = 0; q < length; q++) samples[q] = x[offset + q]
      for (let f = 0; f < frequencies.length; f++) {
        const k = frequencies[f]
        let sumRe = 0
        let sumIm = 0
        for (let q = 0, turn = 0; q < length; q++) {
          sumRe += samples[q] * cos[turn]
          sumIm += samples[q] * sin[turn]
          turn += k
          if (turn >= length) turn -= length
        }
        re[k] = sumRe
        im[k] = sumIm
      }
    },
    synthesise(re, im, y, offset) {
      samples.fill(0)
      for (let f = 0; f < frequencies.length; f++) {
        const k = frequencies[f]
        const gRe = re[k]
        const gIm = im[k]
        for (let p = 0, turn = 0; p < length; p++) {
          samples[p] += gRe * cos[turn] - gIm * sin[turn]
          turn += k
          if (turn >= length) turn -= length
        }
      }
      for (let p = 0; p < length; p++) y[offset + p] += samples[p]
    },
  }
}
