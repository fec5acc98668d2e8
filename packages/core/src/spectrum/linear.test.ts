import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { FloatArray, Layer } from '../adapter/layer.js'
import { createLayer } from '../adapter/layer.js'
import type { Entries, Shape } from '../entries/entries.js'
import { explicitEntries } from '../entries/explicit.js'
import { uniformEntries } from '../entries/uniform.js'
import { delta, deltaAdjoint } from './delta.js'
import { addBackward, addForward } from './linear.js'
import { clearPlans } from './plan-cache.js'
import { referenceBackward, referenceDelta, referenceForward } from './reference.js'
import type { TransformStrategy } from './strategy.js'

const STRATEGIES: readonly TransformStrategy[] = ['dense', 'factored', 'spectral']

/*
 * Everything is summed in float64 (U = 2⁻⁵³), with at most d1 + d2 + n + T additions between an input and a result, which on average give
 * the square root of that many roundings. 1e-12 is 9000·U of the largest value, more than that root for the sizes here; an algorithmic
 * mistake is of the order of 1. A result in float32 adds its own rounding, 2⁻²⁴, and the rounding of the value that it is added to.
 */
const FLOAT64_TOLERANCE = 1e-12
const FLOAT32_TOLERANCE = 2 ** -23

/** Square, wide, tall, odd, prime and degenerate shapes, with the number of entries. */
const CASES: readonly (readonly [d1: number, d2: number, n: number])[] = [
  [1, 1, 1],
  [1, 2, 2],
  [2, 1, 1],
  [1, 24, 5],
  [24, 1, 24],
  [2, 2, 4],
  [8, 8, 1],
  [16, 16, 256],
  [48, 48, 60],
  [12, 40, 33],
  [40, 12, 33],
  [15, 21, 50],
  [13, 17, 221],
  [101, 7, 90],
  [7, 103, 90],
  [43, 86, 70],
  [64, 96, 6144],
]

function noise(length: number, seed: number): Float64Array {
  let state = seed >>> 0
  return Float64Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

function layerOf(
  shape: Shape,
  n: number,
  seed: number,
  entries: Entries = uniformEntries({ shape, n, seed }),
): Layer {
  return createLayer({
    name: `layer${seed}`,
    shape,
    entries,
    coefficients: noise(n, seed),
    scaling: 3 + seed / 7,
  })
}

function largest(values: ArrayLike<number>): number {
  let max = 0
  for (let i = 0; i < values.length; i++) max = Math.max(max, Math.abs(values[i]))
  return max
}

/** Returns the largest difference, relative to the largest expected value, or to 1e-300 if all expected values are 0. */
function difference(actual: FloatArray, expected: FloatArray): number {
  expect(actual.length).toBe(expected.length)
  let max = 0
  for (let i = 0; i < actual.length; i++) {
    const error = Math.abs(actual[i] - expected[i])
    if (!(error <= max)) max = error
  }
  return max / Math.max(largest(expected), 1e-300)
}

describe('delta', () => {
  it.each(CASES)('equals the reference, %i×%i with %i entries', (d1, d2, n) => {
    const layer = layerOf([d1, d2], n, 11)
    const expected = referenceDelta(layer)
    expect(difference(delta(layer, new Float64Array(d1 * d2)), expected)).toBeLessThan(FLOAT64_TOLERANCE)
    expect(difference(delta(layer), expected)).toBeLessThan(FLOAT32_TOLERANCE)
  })

  it('accepts every entry: zero and Nyquist frequencies, and both halves', () => {
    const shape: Shape = [6, 8]
    for (let j = 0; j < 6; j++) {
      for (let k = 0; k < 8; k++) {
        const layer = layerOf(shape, 1, 5, explicitEntries({ shape, rows: [j], columns: [k] }))
        expect(
          difference(delta(layer, new Float64Array(48)), referenceDelta(layer)),
          `${j},${k}`,
        ).toBeLessThan(FLOAT64_TOLERANCE)
      }
    }
  })

  it('equals the reference when it transforms whole columns for many entries', () => {
    // A row of 96 numbers has 49 frequencies: `delta` looks up 60 entries one by one, and transforms columns for 200 and 6144.
    for (const n of [60, 200, 6144]) {
      const layer = layerOf([64, 96], n, 3)
      expect(difference(delta(layer, new Float64Array(6144)), referenceDelta(layer))).toBeLessThan(
        FLOAT64_TOLERANCE,
      )
    }
  })

  it('has an adjoint: ⟨M, ΔW⟩ = α·⟨deltaAdjoint(M), c⟩', () => {
    for (const [d1, d2, n] of CASES) {
      const layer = layerOf([d1, d2], n, 13)
      const matrix = noise(d1 * d2, 14)
      const expected = dot(matrix, referenceDelta(layer))
      const actual = layer.scaling * dot(deltaAdjoint(layer.entries, matrix), layer.coefficients)
      expect(Math.abs(actual - expected)).toBeLessThanOrEqual(
        FLOAT64_TOLERANCE * norm(matrix) * norm(referenceDelta(layer)),
      )
    }
    const { entries } = layerOf([4, 6], 5, 1)
    expect(() => deltaAdjoint(entries, new Float32Array(23))).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH' }),
    )
  })

  it('overwrites `out` and rejects another length', () => {
    const layer = layerOf([4, 6], 5, 1)
    const out = new Float32Array(24).fill(7)
    expect(delta(layer, out)).toBe(out)
    expect(difference(out, referenceDelta(layer))).toBeLessThan(FLOAT32_TOLERANCE)
    expect(() => delta(layer, new Float32Array(23))).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH' }),
    )
  })
})

