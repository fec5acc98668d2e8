/** What an export with float16 activations learns also lowers the loss of the same model in float32, as much as training in float32 does. */
import { readFileSync } from 'node:fs'
import { Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import type { AdaptedSession } from '../adapted-session.js'
import { createSession } from '../create-session.js'
import { createTrainer, crossEntropy } from '../index.js'

const STEPS = 30
const ROWS = 2
const TOKENS = 8
const loss = crossEntropy('y')

/** The error of an output, relative to the largest: see `half.test.ts`. */
const OUTPUT_LIMIT = 2 * 2 * 10 * 2 ** -11

/** A batch of the model's size, with classes as labels. */
async function batchOf(session: AdaptedSession) {
  const feeds = Object.fromEntries(
    session.inputMetadata.map((input) => {
      const shape = input.isTensor ? input.shape : []
      const dims = shape.map((size, i) => (typeof size === 'number' ? size : [ROWS, TOKENS][i]))
      const length = dims.reduce((product, size) => product * size, 1)
      const value = (i: number) => (input.name === 'mask' ? 1 : (3 * i) % 20)
      return [
        input.name,
        new Tensor(
          'int64',
          BigInt64Array.from({ length }, (_, i) => BigInt(value(i))),
          dims,
        ),
      ]
    }),
  )
  const { dims } = (await session.run(feeds)).y
  const classes = dims[dims.length - 1]
  const labels = BigInt64Array.from(
    { length: dims.slice(0, -1).reduce((product, size) => product * size, 1) },
    (_, i) => BigInt((7 * i) % classes),
  )
  return { feeds, labels: new Tensor('int64', labels, dims.slice(0, -1)) }
}

async function train(name: string, targetModules: readonly string[], native: boolean) {
  const url = new URL(`../../../onnx/src/__fixtures__/${name}.onnx`, import.meta.url)
  const model = new Uint8Array(readFileSync(url))
  const session = await createSession(model, { native, intraOpNumThreads: 1, logSeverityLevel: 3 })
  await session.addAdapter('mine', { targetModules, nFrequency: 60 })
  const trainer = await createTrainer(session, { loss, learningRate: 0.2 })
  const batch = await batchOf(session)
  const { loss: before } = await trainer.evaluate([batch])
  for (let i = 0; i < STEPS; i++) await trainer.step(batch)
  return {
    session,
    batch,
    before,
    after: (await trainer.evaluate([batch])).loss,
    lossScale: trainer.saveState().lossScale,
  }
}

test.each([
  ['bert-half', 'bert-plain', ['query', 'value'], true],
  ['bert-half', 'bert-plain', ['query', 'value'], false],
  ['llama-q4f16', 'llama-q4', ['q_proj', 'v_proj'], true],
  ['llama-q4f16', 'llama-q4', ['q_proj', 'v_proj'], false],
])('%s is trained like %s (layers %j, native: %s)', async (halfName, name, targets, native) => {
  const half = await train(halfName, targets, native)
  const float32 = await train(name, targets, native)
  expect([half.lossScale?.steps, float32.lossScale]).toEqual([STEPS, undefined])
  await float32.session.loadAdapter(await half.session.getAdapter('mine'), { name: 'half' })
  const trainer = await createTrainer(float32.session, { adapter: 'half', loss })
  const { loss: transferred } = await trainer.evaluate([float32.batch])
  float32.session.setAdapter('half')
  const logits = (await float32.session.run(float32.batch.feeds)).y.data as Float32Array
  // The absolute derivatives of a label's cross-entropy, by its logits, sum up to at most 2.
  const limit = 2 * OUTPUT_LIMIT * Math.max(...logits.map(Math.abs))
  expect(Math.abs(transferred - half.after)).toBeLessThan(limit)
  expect(float32.before - float32.after).toBeGreaterThan(2 * limit)
  expect(transferred - float32.after).toBeLessThan(limit)
  await half.session.release()
  await float32.session.release()
})
