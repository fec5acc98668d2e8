import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createLayer, type FloatArray, type Layer } from '../adapter/layer.js'
import { explicitEntries } from '../entries/explicit.js'
import { MersenneTwister } from '../entries/mersenne-twister.js'
import { uniformEntries } from '../entries/uniform.js'
import { referenceBackward, referenceDelta, referenceForward } from './reference.js'

/** Unit roundoff of float64. */
const U = 2 ** -53

/** Returns pseudo-random numbers in `[−1, 1)`. */
function randomNumbers(length: number, seed: number): Float64Array {
  const random = new MersenneTwister(seed)
  return Float64Array.from({ length }, () => random.nextUint32() / 2 ** 31 - 1)
}

function layerOf(d1: number, d2: number, n: number, seed: number, scaling = 150): Layer {
  const shape = [d1, d2] as const
  const entries = uniformEntries({ shape, n, seed })
  return createLayer({
    name: `layer.${seed}`,
    shape,
    entries,
    coefficients: randomNumbers(n, seed + 1),
    scaling,
  })
}

function singleEntry(d1: number, d2: number, j: number, k: number, c: number): Layer {
  const shape = [d1, d2] as const
  const entries = explicitEntries({ shape, rows: [j], columns: [k] })
  return createLayer({ name: 'one', shape, entries, coefficients: Float64Array.of(c), scaling: 1 })
}

function sumOfMagnitudes(values: FloatArray): number {
  let sum = 0
  for (const value of values) sum += Math.abs(value)
  return sum
}

function dot(a: FloatArray, b: FloatArray): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}

/**
 * Returns a bound on the rounding error of `α/(d1·d2) · Σ_l c_l Σ_q x_q Σ_p g_p · cosine`, summed in any order. Each term
 * takes part in at most `n + d1 + d2` additions, and in 20 roundings for its products and its cosine (a product of
 * four tabulated values, each within 2U). A complex product doubles the number of terms.
 */
function bound({ shape: [d1, d2], scaling, entries, coefficients }: Layer, ...factors: FloatArray[]): number {
  const magnitude = factors.reduce(
    (product, values) => product * sumOfMagnitudes(values),
    sumOfMagnitudes(coefficients),
  )
  return 2 * (entries.n + d1 + d2 + 20) * U * (Math.abs(scaling) / (d1 * d2)) * magnitude
}

const layers = fc
  .tuple(fc.integer({ min: 1, max: 24 }), fc.integer({ min: 1, max: 24 }), fc.nat(1e6))
  .chain(([d1, d2, seed]) => fc.integer({ min: 1, max: d1 * d2 }).map((n) => layerOf(d1, d2, n, seed)))

describe('referenceDelta', () => {
  test('is constant for frequency zero', () => {
    expect(referenceDelta(singleEntry(3, 5, 0, 0, 2))).toEqual(new Float64Array(15).fill(2 * (1 / 15)))
  })

  test('is a checkerboard for the highest frequencies', () => {
    const delta = referenceDelta(singleEntry(4, 8, 2, 4, 1))
    delta.forEach((value, i) => {
      expect(value).toBe(((Math.floor(i / 8) + (i % 8)) % 2 ? -1 : 1) / 32)
    })
  })

  test('varies along the rows with j and along the columns with k', () => {
    const delta = referenceDelta(singleEntry(4, 2, 1, 0, 8))
    expect(delta).toEqual(Float64Array.of(1, 1, 0, 0, -1, -1, 0, 0))
  })

  test('equals the double sum of equation 3 with unreduced angles', () => {
    fc.assert(
      fc.property(layers, (layer) => {
        const [d1, d2] = layer.shape
        const { rows, columns } = layer.entries
        // Math.cos is within 1 ulp. Its argument 2π(p·j/d1 + q·k/d2) is below 2π·48 and rounded four times, which gives
        // 1300 U.
        const limit =
          bound(layer) + 1300 * U * (layer.scaling / (d1 * d2)) * sumOfMagnitudes(layer.coefficients)
        referenceDelta(layer).forEach((value, i) => {
          const p = Math.floor(i / d2)
          const q = i % d2
          const direct = Array.from(layer.coefficients).reduce(
            (sum, c, l) =>
              sum + c * Math.cos(2 * Math.PI * ((p * (rows[l] ?? 0)) / d1 + (q * (columns[l] ?? 0)) / d2)),
            0,
          )
          expect(Math.abs(value - (layer.scaling / (d1 * d2)) * direct)).toBeLessThanOrEqual(limit)
        })
      }),
      { numRuns: 40 },
    )
  })

  test('gives chosen rows of ΔW, bit for bit', () => {
    const layer = layerOf(11, 6, 20, 3)
    const whole = referenceDelta(layer)
    const some = referenceDelta(layer, { rows: [10, 0, 7] })
    expect(some).toEqual(
      Float64Array.of(...whole.slice(60, 66), ...whole.slice(0, 6), ...whole.slice(42, 48)),
    )
  })

  test.each([-1, 11, 0.5])('rejects row %s', (row) => {
    expect(() => referenceDelta(layerOf(11, 6, 20, 3), { rows: [row] })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION' }),
    )
  })
})

