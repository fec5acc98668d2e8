/** Adapters with heads (`modulesToSave`): weights and biases are trained, saved and served, also if the head has other labels than the model. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Adapter, createConfig, encodeFloats, type Tensor as StoredTensor } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { afterEach, describe, expect, test } from 'vitest'
import type { AdaptedSession } from '../adapted-session.js'
import { createSession } from '../create-session.js'
import { createTrainer, crossEntropy, type TrainingBatch } from '../index.js'
import { gradientErrors } from './__fixtures__/check-whole-gradient.js'

const fixture = new URL('../../../onnx/src/__fixtures__/bert-batch.onnx', import.meta.url)
const model = new Uint8Array(readFileSync(fixture))
const options = { intraOpNumThreads: 1, logSeverityLevel: 3 } as const
const config = {
  targetModules: ['dense'],
  modulesToSave: ['classifier'],
  nFrequency: 40,
  initWeights: false,
}
const loss = crossEntropy('y')

function makeBatch(classes: number): TrainingBatch & { readonly ids: Tensor } {
  const ids = BigInt64Array.from({ length: 30 }, (_, i) => BigInt((7 * i + (i % 11) * 3) % 30))
  const labels = BigInt64Array.from({ length: 6 }, (_, i) => BigInt(i % classes))
  const x = new Tensor('int64', ids, [6, 5])
  return { feeds: { x }, labels: new Tensor('int64', labels, [6]), ids: x }
}

const open: { release(): Promise<void> }[] = []
async function opened<T extends { release(): Promise<void> }>(one: Promise<T>): Promise<T> {
  open.push(await one)
  return one
}
afterEach(async () => {
  for (const one of open.splice(0)) await one.release().catch(() => undefined)
})

const stored = (shape: readonly number[]): StoredTensor => {
  const length = shape.reduce((product, size) => product * size, 1)
  const values = Float32Array.from({ length }, (_, i) => 0.3 * Math.sin(1.7 * i))
  return { dtype: 'F16', shape: [...shape], bytes: encodeFloats(values, 'F16') }
}

/** Gives the adapter a head with 5 labels, in half precision as PEFT writes it for models in half precision. */
async function resized(session: AdaptedSession): Promise<Adapter> {
  const { config, modules, savedTensors } = await session.getAdapter('mine')
  const shapes = Array.from(savedTensors, ([name, { shape }]) => [name, [5, ...shape.slice(1)]] as const)
  return new Adapter({
    config,
    modules,
    savedTensors: new Map(shapes.map(([name, shape]) => [name, stored(shape)])),
  })
}

describe.each([
  ['a head of the model’s size', 2],
  ['a head with more labels than the model', 5],
])('%s', (_, classes) => {
  async function start() {
    const session = await opened(createSession(model, options))
    await session.addAdapter('mine', config)
    if (classes !== 2) {
      const adapter = await resized(session)
      session.deleteAdapter('mine')
      await session.loadAdapter(adapter.toBytes(), { name: 'mine' })
    }
    const trainer = await opened(createTrainer(session, { adapter: 'mine', loss, headLearningRate: 0.02 }))
    return { session, trainer }
  }

  test('has gradients that equal central differences', async () => {
    const { trainer } = await start()
    const kinds = {
      coefficients: (input: string) => !/\.(weight|bias)$/.test(input),
      weight: (input: string) => input.endsWith('.weight'),
      bias: (input: string) => input.endsWith('.bias'),
    }
    // The loss, about 1, has an error of 2⁻²³ and changes by 0.001.
    for (const [kind, only] of Object.entries(kinds))
      for (const error of await gradientErrors(trainer, makeBatch(classes), { directions: 2, only }))
        expect(error, kind).toBeLessThan(1e-3)
  })

  test('is trained, saved and served, and rejects labels that it does not have', async () => {
    const { session, trainer } = await start()
    const batch = makeBatch(classes)
    const before = (await session.getAdapter('mine')).savedTensors
    const losses: number[] = []
    for (let i = 0; i < 30; i++) losses.push((await trainer.step(batch)).loss)
    expect(losses.at(-1)).toBeLessThan(losses[0] / 1.05)
    const { savedTensors } = await session.getAdapter('mine')
    expect(savedTensors.size).toBe(2)
    for (const [name, { dtype, shape, bytes }] of savedTensors) {
      expect(dtype).toBe('F32')
      expect(shape).toEqual(before.get(name)?.shape)
      expect(bytes).not.toEqual(before.get(name)?.bytes)
    }
    const labels = new Tensor('int64', new BigInt64Array(6).fill(BigInt(classes)), [6])
    await expect(trainer.step({ feeds: batch.feeds, labels })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining(`expected a class in [0, ${classes})`),
    })
    const served = await session.run(batch.feeds)
    expect(served.y.dims).toEqual([6, classes])
    const folder = mkdtempSync(join(tmpdir(), 'fourierft-heads-'))
    await session.savePretrained(folder, { name: 'mine' })
    const other = await opened(createSession(model, { ...options, adapters: folder }))
    rmSync(folder, { recursive: true })
    expect((await other.run(batch.feeds)).y.data).toEqual(served.y.data)
  })
})

test('an adapter that consists of a head only is trained with the rate of heads', async () => {
  const session = await opened(createSession(model, options))
  await session.addAdapter('both', config)
  const { modules, savedTensors } = await session.getAdapter('both')
  expect(modules.size).toBeGreaterThan(0)
  const only = createConfig({ nFrequency: 4, targetModules: ['query'], modulesToSave: ['classifier'] })
  await session.loadAdapter(new Adapter({ config: only, modules: new Map(), savedTensors }), { name: 'head' })
  const trainer = await opened(createTrainer(session, { adapter: 'head', loss, headLearningRate: 1e-2 }))
  const batch = makeBatch(2)
  session.setAdapter('head')
  const first = await trainer.step(batch)
  const second = await trainer.step(batch)
  expect(second.loss).toBeLessThan(first.loss)
})
