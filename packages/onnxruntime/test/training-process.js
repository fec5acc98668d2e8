/**
 * Trains in a process that a test ends: node training-process.js MODEL CHECKPOINT RESULT EPOCHS. It resumes from the checkpoint if there is one,
 * prints a line after each step, and writes the trained adapter to RESULT at the end. If `fit` fails, it prints the code of the error.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { createSession, createTrainer, crossEntropy } from '@fourierft/onnxruntime'
import { Tensor } from 'onnxruntime-node'

const [model, path, result, epochs] = process.argv.slice(2)
const session = await createSession(new Uint8Array(readFileSync(model)), {
  intraOpNumThreads: 1,
  logSeverityLevel: 3,
})
await session.addAdapter('mine', {
  targetModules: ['query', 'dense'],
  modulesToSave: ['classifier'],
  nFrequency: 60,
})
const trainer = await createTrainer(session, { adapter: 'mine', loss: crossEntropy('y') })
const batches = Array.from({ length: 5 }, (_, seed) => {
  const ids = BigInt64Array.from({ length: 20 }, (_, i) =>
    BigInt(((i + 20 * seed) * 7 + ((i + seed) % 11) * 3) % 30),
  )
  const labels = BigInt64Array.from({ length: 4 }, (_, row) => ids[row * 5 + 2] % 2n)
  return { feeds: { x: new Tensor('int64', ids, [4, 5]) }, labels: new Tensor('int64', labels, [4]) }
})
try {
  await trainer.fit(batches, {
    epochs: Number(epochs),
    evaluation: batches.slice(0, 2),
    patience: 1000,
    checkpoint: { path, everySteps: 1, resume: true },
    callbacks: { onBatchEnd: (step) => console.log(`step ${step}`) },
  })
} catch (error) {
  console.log(error.code)
}
writeFileSync(result, (await session.getAdapter('mine')).toBytes().model)
await session.release()
