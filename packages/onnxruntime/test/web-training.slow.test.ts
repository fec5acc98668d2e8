/** Training in onnxruntime-web's wasm, in Node, compared with the native kernel. */
import { createAdapter, createConfig } from '@fourierft/core'
import * as node from 'onnxruntime-node'
import * as web from 'onnxruntime-web'
import { expect, test } from 'vitest'
import { SHAPES } from '../src/__fixtures__/two-layers.js'
import { createSession } from '../src/create-session.js'
import { createTrainer, meanSquaredError } from '../src/index.js'
import type { Ort } from '../src/ort.js'
import { smallModel } from '../src/trainer/__fixtures__/small-model.js'

web.env.wasm.numThreads = 1
const STEPS = 20

const sines = (length: number, phase: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(1.3 * i + phase))

/** Trains while the session serves other calls, and counts the turns of the event loop. */
async function train(ort: Ort) {
  const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
  const adapters = { mine: createAdapter(config, SHAPES, { initialSeed: 1 }) }
  const session = await createSession(smallModel(), { ort, adapters })
  const trainer = await createTrainer(session, { loss: meanSquaredError('y'), learningRate: 0.02 })
  const batches = [0, 1].map((phase) => ({
    feeds: { x: new ort.Tensor('float32', sines(4 * 3 * 12, phase), [4, 3, 12]) },
    labels: new ort.Tensor('float32', sines(4 * 3 * 8, phase + 2), [4, 3, 8]),
  }))
  let turns = 0
  const timer = () => {
    turns++
    pending = setImmediate(timer)
  }
  let pending = setImmediate(timer)
  const [report, served] = await Promise.all([
    trainer.fit(batches, { epochs: STEPS / 2 }),
    session.run(batches[0].feeds),
  ])
  clearImmediate(pending)
  const adapter = await session.getAdapter('mine')
  await session.release()
  await expect(trainer.step(batches)).rejects.toMatchObject({ code: 'INVALID_STATE' })
  return { losses: report.steps.map(({ loss }) => loss), bytes: adapter.toBytes().model, served, turns }
}

test('wasm: 20 steps give the losses of the native kernel, and other events are handled between them', async () => {
  const expected = await train(node)
  const received = await train(web)
  expect(received.losses).toHaveLength(STEPS)
  expect(received.losses.at(-1)).toBeLessThan(0.8 * received.losses[0])
  // Sums of at most 100 products, rounded to float32, in a trajectory of 20 steps.
  for (const [i, loss] of received.losses.entries())
    expect(Math.abs(loss - expected.losses[i])).toBeLessThan(1e-4 * expected.losses[i])
  expect(received.turns).toBeGreaterThanOrEqual(STEPS)
  expect(received.served.y.dims).toEqual([4, 3, 8])
  // The same machine gives the same bits again.
  expect((await train(web)).bytes).toEqual(received.bytes)
})
