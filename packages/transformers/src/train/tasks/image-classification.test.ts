import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { RawImage } from '@huggingface/transformers'
import { expect, onTestFinished, test } from 'vitest'
import { classes, contextOf, logits, numbersOf, tokens, value } from '../__fixtures__/context.js'
import { imageClassification } from './image-classification.js'

const VECTORS = fileURLToPath(new URL('../../../test/__fixtures__/vit/vectors.json', import.meta.url))
const { cases }: { cases: { rgb: number[]; pixelValues: number[] }[] } = JSON.parse(
  readFileSync(VECTORS, 'utf8'),
)
const imageOf = ({ rgb }: { rgb: number[] }) => new RawImage(Uint8ClampedArray.from(rgb), 16, 16, 3)
const vit = () =>
  contextOf('vit', {
    pipeline: 'image-classification',
    inputs: [value('pixel_values', ['batch_size', 'num_channels', 'height', 'width'], 'float32')],
    outputs: logits(4),
    labels: classes('a', 'b', 'c', 'd'),
  })

test('pixels are those of PyTorch, of images in all forms', async () => {
  const encoder = imageClassification.encoder(await vit(), [])
  const file = new Blob([await imageOf(cases[1]).toSharp().png().toBuffer()], { type: 'image/png' })
  const folder = mkdtempSync(join(tmpdir(), 'fourierft-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'image.png')
  writeFileSync(path, Buffer.from(await file.arrayBuffer()))
  const url = URL.createObjectURL(file)
  const images = [imageOf(cases[0]), file, path, new URL(url)]
  const examples = await encoder.encode(images.map((image, i) => ({ image, label: i === 3 ? 'd' : i })))
  const { feeds, labels } = await encoder.collate(examples)
  const { dims, data } = numbersOf(feeds.pixel_values)
  expect(dims).toEqual([4, 3, 16, 16])
  const expected = [0, 1, 1, 1].flatMap((i) => cases[i].pixelValues.flat(3))
  expect(data).toEqual(expected.map((pixel) => expect.closeTo(pixel, 5)))
  expect(numbersOf(labels)).toEqual({ type: 'int64', dims: [4], data: [0, 1, 2, 3] })
})

test('images that cannot be read are rejected with the row before the training', async () => {
  const encoder = imageClassification.encoder(await vit(), [])
  const good = { image: imageOf(cases[0]), label: 'a' }
  for (const image of ['/no/such/file.png', new Blob(['text'], { type: 'image/png' })])
    await expect(encoder.encode([good, { image, label: 'a' }])).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      details: { row: 1, option: 'image' },
    })
  await expect(encoder.encode([{ ...good, label: 'e' }])).rejects.toMatchObject({
    details: { row: 0, option: 'label' },
  })
})

test.each([
  [{ label: 'a' }, 'image'],
  [{ image: 3, label: 'a' }, 'image'],
  [{ image: '', label: 'a' }, 'image'],
  [{ image: 'a.png' }, 'label'],
])('%j is rejected', (row, option) => {
  expect(() => imageClassification.check(row, 2)).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION', details: expect.objectContaining({ row: 2, option }) }),
  )
})

test('models with other inputs, and pipelines without a processor, are rejected', async () => {
  const context = await vit()
  const encoder = imageClassification.encoder({ ...context, inputs: tokens('bbox') }, [])
  const examples = await encoder.encode([{ image: imageOf(cases[0]), label: 'a' }])
  await expect(encoder.collate(examples)).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringMatching(/input bbox/),
  })
  expect(() => imageClassification.encoder({ ...context, processor: undefined }, [])).toThrow(
    /no image processor/,
  )
})
