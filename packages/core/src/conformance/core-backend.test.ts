import { describe, expect, it } from 'vitest'
import { createConfig } from '../adapter/config.js'
import { createAdapter } from '../adapter/create-adapter.js'
import { createLayer } from '../adapter/layer.js'
import type { Shape } from '../entries/entries.js'
import { uniformEntries } from '../entries/uniform.js'
import { referenceBackward, referenceDelta, referenceForward } from '../spectrum/reference.js'
import { coreBackend } from './core-backend.js'

const SHAPE: Shape = [12, 20]
const [D1, D2] = SHAPE
const N = 30
const TOKENS = 7

function noise(length: number, seed: number): Float32Array {
  let state = seed >>> 0
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

const entries = uniformEntries({ shape: SHAPE, n: N, seed: 2024 })
const layers = [1, 2].map((seed) =>
  createLayer({ name: `layer${seed}`, shape: SHAPE, entries, coefficients: noise(N, seed), scaling: 40 }),
)
const weight = noise(D1 * D2, 3)
const bias = noise(D1, 4)
const x = noise(TOKENS * D2, 5)
const gradY = noise(TOKENS * D1, 6)

/**
 * Two roundings to float32 (the dense product with the bias, the branch), each at most half an ulp; the values are below twice the largest
 * expected value.
 */
const FLOAT32_TOLERANCE = 2 ** -22

/** Returns the largest error, relative to the largest expected value. */
function difference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length)
  let largest = 0
  let worst = 0
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]))
    worst = Math.max(worst, Math.abs(actual[i] - expected[i]))
  }
  return worst / largest
}

function baseOutput(): Float64Array {
  const y = new Float64Array(TOKENS * D1)
  for (let t = 0; t < TOKENS; t++) {
    for (let p = 0; p < D1; p++) {
      let sum = bias[p]
      for (let q = 0; q < D2; q++) sum += weight[p * D2 + q] * x[t * D2 + q]
      y[t * D1 + p] = sum
    }
  }
  return y
}

function withBaseGradient(branchGradient: Float64Array): Float64Array {
  const gradX = branchGradient.slice()
  for (let t = 0; t < TOKENS; t++) {
    for (let q = 0; q < D2; q++) {
      for (let p = 0; p < D1; p++) gradX[t * D2 + q] += weight[p * D2 + q] * gradY[t * D1 + p]
    }
  }
  return gradX
}

const errorWithCode = (code: string) => expect.objectContaining({ code })

