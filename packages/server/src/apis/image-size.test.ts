/** Sizes against files that sharp writes, cut off at every byte. */
import { createRequire } from 'node:module'
import { expect, test } from 'vitest'
import { imageSize } from './image-size.js'

// The library that transformers.js decodes images with.
const require = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'))
const sharp = require('sharp')

const formats = ['png', 'gif', 'jpeg', 'webp'] as const
const write = (format: string, options: object = {}): Promise<Buffer> =>
  sharp({ create: { width: 37, height: 21, channels: 4, background: '#4080c0' } })
    .toFormat(format, options)
    .toBuffer()

test.each([
  ...formats.map((format) => [format, {}] as const),
  ['jpeg', { progressive: true }] as const,
  ['webp', { lossless: true }] as const,
])('%s %j', async (format, options) => {
  const bytes = await write(format, options)
  expect(imageSize(bytes)).toEqual({ width: 37, height: 21 })
  for (let length = 0; length < bytes.length; length++) {
    const size = imageSize(bytes.subarray(0, length))
    if (size !== undefined) expect(size).toEqual({ width: 37, height: 21 })
  }
})

test('other bytes have no size', () => {
  for (const text of ['', 'GIF', 'hello world', '<svg width="1"/>'])
    expect(imageSize(Buffer.from(text))).toBeUndefined()
})
