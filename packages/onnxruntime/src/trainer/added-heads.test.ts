/** Heads that were added to a model (`addHead` of `@fourierft/onnx`) are trained together with the layers before them. */
import {
  Adapter,
  createConfig,
  encodeFloats,
  type Tensor as StoredTensor,
  savedTensor,
} from '@fourierft/core'
import { addHead, headFor, headModules, readModel } from '@fourierft/onnx'
import { Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { createSession } from '../create-session.js'
import { createTrainer, crossEntropy, type TrainingBatch } from '../index.js'
import { gradientErrors } from './__fixtures__/check-whole-gradient.js'
import { smallModel } from './__fixtures__/small-model.js'

const CLASSES = 3
const [BATCH, TOKENS, FEATURES] = [4, 3, 8]

function stored(shape: readonly number[], phase: number): StoredTensor {
  const length = shape.reduce((product, size) => product * size, 1)
  const values = Float32Array.from({ length }, (_, i) => 0.4 * Math.sin(1.7 * i + phase))
  return { dtype: 'F32', shape: [...shape], bytes: encodeFloats(values, 'F32') }
}

test.each([
  ['text-classification', 'bert', 0.001],
  ['text-classification', 'distilbert', 0.001],
  ['text-classification', 'electra', 0.001],
  ['token-classification', 'roberta', 0.001],
  ['image-classification', 'dinov2', 0.01],
] as const)('%s, %s: the gradients equal central differences', async (task, modelType, change) => {
  const model = readModel(smallModel())
  const head = headFor(task, { model_type: modelType }, model.graph.outputs)
  addHead(model, head)
  const savedTensors = new Map<string, StoredTensor>()
  for (const [i, module] of headModules(head).entries()) {
    const isOutput = module === head.output
    const out = isOutput ? CLASSES : FEATURES
    const inFeatures = isOutput && head.pooling === 'first and mean' ? 2 * FEATURES : FEATURES
    savedTensors.set(savedTensor(module, 'weight'), stored([out, inFeatures], i))
    savedTensors.set(savedTensor(module, 'bias'), stored([out], i + 2))
  }
  const session = await createSession(model.toBytes(), { intraOpNumThreads: 1, logSeverityLevel: 3 })
  await session.addAdapter('plain', { targetModules: ['first', 'second'], nFrequency: 30 })
  const { modules } = await session.getAdapter('plain')
  const config = createConfig({
    targetModules: ['first', 'second'],
    modulesToSave: headModules(head),
    nFrequency: 30,
  })
  await session.loadAdapter(new Adapter({ config, modules, savedTensors }), { name: 'mine' })
  const trainer = await createTrainer(session, { adapter: 'mine', loss: crossEntropy('logits') })
  const x = Float32Array.from({ length: BATCH * TOKENS * 12 }, (_, i) => Math.sin(0.7 * i * i))
  const labels = task === 'token-classification' ? [BATCH, TOKENS] : [BATCH]
  const count = labels.reduce((product, size) => product * size, 1)
  const batch: TrainingBatch = {
    feeds: { x: new Tensor('float32', x, [BATCH, TOKENS, 12]) },
    labels: new Tensor(
      'int64',
      BigInt64Array.from({ length: count }, (_, i) => BigInt(i % 2)),
      labels,
    ),
  }
  // The loss, about 1, has an error of 2⁻²³ and changes by 0.001.
  for (const only of [/weight$/, /bias$/, /(first|second)$/])
    for (const error of await gradientErrors(trainer, batch, {
      directions: 1,
      change,
      only: (input) => only.test(input),
    }))
      expect(error, String(only)).toBeLessThan(1e-3)
  session.setAdapter('mine')
  const { logits } = await session.run(batch.feeds)
  expect(logits.dims).toEqual([...labels, CLASSES])
  await session.release()
})