describe('coreBackend', () => {
  it('computes ΔW', async () => {
    expect(difference(await coreBackend().delta(layers[0]), referenceDelta(layers[0]))).toBeLessThan(
      FLOAT32_TOLERANCE,
    )
  })

  it.each([undefined, Int32Array.of(0, 1, -1, 1, 0, 0, -1)])(
    'computes outputs and gradients, rows %s',
    async (rows) => {
      const linear = await coreBackend().linear(weight, bias, layers)
      const options = rows === undefined ? {} : { rows }
      expect(
        difference(await linear.forward(x, options), referenceForward(layers, x, baseOutput(), options)),
      ).toBeLessThan(FLOAT32_TOLERANCE)
      const { coefficients, x: gradX } = await linear.backward(x, gradY, options)
      const expected = referenceBackward(layers, x, gradY, options)
      expect(difference(gradX, withBaseGradient(expected.x))).toBeLessThan(FLOAT32_TOLERANCE)
      coefficients.forEach((c, i) => {
        expect(difference(c, expected.coefficients[i])).toBeLessThan(FLOAT32_TOLERANCE)
      })
    },
  )

  it('merges ΔW into the weight, and unmerges to the original weight, bit for bit', async () => {
    const linear = await coreBackend().linear(weight, bias, layers)
    const before = await linear.forward(x)
    await linear.merge()
    const sum = referenceDelta(layers[0]).map((value, i) => value + referenceDelta(layers[1])[i] + weight[i])
    expect(difference(await linear.weight(), sum)).toBeLessThan(FLOAT32_TOLERANCE)
    expect(difference(await linear.forward(x), before)).toBeLessThan(2 * FLOAT32_TOLERANCE)
    const { x: gradX, coefficients } = await linear.backward(x, gradY)
    const expected = referenceBackward(layers, x, gradY)
    expect(difference(gradX, withBaseGradient(expected.x))).toBeLessThan(2 * FLOAT32_TOLERANCE)
    expect(difference(coefficients[1], expected.coefficients[1])).toBeLessThan(FLOAT32_TOLERANCE)
    await linear.unmerge()
    expect(await linear.weight()).toEqual(weight)
    expect(await linear.forward(x)).toEqual(before)
  })

  it('while disabled, returns the base output bit for bit and zero gradients of the coefficients, merged or not', async () => {
    const linear = await coreBackend().linear(weight, bias, layers)
    await linear.setCoefficients(layers.map(() => new Float32Array(N)))
    const base = await linear.forward(x)
    expect(difference(base, baseOutput())).toBeLessThan(FLOAT32_TOLERANCE)
    await linear.setCoefficients(layers.map((layer) => Float32Array.from(layer.coefficients)))
    const active = await linear.forward(x)
    expect(active).not.toEqual(base)
    await linear.disable()
    expect(await linear.forward(x)).toEqual(base)
    const { coefficients, x: gradX } = await linear.backward(x, gradY)
    expect(coefficients.every((c) => c.every((value) => value === 0))).toBe(true)
    expect(difference(gradX, withBaseGradient(new Float64Array(TOKENS * D2)))).toBeLessThan(FLOAT32_TOLERANCE)
    await linear.merge()
    expect(await linear.forward(x)).toEqual(base)
    expect(await linear.weight()).toEqual(weight)
    await linear.enable()
    expect(await linear.forward(x)).not.toEqual(base)
    await linear.unmerge()
    expect(await linear.forward(x)).toEqual(active)
  })

  it('copies its arguments', async () => {
    const args = { weight: weight.slice(), bias: bias.slice(), coefficients: noise(N, 1) }
    const layer = createLayer({ ...layers[0], coefficients: args.coefficients })
    const linear = await coreBackend().linear(args.weight, args.bias, [layer])
    const before = await linear.forward(x)
    for (const array of Object.values(args)) array.fill(9)
    expect(await linear.forward(x)).toEqual(before)
    const weightNow = await linear.weight()
    weightNow.fill(9)
    expect(await linear.weight()).toEqual(weight)
  })

  it('counts its layers, and disposes them', async () => {
    const backend = coreBackend()
    const linear = await backend.linear(weight, null, layers)
    await backend.linear(weight, null, layers)
    expect(backend.resources?.()).toBe(2)
    await linear.dispose()
    expect(backend.resources?.()).toBe(1)
    await backend.dispose?.()
    expect(backend.resources?.()).toBe(0)
    for (const call of [
      () => linear.forward(x),
      () => linear.backward(x, gradY),
      () => linear.merge(),
      () => linear.unmerge(),
      () => linear.enable(),
      () => linear.disable(),
      () => linear.weight(),
      () => linear.dispose(),
      () => linear.setCoefficients([]),
    ]) {
      await expect(call()).rejects.toThrow(errorWithCode('INVALID_STATE'))
    }
  })

  it('writes the same files as it reads', async () => {
    const config = createConfig({ nFrequency: N, scaling: 40, randomLocSeed: 2024, initWeights: false })
    for (const options of [{}, { dtype: 'BF16' }] as const) {
      const files = createAdapter(config, { layer1: SHAPE, layer2: [5, 30] }).toBytes(options)
      expect(await coreBackend().roundTrip?.(files)).toEqual(files)
    }
    const files = { config: new Uint8Array(2), model: new Uint8Array(8) }
    await expect(coreBackend().roundTrip?.(files)).rejects.toThrow(errorWithCode('INVALID_JSON'))
  })

  it('rejects calls that do not fit the state of the layer', async () => {
    const linear = await coreBackend().linear(weight, bias, layers)
    await expect(linear.unmerge()).rejects.toThrow(errorWithCode('INVALID_STATE'))
    await linear.merge()
    await expect(linear.merge()).rejects.toThrow(errorWithCode('INVALID_STATE'))
    await expect(linear.setCoefficients([noise(N, 1), noise(N, 2)])).rejects.toThrow(
      errorWithCode('INVALID_STATE'),
    )
    await expect(linear.forward(x, { rows: new Int32Array(TOKENS) })).rejects.toThrow(
      errorWithCode('INVALID_STATE'),
    )
  })

  it('rejects invalid arguments, and changes nothing', async () => {
    const backend = coreBackend()
    const linear = await backend.linear(weight, bias, layers)
    const before = await linear.forward(x)
    const withNaN = noise(N, 1)
    withNaN[7] = Number.NaN
    const other = uniformEntries({ shape: [20, 12], n: N, seed: 1 })
    const transposed = createLayer({ ...layers[0], shape: [20, 12], entries: other })
    const cases: [() => Promise<unknown>, string][] = [
      [() => backend.linear(weight.slice(1), bias, layers), 'SHAPE_MISMATCH'],
      [() => backend.linear(weight, bias.slice(1), layers), 'SHAPE_MISMATCH'],
      [() => backend.linear(weight, bias, [layers[0], transposed]), 'SHAPE_MISMATCH'],
      [() => backend.linear(weight, null, []), 'INVALID_OPTION'],
      [() => backend.linear(weight, bias, [{ ...layers[0], coefficients: withNaN }]), 'NOT_FINITE'],
      [() => backend.delta({ ...layers[0], coefficients: withNaN }), 'NOT_FINITE'],
      [() => linear.forward(x.slice(1)), 'SHAPE_MISMATCH'],
      [() => linear.backward(x, gradY.slice(1)), 'SHAPE_MISMATCH'],
      [() => linear.setCoefficients([noise(N, 1)]), 'SHAPE_MISMATCH'],
      [() => linear.setCoefficients([noise(N, 1), noise(N - 1, 1)]), 'SHAPE_MISMATCH'],
      [() => linear.setCoefficients([noise(N, 9), withNaN]), 'NOT_FINITE'],
      [() => linear.forward(x, { rows: new Int32Array(TOKENS).fill(2) }), 'INVALID_OPTION'],
    ]
    for (const [call, code] of cases) await expect(call(), `${call}`).rejects.toThrow(errorWithCode(code))
    expect(await linear.forward(x)).toEqual(before)
    expect(backend.resources?.()).toBe(1)
  })
})
