/** The trainer on a real exported model: it learns labels, and the session serves what was learnt. */
import { readFileSync } from 'node:fs'
import { Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { createSession } from '../create-session.js'
import { createTrainer, crossEntropy, type TrainingBatch } from '../index.js'

const model = new Uint8Array(readFileSync(new URL('../../../onnx/src/__fixtures__/bert-batch.onnx', import.meta.url)))

/** 16 sentences of 5 tokens; the label is the third token's parity. */
function batch(): TrainingBatch & { readonly classes: readonly number[] } {
  const ids = Array.from({ length: 80 }, (_, i) => (i * 7 + (i % 11) * 3) % 30)
  const classes = Array.from({ length: 16 }, (_, row) => ids[row * 5 + 2] % 2)
  return {
    feeds: { x: new Tensor('int64', BigInt64Array.from(ids, BigInt), [16, 5]) },
    labels: new Tensor('int64', BigInt64Array.from(classes, BigInt), [16]),
    classes,
  }
}

test.each([true, false])('steps lower the loss, and the session gives the trained outputs (native: %s)', async (native) => {
  const session = await createSession(model, { native, intraOpNumThreads: 1, logSeverityLevel: 3 })
  const { classes, ...data } = batch()
  await session.addAdapter('mine', { targetModules: ['query', 'value', 'dense'], nFrequency: 60 })
  const before = (await session.run(data.feeds)).y
  const trainer = await createTrainer(session, { loss: crossEntropy('y') })
  const losses: number[] = []
  for (let i = 0; i < 30; i++) losses.push((await trainer.step(data)).loss)
  console.log(before?.dims, losses[0], losses.at(-1))
  expect(losses.at(-1)).toBeLessThan(losses[0] / 4)
  const { y } = await session.run(data.feeds)
  const width = y.dims[1]
  const predicted = classes.map((_, row) => {
    const logits = Array.from(y.data.slice(row * width, (row + 1) * width) as Float32Array)
    return logits.indexOf(Math.max(...logits))
  })
  expect(predicted).toEqual(classes)
  await trainer.release()
  await session.release()
})
