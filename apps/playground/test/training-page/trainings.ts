/** Trainings in ONNX Runtime Web, which the tests start: the digits transformer and the sentence encoder, on WebAssembly or WebGPU. */
import { uniformEntries } from '@fourierft/core'
import { createSession, createTrainer, crossEntropy, type StepReport } from '@fourierft/onnxruntime'
import {
  fourierSettings,
  imageSize,
  onnxLogits,
  onnxTransformer,
  pick,
  score,
  targetModules,
} from '@fourierft/quickstart/browser'
import { attach, train } from '@fourierft/transformers'
import { pipeline } from '@huggingface/transformers'
import * as ort from 'onnxruntime-web/webgpu'
import type { Example } from '../../src/classifier/examples.js'
import { fetchData } from '../../src/fetch-data.js'
import { MODEL, useLocalModel } from '../../src/local-model.js'

export type Device = 'wasm' | 'webgpu'

export interface Trajectory {
  readonly steps: readonly StepReport[]
  /** The magnitude of the largest logit after the training. */
  readonly largestLogit: number
}

const largest = (values: Float32Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)

export const trainings = {
  /** Trains on the batches and with the rates of the digits page, which uses TensorFlow.js. */
  async digits(
    device: Device,
    { count, batchSize, testCount }: { count: number; batchSize: number; testCount: number },
  ): Promise<Trajectory & { readonly accuracy: number }> {
    const { checkpoint, adaptation, test } = await fetchData()
    const session = await createSession(onnxTransformer(checkpoint).toBytes(), {
      ort,
      executionProviders: [device],
    })
    const { nFrequency, scaling, learningRate } = fourierSettings
    await session.addAdapter('mine', { targetModules, nFrequency, scaling, randomLocSeed: 1 })
    const trainer = await createTrainer(session, {
      loss: crossEntropy('logits'),
      learningRate,
      weightDecay: 0,
    })
    const order = uniformEntries({
      shape: [1, adaptation.count],
      n: adaptation.count,
      seed: 1000,
    }).columns
    const steps: StepReport[] = []
    for (let step = 0; step < count; step++) {
      const digits = pick(adaptation, order.subarray(step * batchSize, (step + 1) * batchSize))
      const images = digits.pixels.map((value) => 2 * value - 1)
      const batch = {
        feeds: { pixel_values: new ort.Tensor('float32', images, [digits.count, 1, imageSize, imageSize]) },
        labels: new ort.Tensor('int64', BigInt64Array.from(digits.labels, BigInt), [digits.count]),
      }
      steps.push(await trainer.step(batch, 1 - step / count))
    }
    const tested = pick(
      test,
      Array.from({ length: testCount }, (_, i) => i),
    )
    const logits = await onnxLogits(session, ort.Tensor, tested, 50)
    await session.release()
    return { steps, largestLogit: largest(logits), accuracy: score(logits, tested.labels).accuracy }
  },

  /** Trains on all examples in each step. */
  async encoder(device: Device, count: number, examples: readonly Example[]): Promise<Trajectory> {
    await useLocalModel(document.baseURI)
    const classify = await pipeline('text-classification', MODEL, { dtype: 'fp32', device })
    const adapters = await attach(classify)
    await adapters.addAdapter('mine', { targetModules: ['query', 'value'], nFrequency: 1000 })
    const { steps } = await train(adapters, examples, { epochs: count, batchSize: examples.length })
    const texts = examples.map(({ text }) => text)
    const { logits } = await classify.model(classify.tokenizer(texts, { padding: true }))
    await classify.dispose()
    return { steps, largestLogit: largest(logits.data) }
  },
}

declare global {
  interface Window {
    trainings: typeof trainings
  }
}

window.trainings = trainings
