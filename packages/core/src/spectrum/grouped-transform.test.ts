import { describe, expect, it } from 'vitest'
import { createLayer, type Layer } from '../adapter/layer.js'
import { uniformEntries } from '../entries/uniform.js'
import { type GroupedTransform, groupedTransform } from './grouped-transform.js'
import { referenceBackward, referenceForward } from './reference.js'

const TOKENS = 3

const CASES: readonly (readonly [d1: number, d2: number, n: number])[] = [
  [1, 1, 1],
  [1, 12, 12],
  [12, 1, 5],
  [2, 2, 4],
  [16, 16, 256],
  [24, 36, 40],
  [36, 24, 1],
  [13, 13, 169],
  [101, 60, 90],
  [15, 49, 80],
  [43, 86, 70],
  [96, 128, 1000],
]

function noise(length: number, seed: number): Float64Array {
  let state = seed >>> 0
  return Float64Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

/** Multiplies `[rows, inner]·[inner, columns]` for each of `groups`, in float64. */
function product(
  groups: number,
  [rows, inner, columns]: readonly [number, number, number],
  a: ArrayLike<number>,
  b: ArrayLike<number>,
): Float64Array {
  expect(a.length).toBe(groups * rows * inner)
  expect(b.length).toBe(groups * inner * columns)
  const c = new Float64Array(groups * rows * columns)
  for (let g = 0; g < groups; g++) {
    for (let i = 0; i < rows; i++) {
      for (let k = 0; k < inner; k++) {
        for (let j = 0; j < columns; j++) {
          c[(g * rows + i) * columns + j] += a[(g * rows + i) * inner + k] * b[(g * inner + k) * columns + j]
        }
      }
    }
  }
  return c
}

function transpose(values: Float64Array, rows: number): Float64Array {
  const columns = values.length / rows
  return Float64Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)])
}

/** Runs the computation in the header of `grouped-transform.ts` on `[T, d]` arrays. */
function run({ analysis, synthesis, ...middle }: GroupedTransform, layer: Layer, x: Float64Array) {
  const [d1, d2] = layer.shape
  const a = analysis
  const y = product(1, [2 * a.groups, a.outer, a.inner * TOKENS], a.w1, transpose(x, TOKENS))
  const z = product(a.groups, [2 * a.slots, 2 * a.inner, TOKENS], a.m2, y)
  const s = synthesis
  const h = new Float64Array(s.groups * 2 * s.slots * TOKENS)
  for (let i = 0; i < middle.gather.length; i++) {
    const weight = (middle.signs[i] * layer.coefficients[middle.coefficient[i]] * layer.scaling) / (d1 * d2)
    for (let t = 0; t < TOKENS; t++) h[i * TOKENS + t] = z[middle.gather[i] * TOKENS + t] * weight
  }
  const v = product(s.groups, [2 * s.inner, 2 * s.slots, TOKENS], s.n1, h)
  const out = product(1, [s.outer, 2 * s.groups, s.inner * TOKENS], s.w1i, v)
  return { z, out: transpose(out, s.length) }
}

function difference(actual: Float64Array, expected: Float64Array): number {
  expect(actual.length).toBe(expected.length)
  let worst = 0
  let largest = 0
  for (let i = 0; i < expected.length; i++) {
    worst = Math.max(worst, Math.abs(actual[i] - expected[i]))
    largest = Math.max(largest, Math.abs(expected[i]))
  }
  return worst / largest
}

/*
 * The tables are rounded to float32 (U = 2⁻²⁴); all other numbers are float64. Each term contains four table values, so its relative
 * error is at most 4·U. Over many terms of random sign the mean error is far smaller, but results cancel: the limit is 8 times 4·U.
 */
const LIMIT = 32 * 2 ** -24

describe('groupedTransform', () => {
  it.each(CASES)('gives the forward pass and both gradients, %i×%i with %i entries', (d1, d2, n) => {
    const entries = uniformEntries({ shape: [d1, d2], n, seed: 7 })
    const layer = createLayer({
      name: 'layer',
      shape: [d1, d2],
      entries,
      coefficients: noise(n, 1),
      scaling: 5,
    })
    const x = noise(TOKENS * d2, 2)
    const g = noise(TOKENS * d1, 3)
    const forward = groupedTransform(entries)
    const transposed = groupedTransform(entries, 'transposed')

    const { z, out } = run(forward, layer, x)
    expect(difference(out, referenceForward([layer], x))).toBeLessThan(LIMIT)

    const expected = referenceBackward([layer], x, g)
    const back = run(transposed, layer, g)
    expect(difference(back.out, expected.x)).toBeLessThan(LIMIT)

    const fx = forward.analysis
    const fg = transposed.analysis
    const coefficients = Float64Array.from({ length: n }, (_, l) => {
      let sum = 0
      for (let t = 0; t < TOKENS; t++) {
        const sign = fg.signs[l] * fx.signs[l]
        sum += back.z[fg.realRow[l] * TOKENS + t] * z[fx.realRow[l] * TOKENS + t]
        sum -= sign * back.z[fg.imaginaryRow[l] * TOKENS + t] * z[fx.imaginaryRow[l] * TOKENS + t]
      }
      return (sum * layer.scaling) / (d1 * d2)
    })
    expect(difference(coefficients, expected.coefficients[0])).toBeLessThan(LIMIT)
  })

  it('needs far fewer multiplications than a dense product at the sizes of models', () => {
    for (const [d, n, limit] of [
      [768, 1000, 0.4],
      [4096, 1000, 0.1],
    ] as const) {
      const { analysis: a, synthesis: s } = groupedTransform(uniformEntries({ shape: [d, d], n, seed: 2024 }))
      const multiplications = a.w1.length * a.inner + a.m2.length + s.n1.length + s.w1i.length * s.inner
      expect(multiplications).toBeLessThan(limit * d * d)
    }
  })
})
