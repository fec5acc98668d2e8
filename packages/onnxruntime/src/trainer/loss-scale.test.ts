/** Gradients of float16 models: with the loss scale they are neither lost nor infinite, and a resumed run goes on with the same scale. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeFloats } from '@fourierft/core'
import { scalarLoss } from '@fourierft/onnx'
import { Tensor } from 'onnxruntime-node'
import { afterEach, describe, expect, test } from 'vitest'
import type { AdaptedSession } from '../adapted-session.js'
import { createSession } from '../create-session.js'
import { positiveInput, positiveModel } from './__fixtures__/positive-model.js'
import { decodeCheckpoint } from './checkpoint.js'
import { afterStep, FIRST_LOSS_SCALE, halved, isLossScale } from './loss-scale.js'
import { createTrainer, type Trainer } from './trainer.js'

/**
 * From the loss to a coefficient of the first layer, a float16 model rounds the division by the number of elements, the product with `factor`, the
 * product with B, its sum with the gradient of the branch, h, tanh(h), its square, 1 − tanh(h)² and the product with that. tanh is below 0.5 here,
 * so that 1 − tanh(h)² has less than the relative errors of h and tanh(h). No sum cancels: each number of ∂L/∂ΔW has a relative error of at most ten
 * roundings, 2⁻¹¹ each. The coefficient of entry (0, 0) is proportional to the sum of all these numbers, and is the largest. Those of the other
 * entries are sums of the same numbers times cosines.
 */
const TOLERANCE = 10 * 2 ** -11

function batchOf(isHalf: boolean, first = positiveInput[0]) {
  const numbers = Float32Array.from([first, ...positiveInput.slice(1)])
  const half = new Uint16Array(encodeFloats(numbers, 'F16').slice().buffer)
  const dims = [4, 5, 12]
  return { feeds: { x: isHalf ? new Tensor('float16', half, dims) : new Tensor('float32', numbers, dims) } }
}

const sessions: AdaptedSession[] = []
afterEach(async () => {
  await Promise.all(sessions.splice(0).map((session) => session.release()))
})

async function open(options: { isHalf: boolean; factor: number }): Promise<Trainer> {
  const session = await createSession(positiveModel(options), { intraOpNumThreads: 1, logSeverityLevel: 3 })
  sessions.push(session)
  // All entries of the layers [20, 12] and [8, 20].
  await session.addAdapter('mine', {
    targetModules: ['first', 'second'],
    nFrequency: 240,
    nFrequencyPattern: { second: 160 },
  })
  return createTrainer(session, { loss: scalarLoss('loss') })
}

/** After the first step AdamW's first moments are 0.1 of the gradients. */
async function firstGradients(trainer: Trainer, isHalf: boolean): Promise<number[][]> {
  await trainer.step(batchOf(isHalf))
  const [{ vectors }] = trainer.saveState().optimizers
  return vectors.map(({ first }) => first.map((moment) => moment / 0.1))
}

test.each([
  // Without a scale, the gradient of y is rounded to 0.
  ['far below the smallest float16', 2 ** -20, FIRST_LOSS_SCALE.scale],
  // y has 160 elements: 2¹² · scale / 160 is below 65520 from 2¹¹ on.
  ['that become infinite with the first scale', 2 ** 12, 2 ** 11],
])('float16: gradients %s agree with those of float32', async (_, factor, scale) => {
  const half = await open({ isHalf: true, factor })
  const received = await firstGradients(half, true)
  expect(half.saveState().lossScale).toEqual({ scale, steps: 1 })
  const float32 = await open({ isHalf: false, factor })
  const expected = await firstGradients(float32, false)
  expect(float32.saveState().lossScale).toBeUndefined()
  for (const [layer, gradient] of expected.entries()) {
    const largest = Math.max(...gradient.map(Math.abs))
    const errors = gradient.map((value, i) => Math.abs(received[layer][i] - value) / largest)
    expect(Math.max(...errors)).toBeLessThan(TOLERANCE)
  }
})

test('a gradient that is not finite with any scale is an error, which changes neither the adapter nor the scale', async () => {
  const trainer = await open({ isHalf: true, factor: 1 })
  const before = trainer.saveState()
  // tanh(∞) is 1, so the loss is finite.
  const infinite = batchOf(true, Number.POSITIVE_INFINITY)
  await expect(trainer.step(infinite)).rejects.toMatchObject({ code: 'NOT_FINITE' })
  expect(trainer.saveState()).toEqual(before)
})

describe('a run that is resumed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fourierft-loss-scale-'))
  const path = join(folder, 'run.safetensors')
  afterEach(() => rmSync(folder, { recursive: true }))

  test('has the scale and the bits of a run without interruption', async () => {
    const options = { isHalf: true, factor: 2 ** 12 }
    const batches = [1, 2, 3].map((first) => batchOf(true, first / 8))
    const uninterrupted = await open(options)
    await uninterrupted.fit(batches, { epochs: 2 })
    const abort = new AbortController()
    const first = await open(options)
    const onBatchEnd = (step: number) => step === 4 && abort.abort()
    const interruption = { signal: abort.signal, callbacks: { onBatchEnd } }
    await first.fit(batches, { epochs: 2, checkpoint: { path }, ...interruption })
    expect(decodeCheckpoint(readFileSync(path), path).lossScale).toEqual({ scale: 2 ** 11, steps: 4 })
    const resumed = await open(options)
    await resumed.fit(batches, { epochs: 2, checkpoint: { path, resume: true } })
    expect(resumed.saveState()).toEqual(uninterrupted.saveState())
    expect(resumed.saveState().lossScale).toEqual({ scale: 2 ** 11, steps: 6 })
  })
})

test('the scale doubles after 2000 steps up to 2²⁴, and is halved down to 1', () => {
  let state = FIRST_LOSS_SCALE
  const states = Array.from({ length: 24_000 }, () => {
    state = afterStep(state)
    return state
  })
  expect(states.every(isLossScale)).toBe(true)
  const scales = states.map(({ scale }) => scale)
  expect([1998, 1999, 3999, 23_999].map((i) => scales[i])).toEqual([2 ** 15, 2 ** 16, 2 ** 17, 2 ** 24])
  expect(halved({ scale: 2, steps: 5 })).toEqual({ scale: 1, steps: 0 })
  expect(halved({ scale: 1, steps: 0 })).toBeUndefined()
  for (const wrong of [{ scale: 3 }, { scale: 2 ** 25 }, { scale: 0.5 }, { steps: 2000 }, { steps: 0.5 }])
    expect(isLossScale({ ...FIRST_LOSS_SCALE, ...wrong })).toBe(false)
})
