/**
 * The baseline: PEFT's algorithm, ported to TypeScript with a well-known FFT library. Every forward pass computes a dense complex spectrum, a
 * two-dimensional inverse transform and a dense product. `naiveEntries` samples entries by shuffling all positions.
 */
import type { Layer } from '@fourierft/core'
import FFT from 'fft.js'

/** Returns ΔW as `Re(ifft2(F))·α`. fft.js needs powers of two for both dimensions. */
export function naiveDelta({ shape: [d1, d2], entries, coefficients, scaling }: Layer): Float32Array {
  const spectrum = new Float64Array(2 * d1 * d2)
  for (let l = 0; l < entries.n; l++) {
    spectrum[2 * (entries.rows[l] * d2 + entries.columns[l])] = coefficients[l]
  }
  const rowFft = new FFT(d2)
  const row = rowFft.createComplexArray()
  for (let j = 0; j < d1; j++) {
    rowFft.inverseTransform(row, spectrum.subarray(2 * j * d2, 2 * (j + 1) * d2))
    spectrum.set(row, 2 * j * d2)
  }
  const columnFft = new FFT(d1)
  const column = columnFft.createComplexArray()
  const transformed = columnFft.createComplexArray()
  const delta = new Float32Array(d1 * d2)
  for (let q = 0; q < d2; q++) {
    for (let j = 0; j < d1; j++) {
      column[2 * j] = spectrum[2 * (j * d2 + q)]
      column[2 * j + 1] = spectrum[2 * (j * d2 + q) + 1]
    }
    columnFft.inverseTransform(transformed, column)
    for (let p = 0; p < d1; p++) delta[p * d2 + q] = scaling * transformed[2 * p]
  }
  return delta
}

/** Computes `y += naiveDelta(layer)·x`, four rows of ΔW at a time. */
export function naiveForward(layer: Layer, x: Float32Array, y: Float32Array): void {
  const [d1, d2] = layer.shape
  const delta = naiveDelta(layer)
  for (let t = 0; t * d2 < x.length; t++) {
    for (let p = 0; p < d1; p += 4) {
      let [a, b, c, d] = [0, 0, 0, 0]
      for (let q = 0; q < d2; q++) {
        const value = x[t * d2 + q]
        const index = p * d2 + q
        a += delta[index] * value
        b += delta[index + d2] * value
        c += delta[index + 2 * d2] * value
        d += delta[index + 3 * d2] * value
      }
      y[t * d1 + p] += a
      y[t * d1 + p + 1] += b
      y[t * d1 + p + 2] += c
      y[t * d1 + p + 3] += d
    }
  }
}

/** Returns the first n of a shuffle of all `d1·d2` positions. The generator is simpler than PyTorch's, because the shuffle is the main cost. */
export function naiveEntries([d1, d2]: readonly [number, number], n: number, seed: number): Int32Array {
  const positions = new Int32Array(d1 * d2)
  for (let i = 0; i < positions.length; i++) positions[i] = i
  let state = seed >>> 0
  for (let i = 0; i < positions.length - 1; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    const other = i + (state % (positions.length - i))
    const position = positions[other]
    positions[other] = positions[i]
    positions[i] = position
  }
  return positions.slice(0, n)
}
