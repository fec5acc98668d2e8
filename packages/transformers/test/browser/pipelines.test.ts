/**
 * Pipelines with adapters in a browser, on wasm and on WebGPU: with transformers.js in a bundle, and (project `browser-cdn`) with the file that
 * CDNs serve, which contains ONNX Runtime.
 */
import { pipeline } from '@huggingface/transformers'
import { beforeAll, describe, expect, test } from 'vitest'
import { attach } from '../../src/attach.js'
import { fixture, useFixtures, type Vectors, vectorsOf } from './fixtures.js'

beforeAll(useFixtures)

/** Returns the scores that a pipeline computes from logits. */
function softmax(logits: number[]): number[] {
  const largest = Math.max(...logits)
  const powers = logits.map((logit) => Math.exp(logit - largest))
  const sum = powers.reduce((a, b) => a + b)
  return powers.map((power) => power / sum)
}

describe.each(['wasm', 'webgpu'] as const)('%s', (device) => {
  test('an encoder agrees with PyTorch and PEFT, and detach restores it', async () => {
    const { cases } = await vectorsOf('bert')
    const classify = await pipeline('text-classification', 'bert', { dtype: 'fp32', device })
    const labels = ['bad', 'neutral', 'good']
    const scores = async (text: string) => {
      const answer = (await classify(text, { top_k: 3 })) as { label: string; score: number }[]
      return labels.map((label) => answer.find((result) => result.label === label)?.score as number)
    }
    const expectScores = async (which: 'base' | 'adapter-b') => {
      for (const { text, [which]: outputs } of cases) {
        const received = await scores(text)
        // 1e-5 of a score: logits of two layers with some hundred additions of 2⁻²⁴ each.
        for (const [i, score] of softmax(outputs.logits).entries()) expect(received[i]).toBeCloseTo(score, 5)
      }
    }
    const text = cases[0]?.text
    const original = await scores(text)
    await expectScores('base')
    const adapters = await attach(classify)
    await adapters.loadAdapter(fixture('bert/adapter-b'), { name: 'b' })
    await expectScores('adapter-b')
    const adapted = await scores(text)
    const calls = [true, false, true, false, true, false].map((active) => {
      adapters.setAdapter(active ? 'b' : [])
      return scores(text)
    })
    for (const [i, answer] of (await Promise.all(calls)).entries())
      expect(answer).toEqual(i % 2 ? original : adapted)
    adapters.enableAdapters()
    await adapters.detach()
    expect(await scores(text)).toEqual(original)
    await classify.dispose()
  })

  test('a decoder with its cache generates the same 64 tokens as PyTorch and PEFT', async () => {
    const { cases } = await vectorsOf('llama')
    const generate = await pipeline('text-generation', 'llama', { dtype: 'fp32', device })
    const adapters = await attach(generate)
    await adapters.loadAdapter(fixture('llama/adapter-b'), { name: 'adapter-b' })
    const [{ text, ...expected }] = cases as [Vectors['cases'][0]]
    const tokensOf = async () => {
      const inputs = generate.tokenizer(text)
      const length = inputs.input_ids.dims[1]
      const generated = await generate.model.generate({ ...inputs, max_new_tokens: 64, do_sample: false })
      return Array.from((generated as { data: BigInt64Array }).data.slice(length), Number)
    }
    const adapted = tokensOf()
    // The running call keeps its adapter.
    adapters.disableAdapters()
    expect(await adapted).toEqual(expected['adapter-b'].tokens)
    expect(await tokensOf()).toEqual(expected.base.tokens)
    await generate.dispose()
  })
})