describe.each(STRATEGIES)('%s', (strategy) => {
  it.each(CASES)('forward and backward equal the reference, %i×%i with %i entries', (d1, d2, n) => {
    const shape: Shape = [d1, d2]
    const entries = uniformEntries({ shape, n, seed: 2024 })
    const other = uniformEntries({ shape, n: Math.max(1, n >> 1), seed: 1 })
    // Two layers share one entries object, a third has equal entries, the fourth different ones.
    const layers = [
      layerOf(shape, n, 1, entries),
      layerOf(shape, n, 2, entries),
      layerOf(shape, n, 3, uniformEntries({ shape, n, seed: 2024 })),
      layerOf(shape, other.n, 4, other),
    ]
    const tokens = 5
    const x = noise(tokens * d2, 5)
    const gradY = noise(tokens * d1, 6)
    for (const rows of [undefined, Int32Array.of(3, -1, 0, 2, 0)]) {
      const options = rows === undefined ? { strategy } : { strategy, rows }
      const reference = rows === undefined ? {} : { rows }

      const y0 = noise(tokens * d1, 7)
      const y = y0.slice()
      addForward(layers, x, y, options)
      expect(difference(y, referenceForward(layers, x, y0, reference))).toBeLessThan(FLOAT64_TOLERANCE)

      const single = Float32Array.from(y0)
      addForward(layers, Float32Array.from(x), single, options)
      const expected = referenceForward(layers, Float32Array.from(x), Float32Array.from(y0), reference)
      expect(difference(single, expected)).toBeLessThan(FLOAT32_TOLERANCE)

      const gradients = {
        coefficients: layers.map((layer) => noise(layer.entries.n, 8)),
        x: noise(tokens * d2, 9),
      }
      const before = { coefficients: gradients.coefficients.map((c) => c.slice()), x: gradients.x.slice() }
      addBackward(layers, x, gradY, gradients, options)
      const { coefficients, x: gradX } = referenceBackward(layers, x, gradY, reference)
      for (let i = 0; i < gradX.length; i++) gradX[i] += before.x[i]
      expect(difference(gradients.x, gradX)).toBeLessThan(FLOAT64_TOLERANCE)
      layers.forEach((_, i) => {
        const sum = coefficients[i].map((value, l) => value + before.coefficients[i][l])
        expect(difference(gradients.coefficients[i], sum)).toBeLessThan(FLOAT64_TOLERANCE)
      })
    }
  })

  it('is linear in x, in c and in α', () => {
    fc.assert(
      fc.property(cases, fc.double({ min: -4, max: 4, noNaN: true }), ({ layer, x }, factor) => {
        const [d1] = layer.shape
        const tokens = x.length / layer.shape[1]
        const y = new Float64Array(tokens * d1)
        addForward([layer], x, y, { strategy })
        const scaled = [
          { ...layer, scaling: factor * layer.scaling },
          { ...layer, coefficients: layer.coefficients.map((c) => factor * c) },
        ]
        for (const other of scaled) {
          const z = new Float64Array(tokens * d1)
          addForward([other], x, z, { strategy })
          for (let i = 0; i < z.length; i++) z[i] -= factor * y[i]
          expect(largest(z)).toBeLessThanOrEqual(FLOAT64_TOLERANCE * (1 + Math.abs(factor)) * largest(y))
        }
        const scaledOutput = new Float64Array(tokens * d1)
        addForward(
          [layer],
          x.map((value) => factor * value),
          scaledOutput,
          { strategy },
        )
        for (let i = 0; i < scaledOutput.length; i++) scaledOutput[i] -= factor * y[i]
        expect(largest(scaledOutput)).toBeLessThanOrEqual(
          FLOAT64_TOLERANCE * (1 + Math.abs(factor)) * largest(y),
        )
      }),
      { numRuns: 50 },
    )
  })

  it('has the adjoint as its gradient: ⟨g, ΔW x⟩ = ⟨∂x, x⟩ = ⟨∂c, c⟩', () => {
    fc.assert(
      fc.property(cases, ({ layer, x, seed }) => {
        const [d1, d2] = layer.shape
        const tokens = x.length / d2
        const g = noise(tokens * d1, seed + 1)
        const y = new Float64Array(tokens * d1)
        addForward([layer], x, y, { strategy })
        const gradients = { coefficients: [new Float64Array(layer.entries.n)], x: new Float64Array(x.length) }
        addBackward([layer], x, g, gradients, { strategy })
        const size = FLOAT64_TOLERANCE * norm(g) * norm(y)
        expect(Math.abs(dot(g, y) - dot(gradients.x, x))).toBeLessThanOrEqual(size)
        expect(Math.abs(dot(g, y) - dot(gradients.coefficients[0], layer.coefficients))).toBeLessThanOrEqual(
          size,
        )
      }),
      { numRuns: 50 },
    )
  })

  it('computes ∂c without ∂x', () => {
    const layer = layerOf([6, 10], 7, 1)
    const coefficients = [new Float32Array(7)]
    addBackward([layer], noise(20, 1), noise(12, 2), { coefficients }, { strategy })
    expect(
      difference(coefficients[0], referenceBackward([layer], noise(20, 1), noise(12, 2)).coefficients[0]),
    ).toBeLessThan(FLOAT32_TOLERANCE)
  })

  it('keeps NaN and infinities within their own token', () => {
    const layer = layerOf([12, 10], 9, 1)
    const x = noise(30, 4)
    x[13] = Number.NaN
    x[25] = Number.POSITIVE_INFINITY
    const y = new Float64Array(36)
    addForward([layer], x, y, { strategy })
    const clean = new Float64Array(12)
    addForward([layer], x.subarray(0, 10), clean, { strategy })
    expect(difference(y.subarray(0, 12), clean)).toBeLessThan(FLOAT64_TOLERANCE)
    expect(y.subarray(12).some(Number.isFinite)).toBe(false)
  })
})

