/** A vision transformer in an image-classification pipeline, from pixels to labels, compared with PyTorch and PEFT. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { env, pipeline, RawImage } from '@huggingface/transformers'
import { expect, test } from 'vitest'
import { attach } from '../src/attach.js'

const FIXTURES = fileURLToPath(new URL('__fixtures__', import.meta.url))
const ADAPTERS = ['adapter-a', 'adapter-b'] as const

test('labels images with one adapter, or with one adapter for each image', async () => {
  env.localModelPath = FIXTURES
  env.allowRemoteModels = false
  const classify = await pipeline('image-classification', 'vit', { dtype: 'fp32' })
  const adapters = await attach(classify)
  for (const adapter of ADAPTERS)
    await adapters.loadAdapter(join(FIXTURES, 'vit', adapter), { name: adapter })
  const { cases } = JSON.parse(readFileSync(join(FIXTURES, 'vit/vectors.json'), 'utf8'))
  const { id2label } = classify.model.config as unknown as { id2label: Record<number, string> }
  const expected = (logits: number[]) => {
    const powers = logits.map(Math.exp)
    const sum = powers.reduce((a, b) => a + b)
    return powers
      .map((power, i) => ({ label: id2label[i], score: expect.closeTo(power / sum, 5), power }))
      .sort((a, b) => b.power - a.power)
      .map(({ label, score }) => ({ label, score }))
  }
  for (const { rgb, ...outputs } of cases) {
    const image = new RawImage(Uint8ClampedArray.from(rgb), 16, 16, 3)
    const labelsOf = (images: RawImage | RawImage[]) => classify(images, { top_k: 4 })
    for (const which of ['base', ...ADAPTERS]) {
      adapters.setAdapter(which === 'base' ? [] : which)
      expect(await labelsOf(image)).toEqual(expected(outputs[which].logits))
    }
    const rows = ['adapter-b', null, 'adapter-a']
    const mixed = await adapters.withAdapterPerRow(rows, () => labelsOf([image, image, image]))
    expect(mixed).toEqual(rows.map((which) => expected(outputs[which ?? 'base'].logits)))
  }
  await classify.dispose()
})
