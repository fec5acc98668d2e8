/** Images in requests: base64 or a data URL. Addresses are never fetched, because they could be those of the server's own network. */
import { Buffer } from 'node:buffer'
import { RawImage } from '@huggingface/transformers'
import { invalid } from './check.js'
import { decoded } from './decode-images.js'
import { imageSize } from './image-size.js'

/** Models read a small part of that: 224 × 224 pixels in most, 1024 × 1024 in some. Decoded it takes 16 MB. */
const MOST_PIXELS = 2 ** 22
const DATA_URL = /^data:image\/[a-z0-9.+-]{1,40};base64,/i
const BASE64 = /^[A-Za-z0-9+/_-]+={0,2}$/

/** An image whose size is known, and which has not been decoded yet. */
export interface ImageFile {
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly pixels: number
  /** The field of the request, for errors. */
  readonly param: string
}

/**
 * Reads the header of an image.
 *
 * @param content base64, a data URL, or the bytes of the file
 * @throws {ServerError} `invalid_value` if it is not an image, or has more than 4 million pixels
 */
export function checkImage(content: string | Uint8Array<ArrayBuffer>, param: string): ImageFile {
  const bytes = typeof content === 'string' ? fromBase64(content, param) : content
  const size = imageSize(bytes)
  if (size === undefined) throw invalid(param, 'expected a PNG, JPEG, GIF or WebP image')
  const pixels = size.width * size.height
  if (pixels > MOST_PIXELS) {
    throw invalid(
      param,
      `expected at most ${MOST_PIXELS} pixels, but the image has ${size.width} × ${size.height}`,
    )
  }
  return { bytes, pixels, param }
}

/** Decodes an image and works with it, a few images at a time. @throws {ServerError} `invalid_value` if the image is damaged */
export function withImage<T>(
  { bytes, pixels, param }: ImageFile,
  signal: AbortSignal,
  work: (image: RawImage) => Promise<T>,
): Promise<T> {
  const decode = () =>
    RawImage.fromBlob(new Blob([bytes])).catch(() => {
      throw invalid(param, 'the image is damaged')
    })
  return decoded(pixels, signal, { decode, work })
}

function fromBase64(text: string, param: string): Uint8Array<ArrayBuffer> {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
    throw invalid(param, 'addresses are not fetched; send the image itself, as base64 or as a data URL')
  }
  const base64 = text.replace(DATA_URL, '')
  if (!BASE64.test(base64)) throw invalid(param, 'expected an image as base64 or as a data URL')
  return Buffer.from(base64, 'base64')
}
