/** AdamW compared with PyTorch's trajectories (`__fixtures__/make-vectors.py`), and its state. */
import { expect, test } from 'vitest'
import type { FloatArray } from '../adapter/layer.js'
import vectors from './__fixtures__/vectors.json' with { type: 'json' }
import { createAdamW, restoreAdamW } from './adamw.js'
import { clipGradientNorm } from './clip-gradient-norm.js'
import { cosineSchedule } from './schedule.js'

/** Allowed errors relative to the largest parameter; float32 is compared with PyTorch's float32 run, float64 with its float64 run. */
const LIMITS = { float32: 1e-4, float64: 1e-12 }

const { starts, targets, curvatures } = vectors.problem

for (const { precision, options, schedule, clip, trajectory } of vectors.adamw) {
  const name = `${precision}, ${JSON.stringify(options)}${schedule ? ', cosine' : ''}${clip ? ', clipped' : ''}`
  test(`follows PyTorch for 100 steps: ${name}`, () => {
    const [beta1 = Number.NaN, beta2 = Number.NaN] = options.betas
    const optimizer = createAdamW({ ...options, betas: [beta1, beta2] })
    const multiplier = schedule ? cosineSchedule(schedule) : () => 1
    const FloatArray = precision === 'float32' ? Float32Array : Float64Array
    const parameters = starts.map((values) => FloatArray.from(values))
    const recorded = new Map(trajectory.map((record) => [record.step, record.parameters]))
    const compared: number[] = []
    for (let step = 1; step <= 100; step++) {
      const gradients = gradient(parameters)
      if (clip !== null) clipGradientNorm(gradients, clip)
      optimizer.step(parameters, gradients, options.learningRate * multiplier(step - 1))
      for (const [index, expected] of (recorded.get(step) ?? []).entries()) {
        const error = largestRelativeDifference(parameters[index], expected)
        expect(error, `step ${step}, vector ${index}`).toBeLessThanOrEqual(
          precision === 'float32' ? LIMITS.float32 : LIMITS.float64,
        )
        compared.push(step)
      }
    }
    expect(compared).toEqual([1, 1, 2, 2, 10, 10, 50, 50, 100, 100])
    expect(optimizer.steps).toBe(100)
  })
}

test('restores an optimiser from JSON, and continues bit for bit', () => {
  for (const FloatArray of [Float32Array, Float64Array]) {
    const optimizer = createAdamW({ learningRate: 0.05, betas: [0.8, 0.97] })
    const parameters: FloatArray[] = starts.map((values) => FloatArray.from(values))
    for (let step = 0; step < 7; step++) optimizer.step(parameters, gradient(parameters))
    const restored = restoreAdamW(JSON.parse(JSON.stringify(optimizer.toState())))
    const copies = parameters.map((parameter) => parameter.slice())
    for (let step = 0; step < 7; step++) {
      optimizer.step(parameters, gradient(parameters))
      restored.step(copies, gradient(copies))
    }
    expect(copies).toEqual(parameters)
    expect(restored.toState()).toEqual(optimizer.toState())
  }
})

test('restores the state of a new optimiser', () => {
  expect(restoreAdamW(createAdamW().toState()).toState()).toEqual(createAdamW().toState())
})

test('keeps moments in the precision of their vector', () => {
  const optimizer = createAdamW()
  optimizer.step([Float32Array.of(1), Float64Array.of(1)], [Float64Array.of(0.1), Float32Array.of(0.1)])
  expect(optimizer.toState().vectors.map(({ precision }) => precision)).toEqual(['float32', 'float64'])
})

test.each([
  ['a second vector', [Float32Array.of(1, 2), Float32Array.of(1)], [Float32Array.of(1, 2)], 'SHAPE_MISMATCH'],
  ['a longer vector', [Float32Array.of(1, 2, 3)], [Float32Array.of(1, 2, 3)], 'SHAPE_MISMATCH'],
  ['a shorter gradient', [Float32Array.of(1, 2)], [Float32Array.of(1)], 'SHAPE_MISMATCH'],
  ['another precision', [Float64Array.of(1, 2)], [Float32Array.of(1, 2)], 'UNSUPPORTED_DTYPE'],
  ['a gradient with NaN', [Float32Array.of(1, 2)], [Float32Array.of(1, Number.NaN)], 'NOT_FINITE'],
  ['an infinite gradient', [Float32Array.of(1, 2)], [Float32Array.of(-Infinity, 1)], 'NOT_FINITE'],
] as const)('rejects %s and changes nothing', (_, parameters, gradients, code) => {
  const optimizer = createAdamW()
  optimizer.step([Float32Array.of(1, 2)], [Float32Array.of(1, 2)])
  const before = { state: optimizer.toState(), parameters: parameters.map((vector) => vector.slice()) }
  expect(() => optimizer.step(parameters, gradients)).toThrow(expect.objectContaining({ code }))
  expect({ state: optimizer.toState(), parameters: parameters.map((vector) => vector.slice()) }).toEqual(
    before,
  )
})

test.each([
  { learningRate: -1 },
  { learningRate: Number.NaN },
  { betas: [0.9, 1] as const },
  { betas: [-0.1, 0.9] as const },
  { epsilon: 0 },
  { weightDecay: -0.1 },
  { wieghtDecay: 0.1 },
])('rejects the options %j', (options) => {
  expect(() => createAdamW(options)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
})

test.each([-1, Number.NaN, Infinity])('rejects a learning rate of %d for one step', (learningRate) => {
  const optimizer = createAdamW()
  expect(() => optimizer.step([Float32Array.of(1)], [Float32Array.of(1)], learningRate)).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION' }),
  )
  expect(optimizer.steps).toBe(0)
})

test('rejects a damaged state and names the damaged field', () => {
  const optimizer = createAdamW()
  optimizer.step([Float32Array.of(1, 2)], [Float32Array.of(1, 2)])
  const state = optimizer.toState()
  const [vector] = state.vectors
  const damaged: [unknown, RegExp][] = [
    [null, /AdamW state/],
    [{ ...state, version: 2 }, /version/],
    [{ ...state, steps: -1 }, /steps/],
    [{ ...state, steps: 1.5 }, /steps/],
    [{ ...state, options: { ...state.options, betas: [0.9] } }, /options\.betas/],
    [{ ...state, options: {} }, /options\.learningRate/],
    [{ ...state, vectors: [{ ...vector, precision: 'float16' }] }, /vectors\.0\.precision/],
    [{ ...state, vectors: [{ ...vector, first: [1, null] }] }, /vectors\.0\.first\.1/],
    [{ ...state, vectors: [{ ...vector, second: [1, -1] }] }, /vectors\.0\.second\.1/],
    [{ ...state, vectors: [{ ...vector, second: [1] }] }, /first and second differ in length/],
    [{ ...state, extra: 1 }, /extra/],
  ]
  for (const [value, message] of damaged) {
    expect(() => restoreAdamW(value)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }),
    )
  }
})

/** Returns the gradient of ½ Σ a (c − b)², in the precision of `parameters`. */
function gradient(parameters: readonly FloatArray[]): FloatArray[] {
  return parameters.map((parameter, index) => {
    const [curvature = [], target = []] = [curvatures[index], targets[index]]
    return parameter.map((value, i) => (curvature[i] ?? Number.NaN) * (value - (target[i] ?? Number.NaN)))
  })
}

function largestRelativeDifference(actual: FloatArray | undefined, expected: readonly number[]): number {
  const differences = expected.map((value, i) => Math.abs(value - (actual?.[i] ?? Number.NaN)))
  return Math.max(...differences) / Math.max(...expected.map(Math.abs))
}
