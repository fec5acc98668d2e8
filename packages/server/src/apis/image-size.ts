/** The size of an image, read from its header: a small file can claim more pixels than there is memory. */

export interface ImageSize {
  readonly width: number
  readonly height: number
}

const SIGNATURES = {
  png: [0x89, 0x50, 0x4e, 0x47],
  gif: [0x47, 0x49, 0x46, 0x38],
  jpeg: [0xff, 0xd8, 0xff],
} as const

/** Returns the size of a PNG, JPEG, GIF or WebP image; undefined if the bytes are none of these, or are cut off. */
export function imageSize(bytes: Uint8Array): ImageSize | undefined {
  const begins = (signature: readonly number[]) => signature.every((byte, i) => bytes[i] === byte)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  try {
    if (begins(SIGNATURES.png)) return { width: view.getUint32(16), height: view.getUint32(20) }
    if (begins(SIGNATURES.gif)) return { width: view.getUint16(6, true), height: view.getUint16(8, true) }
    if (begins(SIGNATURES.jpeg)) return jpegSize(view)
    if (view.getUint32(0) === 0x52494646 && view.getUint32(8) === 0x57454250) return webpSize(view)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
  }
  return undefined
}

/** Follows the segments to the frame header (SOF0 to SOF15, without DHT, JPG and DAC). */
function jpegSize(view: DataView): ImageSize | undefined {
  for (let at = 2; ; ) {
    if (view.getUint8(at) !== 0xff) return undefined
    const marker = view.getUint8(at + 1)
    if (marker === 0xff) {
      at++
      continue
    }
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)
    if (isFrame) return { height: view.getUint16(at + 5), width: view.getUint16(at + 7) }
    const length = view.getUint16(at + 2)
    if (length < 2) return undefined
    at += 2 + length
  }
}

function webpSize(view: DataView): ImageSize | undefined {
  const kind = view.getUint32(12)
  if (kind === 0x56503820) {
    return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff }
  }
  if (kind === 0x5650384c) {
    const bits = view.getUint32(21, true)
    return { width: (bits & 0x3fff) + 1, height: ((bits >> 14) & 0x3fff) + 1 }
  }
  if (kind === 0x56503858) {
    const uint24 = (at: number) => view.getUint16(at, true) | (view.getUint8(at + 2) << 16)
    return { width: uint24(24) + 1, height: uint24(27) + 1 }
  }
  return undefined
}
