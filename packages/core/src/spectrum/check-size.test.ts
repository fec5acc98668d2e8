/** Layers that are too large are refused at once; nothing here may allocate what it checks. */
import { expect, it } from 'vitest'
import { createLayer, type Layer } from '../adapter/layer.js'
import { explicitEntries } from '../entries/explicit.js'
import { MAX_LENGTH } from './check-size.js'
import { delta, deltaAdjoint } from './delta.js'
import { addBackward, addForward } from './linear.js'

const layerOf = (shape: readonly [number, number]): Layer =>
  createLayer({
    name: 'a.q',
    shape,
    entries: explicitEntries({ shape, rows: [0], columns: [0] }),
    coefficients: Float32Array.of(1),
    scaling: 1,
  })
const refusal = expect.objectContaining({
  code: 'UNSUPPORTED',
  details: expect.objectContaining({ module: 'a.q' }),
})

// The prime below 2²⁴ takes a minute and 3 GB to plan for.
it.each([
  [16_777_213, 1],
  [1, 16_777_213],
  [MAX_LENGTH + 1, 2],
] as const)('[%i, %i]', (d1, d2) => {
  const layer = layerOf([d1, d2])
  const [x, y] = [new Float32Array(d2), new Float32Array(d1)]
  const gradients = { coefficients: [new Float32Array(1)] }
  for (const strategy of ['auto', 'dense', 'factored', 'spectral'] as const) {
    expect(() => addForward([layer], x, y, { strategy })).toThrow(refusal)
    expect(() => addBackward([layer], x, y, gradients, { strategy })).toThrow(refusal)
  }
  expect(() => delta(layer)).toThrow(refusal)
  expect(() => deltaAdjoint(layer.entries, new Float32Array(d1 * d2))).toThrow(
    expect.objectContaining({ code: 'UNSUPPORTED' }),
  )
  expect(y.every((value) => value === 0)).toBe(true)
})

it('ΔW that no memory holds', () => {
  expect(() => delta(layerOf([65_536, 65_536]))).toThrow(refusal)
})

it('takes what is as large as that', () => {
  const layer = layerOf([MAX_LENGTH, 1])
  const y = new Float32Array(MAX_LENGTH)
  addForward([layer], Float32Array.of(1), y)
  expect(y[0]).toBeCloseTo(1 / MAX_LENGTH, 12)
})
