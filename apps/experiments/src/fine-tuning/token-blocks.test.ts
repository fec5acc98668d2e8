/** The blocks of tokens are those of `train`, in its order. */

import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { crossEntropy, LOGITS, readModel } from '@fourierft/onnx'
import { attach, evaluate, train } from '@fourierft/transformers'
import { env, LogLevel, pipeline } from '@huggingface/transformers'
import { expect, test } from 'vitest'
import { GraphTrainer } from './graph-trainer.js'
import { attachLora } from './lora-graph.js'
import { TokenBlocks } from './token-blocks.js'

const FIXTURES = fileURLToPath(
  new URL('../../../../packages/transformers/test/__fixtures__', import.meta.url),
)
const WORDS = 'the rain was long she reads a letter at the window two children'.split(' ')
/** 23 blocks of 8 tokens, the last one shorter: 4 groups of batches of 2, and a part of one. */
const texts = Array.from({ length: 20 }, (_, row) => ({
  text: Array.from({ length: 6 }, (_, i) => WORDS[(5 * row + 3 * i * i) % WORDS.length]).join(' '),
}))

test('each batch has the loss that it has in `train`', async () => {
  env.localModelPath = FIXTURES
  env.allowRemoteModels = false
  env.logLevel = LogLevel.ERROR
  const generate = await pipeline('text-generation', 'gpt2', { dtype: 'fp32' })
  const adapters = await attach(generate)
  const [maxLength, batchSize, epochs, seed] = [8, 2, 2, 3]
  const options = { packing: true, maxLength, batchSize }
  await adapters.addAdapter('a', { nFrequency: 4 })
  const report = await train(adapters, texts, { ...options, epochs, seed, learningRate: 1e-9 })
  const evaluation = await evaluate(adapters, texts, options)

  const bytes = await readFile(`${FIXTURES}/gpt2/onnx/model.onnx`)
  const model = readModel(bytes)
  const blocks = new TokenBlocks(texts, { tokenizer: generate.tokenizer, model, maxLength, batchSize })
  const zeros = (name: string, dims: readonly [number, number]) => ({
    name,
    dims,
    values: new Float32Array(dims[0] * dims[1]),
    learningRate: 0,
  })
  const layers = attachLora(model, { targetModules: ['c_attn'], rank: 1, alpha: 1 })
  const inputs = layers.flatMap(({ down, up, inFeatures, outFeatures }) => [
    zeros(down, [inFeatures, 1]),
    zeros(up, [1, outFeatures]),
  ])
  const trainer = await GraphTrainer.open(model.toBytes(), { loss: crossEntropy(LOGITS), inputs })
  const losses: number[] = []
  for (let epoch = 0; epoch < epochs; epoch++)
    for (const batch of blocks.read(seed + epoch)) losses.push(await trainer.step(batch))
  expect(losses.length).toBe(epochs * blocks.length)
  expect(new Set(losses).size).toBeGreaterThan(blocks.length)
  expect(report.steps.length).toBe(losses.length)
  // Both sum the losses of at most 14 tokens, each below 16, in float32.
  for (const [i, { loss }] of report.steps.entries())
    expect(Math.abs(loss - losses[i])).toBeLessThan(2 ** -17)
  expect((await trainer.evaluate(blocks.read())).loss).toBeCloseTo(evaluation.loss, 5)
  await trainer.release()
  await generate.dispose()
})
