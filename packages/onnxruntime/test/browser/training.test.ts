/** Training in web pages, on the main thread. */
import { createAdapter, createConfig } from '@fourierft/core'
import * as ort from 'onnxruntime-web'
import { expect, test } from 'vitest'
import { SHAPES } from '../../src/__fixtures__/two-layers.js'
import { createSession } from '../../src/create-session.js'
import { createTrainer, meanSquaredError } from '../../src/index.js'
import { smallModel } from '../../src/trainer/__fixtures__/small-model.js'
import { setWasmPaths } from './set-wasm-paths.js'

setWasmPaths()

const STEPS = 20
const sines = (length: number, phase: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(1.3 * i + phase))

async function train(provider: 'wasm' | 'webgpu') {
  const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
  const adapters = { mine: createAdapter(config, SHAPES, { initialSeed: 1 }) }
  const options = { executionProviders: [provider], logSeverityLevel: 3 } as const
  const session = await createSession(smallModel(), { ort, adapters, ...options })
  const trainer = await createTrainer(session, { loss: meanSquaredError('y'), learningRate: 0.02 })
  const batches = [0, 1].map((phase) => ({
    feeds: { x: new ort.Tensor('float32', sines(4 * 3 * 12, phase), [4, 3, 12]) },
    labels: new ort.Tensor('float32', sines(4 * 3 * 8, phase + 2), [4, 3, 8]),
  }))
  // A message that arrives during the training is handled before its end.
  const { port1, port2 } = new MessageChannel()
  let messages = 0
  port1.onmessage = () => {
    messages++
    port2.postMessage(undefined)
  }
  port2.postMessage(undefined)
  const { steps } = await trainer.fit(batches, { epochs: STEPS / 2 })
  port1.close()
  await session.release()
  await expect(trainer.step(batches)).rejects.toMatchObject({ code: 'INVALID_STATE' })
  return { losses: steps.map(({ loss }) => loss), messages }
}

test('20 steps on wasm and on WebGPU give the same losses, and the page handles messages between them', async () => {
  const wasm = await train('wasm')
  expect(wasm.losses).toHaveLength(STEPS)
  expect(wasm.losses.at(-1)).toBeLessThan(0.8 * wasm.losses[0])
  expect(wasm.messages).toBeGreaterThanOrEqual(STEPS)
  const webgpu = await train('webgpu')
  // Sums of at most 100 products, rounded to float32, in a trajectory of 20 steps.
  for (const [i, loss] of webgpu.losses.entries())
    expect(Math.abs(loss - wasm.losses[i])).toBeLessThan(1e-4 * wasm.losses[i])
})

test('a checkpoint in a file is rejected', async () => {
  const session = await createSession(smallModel(), { ort })
  await session.addAdapter('mine', { targetModules: ['first'], nFrequency: 4 })
  const trainer = await createTrainer(session, { loss: meanSquaredError('y') })
  const batches = [{ feeds: {} }]
  for (const resume of [true, false])
    await expect(trainer.fit(batches, { checkpoint: { path: 'a', resume } })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    })
  await session.release()
})
