/** The option `memory`: lean steps equal fast ones, and steps that need more memory than the budget are rejected before they start. */
import { readFileSync } from 'node:fs'
import { FourierFTError } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { AdaptedSession } from '../adapted-session.js'
import { createSession } from '../create-session.js'
import {
  createTrainer,
  crossEntropy,
  type Trainer,
  type TrainerOptions,
  type TrainingBatch,
} from '../index.js'

const bert = new Uint8Array(
  readFileSync(new URL('../../../onnx/src/__fixtures__/bert-batch.onnx', import.meta.url)),
)

function makeBatch(rows: number): TrainingBatch {
  const ids = BigInt64Array.from({ length: rows * 5 }, (_, i) => BigInt((i * 7 + (i % 11) * 3) % 30))
  const labels = BigInt64Array.from({ length: rows }, (_, i) => BigInt(i % 2))
  return { feeds: { x: new Tensor('int64', ids, [rows, 5]) }, labels: new Tensor('int64', labels, [rows]) }
}

const batch = makeBatch(16)
const loss = crossEntropy('y')
let session: AdaptedSession

async function open(options: Partial<TrainerOptions> = {}): Promise<Trainer> {
  session = await createSession(bert, { intraOpNumThreads: 1, logSeverityLevel: 3 })
  await session.addAdapter('mine', { targetModules: ['query', 'value', 'dense'], nFrequency: 60 })
  return createTrainer(session, { loss, ...options })
}

afterEach(() => session.release())

/** The bytes that the error says a step needs. */
async function needOf(step: Promise<unknown>): Promise<number> {
  const error = await step.then(
    () => undefined,
    (problem: unknown) => problem,
  )
  expect(FourierFTError.isInstance(error)).toBe(true)
  const { code, details } = error as FourierFTError
  expect([code, details.option]).toEqual(['INVALID_OPTION', 'memoryBudget'])
  return Number(details.received)
}

test('lean steps equal fast ones within the rounding of float32', async () => {
  const step = async (memory: 'fast' | 'lean') => {
    const trainer = await open({ memory })
    expect(trainer.memory).toBe(memory)
    return trainer.step(batch)
  }
  const fast = await step('fast')
  await session.release()
  const lean = await step('lean')
  // Each number passes through fewer than 200 operations, and each of them rounds to 2⁻²⁴.
  for (const name of ['loss', 'gradientNorm'] as const)
    expect(Math.abs(lean[name] - fast[name]) / fast[name]).toBeLessThan(200 * 2 ** -24)
})

describe('memoryBudget', () => {
  let needs: { fast: number; lean: number }
  beforeAll(async () => {
    const trainer = await open({ memoryBudget: 1 })
    const fast = await needOf(trainer.step(batch))
    expect(trainer.steps).toBe(0)
    const leanTrainer = await createTrainer(session, { loss, memory: 'lean', memoryBudget: 1 })
    needs = { fast, lean: await needOf(leanTrainer.step(batch)) }
    await session.release()
  })

  test('is compared with the shapes of the batch; the session goes on after the error', async () => {
    expect(needs.lean).toBeLessThan(needs.fast)
    const trainer = await open({ memoryBudget: needs.fast - 1 })
    const before = await session.run(batch.feeds)
    expect(await needOf(trainer.step(batch))).toBe(needs.fast)
    expect((await session.run(batch.feeds)).y.data).toEqual(before.y.data)
    expect((await trainer.step([makeBatch(8), makeBatch(8)])).step).toBe(1)
  })

  test('makes auto lean when a step does not fit, and rejects what does not fit either', async () => {
    const trainer = await open({ memory: 'auto', memoryBudget: needs.lean })
    await trainer.step(makeBatch(1))
    expect(trainer.memory).toBe('fast')
    const [{ step }, { loss }] = await Promise.all([trainer.step(batch), trainer.evaluate([batch])])
    expect([step, Number.isFinite(loss), trainer.memory]).toEqual([2, true, 'lean'])
    expect(await needOf(trainer.step(makeBatch(17)))).toBeGreaterThan(needs.lean)
    expect(trainer.steps).toBe(2)
  })

  test.each([
    { memory: 'small' as 'fast', option: 'memory' },
    { memoryBudget: 0, option: 'memoryBudget' },
  ])('$option is checked', async ({ option, ...options }) => {
    await expect(open(options)).rejects.toMatchObject({ code: 'INVALID_OPTION', details: { option } })
  })
})