describe('referenceForward', () => {
  test('equals ΔW·x', () => {
    fc.assert(
      fc.property(layers, (layer) => {
        const [d1, d2] = layer.shape
        const x = randomNumbers(2 * d2, 5)
        const delta = referenceDelta(layer)
        referenceForward([layer], x).forEach((value, i) => {
          const token = x.subarray(Math.floor(i / d1) * d2).subarray(0, d2)
          const row = delta.subarray((i % d1) * d2).subarray(0, d2)
          expect(Math.abs(value - dot(row, token))).toBeLessThanOrEqual(2 * bound(layer, token))
        })
      }),
    )
  })

  test('is linear in x', () => {
    const layer = layerOf(9, 14, 30, 8)
    const a = randomNumbers(14, 1)
    const b = randomNumbers(14, 2)
    const ya = referenceForward([layer], a)
    const yb = referenceForward([layer], b)
    const limit = bound(layer, a) + bound(layer, b)
    referenceForward(
      [layer],
      a.map((value, q) => 0.5 * value - 2 * b[q]),
    ).forEach((value, p) => {
      expect(Math.abs(value - 0.5 * ya[p] + 2 * yb[p])).toBeLessThanOrEqual(4 * limit)
    })
  })

  test('adds several layers to y0 one after another, and does not change y0', () => {
    const [a, b] = [layerOf(7, 10, 12, 1), layerOf(7, 10, 5, 2, -3)]
    const x = randomNumbers(20, 3)
    const y0 = randomNumbers(14, 4)
    const original = y0.slice()
    expect(referenceForward([a, b], x, y0)).toEqual(referenceForward([b], x, referenceForward([a], x, y0)))
    expect(y0).toEqual(original)
  })

  test('applies to each token its own layer, or none', () => {
    const [a, b] = [layerOf(7, 10, 12, 1), layerOf(7, 10, 5, 2)]
    const x = randomNumbers(30, 3)
    const y = referenceForward([a, b], x, undefined, { rows: Int32Array.of(1, -1, 0) })
    expect(y.subarray(0, 7)).toEqual(referenceForward([b], x.subarray(0, 10)))
    expect(y.subarray(7, 14)).toEqual(new Float64Array(7))
    expect(y.subarray(14)).toEqual(referenceForward([a], x.subarray(20)))
  })

  test.each([
    ['an empty list of layers', [], randomNumbers(10, 1), undefined, undefined, 'INVALID_OPTION'],
    [
      'layers of two shapes',
      [layerOf(7, 10, 3, 1), layerOf(10, 7, 3, 1)],
      randomNumbers(10, 1),
      undefined,
      undefined,
      'SHAPE_MISMATCH',
    ],
    [
      'an incomplete token',
      [layerOf(7, 10, 3, 1)],
      randomNumbers(15, 1),
      undefined,
      undefined,
      'SHAPE_MISMATCH',
    ],
    [
      'a y0 for another number of tokens',
      [layerOf(7, 10, 3, 1)],
      randomNumbers(10, 1),
      randomNumbers(14, 1),
      undefined,
      'SHAPE_MISMATCH',
    ],
    [
      'rows for another number of tokens',
      [layerOf(7, 10, 3, 1)],
      randomNumbers(10, 1),
      undefined,
      Int32Array.of(0, 0),
      'SHAPE_MISMATCH',
    ],
    [
      'a row index above the last layer',
      [layerOf(7, 10, 3, 1)],
      randomNumbers(10, 1),
      undefined,
      Int32Array.of(1),
      'INVALID_OPTION',
    ],
  ])('rejects %s', (_, invalidLayers, x, y0, rows, code) => {
    expect(() => referenceForward(invalidLayers, x, y0, rows ? { rows } : {})).toThrow(
      expect.objectContaining({ code }),
    )
  })
})

