/** The methods on a small LLaMA with random weights. */
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { LanguageComparison, type LanguageMethod } from './language-methods.js'

const LLAMA = fileURLToPath(
  new URL('../../../../packages/transformers/test/__fixtures__/llama', import.meta.url),
)
const WORDS = 'the rain was long she reads a letter at the window two children'.split(' ')
const chapter = (step: number) => ({
  text: Array.from({ length: 40 }, (_, i) => WORDS[(step * i) % WORDS.length]).join(' '),
})
const parts = { training: [chapter(1), chapter(2)], validation: [chapter(2)], test: [chapter(1)] }
const training = { epochs: 4, batchSize: 2, maxLength: 16 }

test('each method starts with the model, learns, and leaves the files as they are', async () => {
  const comparison = await LanguageComparison.open(LLAMA, training)
  const before = await comparison.hashes()
  const perplexity = async (method: LanguageMethod) =>
    (await comparison.run(method, parts, 1)).perplexity.test
  const [fp32, q4] = [
    await perplexity({ kind: 'base', dtype: 'fp32' }),
    await perplexity({ kind: 'base', dtype: 'q4' }),
  ]
  expect(fp32).not.toBe(q4)
  const methods = (rate: (size: number) => number): readonly (readonly [LanguageMethod, number])[] => [
    [{ kind: 'FourierFT', dtype: 'q4', n: 20, learningRate: rate(0.05) }, q4],
    [{ kind: 'LoRA', dtype: 'q4', rank: 2, learningRate: rate(0.005) }, q4],
    [{ kind: 'LoRA', dtype: 'fp32', rank: 2, learningRate: rate(0.005) }, fp32],
    [{ kind: 'head only', learningRate: rate(0.005) }, fp32],
    [{ kind: 'full', learningRate: rate(0.005) }, fp32],
  ]
  // Rates of 10⁻⁶ times those: a mean of float32 losses below 16 has an error below 2⁻¹⁷.
  for (const [method, base] of methods((size) => 1e-6 * size))
    expect(Math.abs(Math.log((await perplexity(method)) / base)), method.kind).toBeLessThan(2 ** -17)
  for (const [method, base] of methods((size) => size))
    expect(await perplexity(method), method.kind).toBeLessThan(0.99 * base)
  expect(await comparison.hashes()).toEqual(before)
  await comparison.release()
})
