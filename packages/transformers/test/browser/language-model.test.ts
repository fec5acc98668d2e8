/** A language model in 4 bits is adapted in the page; the adapter serves in 4 and in 32 bits. */
import { pipeline } from '@huggingface/transformers'
import { beforeAll, expect, test } from 'vitest'
import { attach } from '../../src/attach.js'
import { evaluate } from '../../src/train/evaluate.js'
import { train } from '../../src/train/train.js'
import { useFixtures } from './fixtures.js'

beforeAll(useFixtures)

const WORDS = 'the rain was long she reads a letter at the window two children'.split(' ')
const rows = [1, 2, 5].map((step) => ({
  text: Array.from({ length: 40 }, (_, i) => WORDS[(step * i) % WORDS.length]).join(' '),
}))
const layers = { targetModules: ['q_proj', 'v_proj', 'up_proj'], nFrequency: 50 }
const packing = { packing: true, maxLength: 16 }

test('trains on q4, and lowers the perplexity in q4 and fp32', async () => {
  const open = async (dtype: 'q4' | 'fp32') => {
    const generate = await pipeline('text-generation', 'llama', { dtype, device: 'wasm' })
    const adapters = await attach(generate)
    await adapters.addAdapter('new', layers)
    const { loss } = await evaluate(adapters, rows, { ...packing, adapter: 'new' })
    await adapters.deleteAdapter('new')
    return { generate, adapters, loss }
  }
  const [q4, fp32] = [await open('q4'), await open('fp32')]
  await q4.adapters.addAdapter('trained', layers)
  await train(q4.adapters, rows, { ...packing, epochs: 8, batchSize: 4 })
  await fp32.adapters.loadAdapter(await q4.adapters.getAdapter('trained'), { name: 'trained' })
  for (const { generate, adapters, loss } of [q4, fp32]) {
    expect((await evaluate(adapters, rows, packing)).loss).toBeLessThan(0.98 * loss)
    const answer = async () => {
      const [{ generated_text: text }] = (await generate('the rain was', {
        max_new_tokens: 12,
        do_sample: false,
      })) as [{ generated_text: string }]
      return text
    }
    const adapted = await answer()
    adapters.disableAdapters()
    expect(await answer()).not.toBe(adapted)
    await generate.dispose()
  }
})