const cases = fc
  .record({
    d1: fc.integer({ min: 1, max: 40 }),
    d2: fc.integer({ min: 1, max: 40 }),
    tokens: fc.integer({ min: 1, max: 6 }),
    fill: fc.double({ min: 0, max: 1, noNaN: true }),
    seed: fc.integer({ min: 0, max: 2 ** 31 }),
  })
  .map(({ d1, d2, tokens, fill, seed }) => ({
    layer: layerOf([d1, d2], 1 + Math.floor(fill * (d1 * d2 - 1)), seed),
    x: noise(tokens * d2, seed),
    seed,
  }))

function dot(a: FloatArray, b: FloatArray): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}

function norm(a: FloatArray): number {
  return Math.sqrt(dot(a, a))
}

describe('addForward and addBackward', () => {
  const layer = layerOf([4, 6], 5, 1)
  const gradients = () => ({ coefficients: [new Float64Array(5)], x: new Float64Array(12) })

  it('do nothing without layers or without tokens', () => {
    const y = Float32Array.of(1, 2)
    addForward([], new Float32Array(3), y)
    addBackward([], new Float32Array(3), y, { coefficients: [] })
    expect([...y]).toEqual([1, 2])
    for (const strategy of STRATEGIES) {
      addForward([layer], new Float32Array(0), new Float32Array(0), { strategy })
      const { coefficients } = gradients()
      addBackward([layer], new Float32Array(0), new Float32Array(0), { coefficients }, { strategy })
      expect([...coefficients[0]]).toEqual([0, 0, 0, 0, 0])
    }
  })

  it('give the same bits after clearPlans', () => {
    const x = noise(12, 3)
    const [first, second] = [new Float64Array(8), new Float64Array(8)]
    addForward([layer], x, first)
    clearPlans()
    addForward([layer], x, second)
    expect(second).toEqual(first)
  })

  it.each([
    ['an x with an incomplete row', 'SHAPE_MISMATCH', { x: new Float32Array(11) }],
    ['a y for another number of tokens', 'SHAPE_MISMATCH', { y: new Float32Array(7) }],
    ['layers of several shapes', 'SHAPE_MISMATCH', { layers: [layer, layerOf([6, 4], 5, 1)] }],
    [
      'entries of another shape',
      'SHAPE_MISMATCH',
      { layers: [{ ...layer, entries: layerOf([6, 4], 5, 1).entries }] },
    ],
    ['too few coefficients', 'SHAPE_MISMATCH', { layers: [{ ...layer, coefficients: new Float32Array(4) }] }],
    ['rows of another length', 'SHAPE_MISMATCH', { rows: new Int32Array(3) }],
    ['a row index above the last layer', 'INVALID_OPTION', { rows: Int32Array.of(0, 1) }],
    ['a row index below -1', 'INVALID_OPTION', { rows: Int32Array.of(-2, 0) }],
    ['an unknown strategy', 'INVALID_OPTION', { strategy: 'fast' }],
  ])('reject %s and change nothing', (_, code, change) => {
    const { layers, x, y, ...options } = {
      layers: [layer],
      x: new Float32Array(12).fill(1),
      y: new Float32Array(8).fill(2),
      ...(change as object),
    }
    const before = y.slice()
    expect(() => addForward(layers, x, y, options)).toThrow(expect.objectContaining({ code }))
    expect(y).toEqual(before)
    const sums = {
      coefficients: layers.map(({ entries }) => new Float64Array(entries.n)),
      x: new Float64Array(x.length),
    }
    expect(() => addBackward(layers, x, y, sums, options)).toThrow(expect.objectContaining({ code }))
    expect(largest(sums.x)).toBe(0)
  })

  it('reject gradient arrays that do not fit', () => {
    const x = new Float32Array(12)
    const y = new Float32Array(8)
    const rejection = expect.objectContaining({ code: 'SHAPE_MISMATCH' })
    expect(() => addBackward([layer], x, y, { coefficients: [] })).toThrow(rejection)
    expect(() => addBackward([layer], x, y, { coefficients: [new Float32Array(4)] })).toThrow(rejection)
    expect(() => addBackward([layer], x, y, { ...gradients(), x: new Float32Array(11) })).toThrow(rejection)
  })
})
