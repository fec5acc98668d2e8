/** Layers that are too large are rejected before memory for them is allocated. */
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
const rejection = expect.objectContaining({
  code: 'UNSUPPORTED',
  details: expect.objectContaining({ module: 'a.q' }),
})

// A plan for the prime 16,777,213 would take a minute and 3 GB.
it.each([
  [16_777_213, 1],
  [1, 16_777_213],
  [MAX_LENGTH + 1, 2],
] as const)('rejects a layer of shape [%i, %i]', (d1, d2) => {
  const layer = layerOf([d1, d2])
  const [x, y] = [new Float32Array(d2), new Float32Array(d1)]
  const gradients = { coefficients: [new Float32Array(1)] }
  for (const strategy of ['auto', 'dense', 'factored', 'spectral'] as const) {
    expect(() => addForward([layer], x, y, { strategy })).toThrow(rejection)
    expect(() => addBackward([layer], x, y, gradients, { strategy })).toThrow(rejection)
  }
  expect(() => delta(layer)).toThrow(rejection)
  expect(() => deltaAdjoint(layer.entries, new Float32Array(d1 * d2))).toThrow(
    expect.objectContaining({ code: 'UNSUPPORTED' }),
  )
  expect(y.every((value) => value === 0)).toBe(true)
})

it('rejects a ΔW that does not fit into memory', () => {
  const layer = layerOf([65_536, 65_536])
  expect(() => delta(layer)).toThrow(rejection)
  expect(() => delta(layer)).toThrow(
    expect.objectContaining({ advice: expect.stringContaining('addForward') }),
  )
})

it('accepts a layer of the largest size', () => {
  const layer = layerOf([MAX_LENGTH, 1])
  const y = new Float32Array(MAX_LENGTH)
  addForward([layer], Float32Array.of(1), y)
  expect(y[0]).toBeCloseTo(1 / MAX_LENGTH, 12)
})