describe('referenceBackward', () => {
  test('is the adjoint of the forward pass: ⟨g, ΔW·x⟩ = ⟨ΔWᵀ·g, x⟩ = ⟨∂L/∂c, c⟩', () => {
    fc.assert(
      fc.property(layers, (layer) => {
        const [d1, d2] = layer.shape
        const x = randomNumbers(3 * d2, 5)
        const g = randomNumbers(3 * d1, 6)
        const gradients = referenceBackward([layer], x, g)
        const inner = dot(g, referenceForward([layer], x))
        const limit = 2 * bound(layer, x, g)
        expect(Math.abs(dot(gradients.x, x) - inner)).toBeLessThanOrEqual(limit)
        expect(Math.abs(dot(gradients.coefficients[0], layer.coefficients) - inner)).toBeLessThanOrEqual(
          limit,
        )
      }),
    )
  })

  test('agrees with finite differences of L = Σ y²/2', () => {
    const layer = layerOf(9, 12, 17, 4)
    const x = randomNumbers(24, 7)
    const loss = (coefficients: FloatArray, input: FloatArray) => {
      const y = referenceForward([{ ...layer, coefficients }], input)
      return dot(y, y) / 2
    }
    const gradients = referenceBackward([layer], x, referenceForward([layer], x))
    // L is quadratic in each variable, so a central difference is exact up to rounding; with h = 2⁻⁸ the rounding
    // is divided by 2⁻⁷. The loss is rounded as a product of two outputs, each within its bound.
    const y = referenceForward([layer], x)
    const limit = 2 ** 7 * 4 * (bound(layer, x) * sumOfMagnitudes(y) + y.length * U * dot(y, y))
    const step = 2 ** -8
    layer.coefficients.forEach((c, l) => {
      const difference =
        loss(layer.coefficients.with(l, c + step), x) - loss(layer.coefficients.with(l, c - step), x)
      const expected = gradients.coefficients[0]?.[l]
      expect(Math.abs(difference / (2 * step) - expected)).toBeLessThanOrEqual(limit)
    })
    x.forEach((value, i) => {
      const difference =
        loss(layer.coefficients, x.with(i, value + step)) - loss(layer.coefficients, x.with(i, value - step))
      expect(Math.abs(difference / (2 * step) - gradients.x[i])).toBeLessThanOrEqual(limit)
    })
  })

  test('gives the gradients of a token only to its own layer', () => {
    const [a, b] = [layerOf(7, 10, 12, 1), layerOf(7, 10, 5, 2)]
    const x = randomNumbers(30, 3)
    const g = randomNumbers(21, 4)
    const both = referenceBackward([a, b], x, g, { rows: Int32Array.of(1, -1, 0) })
    const first = referenceBackward([b], x.subarray(0, 10), g.subarray(0, 7))
    const last = referenceBackward([a], x.subarray(20), g.subarray(14))
    expect(both.coefficients).toEqual([last.coefficients[0], first.coefficients[0]])
    expect(both.x).toEqual(Float64Array.of(...first.x, ...new Float64Array(10), ...last.x))
  })

  test('rejects a gradient for another number of tokens', () => {
    expect(() =>
      referenceBackward([layerOf(7, 10, 3, 1)], randomNumbers(10, 1), randomNumbers(14, 1)),
    ).toThrow(expect.objectContaining({ code: 'SHAPE_MISMATCH' }))
  })
})
