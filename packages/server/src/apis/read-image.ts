/** Images in requests: base64 or a data URL. Addresses are never fetched, because they could be those of the server's own network. */
import { Buffer } from 'node:buffer'
import { RawImage } from '@huggingface/transformers'
import { invalid } from './check.js'
import { imageSize } from './image-size.js'

/** A photo of a current camera. Decoded it takes 64 MB. */
const MOST_PIXELS = 4096 * 4096
const DATA_URL = /^data:image\/[a-z0-9.+-]{1,40};base64,/i
const BASE64 = /^[A-Za-z0-9+/_-]+={0,2}$/

/** @throws {ServerError} `invalid_value` if the text is not an image, or has more than 16 million pixels */
export async function readImage(text: string, param: string): Promise<RawImage> {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
    throw invalid(param, 'addresses are not fetched; send the image itself, as base64 or as a data URL')
  }
  const base64 = text.replace(DATA_URL, '')
  if (!BASE64.test(base64)) throw invalid(param, 'expected an image as base64 or as a data URL')
  const bytes = Buffer.from(base64, 'base64')
  const size = imageSize(bytes)
  if (size === undefined) throw invalid(param, 'expected a PNG, JPEG, GIF or WebP image')
  if (size.width * size.height > MOST_PIXELS) {
    throw invalid(
      param,
      `expected at most ${MOST_PIXELS} pixels, but the image has ${size.width} × ${size.height}`,
    )
  }
  try {
    return await RawImage.fromBlob(new Blob([bytes]))
  } catch {
    throw invalid(param, 'the image is damaged')
  }
}
