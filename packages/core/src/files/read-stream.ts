/** A whole stream in memory, no larger than promised and no shorter. */
import { checkSize, ioError } from './adapter-files.js'
import { networkReason } from './sources/network-reason.js'

/** How far the download of a file is. */
export interface DownloadProgress {
  /** The file's name, without what leads to it. */
  readonly file: string
  /** Bytes. */
  readonly loaded: number
  /** Bytes; undefined: nobody said. */
  readonly total: number | undefined
}

/**
 * @param expected bytes that were announced; undefined: nobody said
 * @param onProgress is called for each piece that comes
 * @throws {FourierFTError} `FILE_TOO_LARGE` as soon as more than `maxBytes` have come, `IO_ERROR` when the stream breaks, as soon as
 *   more has come than was announced, or when less has
 */
export async function readStream(
  stream: ReadableStream<Uint8Array>,
  {
    file,
    maxBytes,
    expected,
    onProgress,
    onBytes,
  }: {
    file: string
    maxBytes: number
    expected?: number | undefined
    onProgress?: ((progress: DownloadProgress) => void) | undefined
    /** Is called whenever something has come. */
    onBytes?: () => void
  },
): Promise<Uint8Array> {
  const reader = stream.getReader()
  const chunks: Uint8Array[] = []
  let length = 0
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause) => {
        throw ioError(file, `the download broke off after ${length} bytes: ${networkReason(cause)}`)
      })
      if (done) break
      onBytes?.()
      length += value.length
      checkSize(length, maxBytes, file)
      if (expected !== undefined && length > expected)
        throw ioError(file, `expected ${expected} bytes; more came`)
      chunks.push(value)
      onProgress?.({ file: baseName(file), loaded: length, total: expected })
    }
  } finally {
    // Stops the transfer where it was left early; after the end it does nothing.
    reader.cancel().catch(() => {})
  }
  if (expected !== undefined && length !== expected) {
    throw ioError(file, `expected ${expected} bytes; received ${length}`)
  }
  const bytes = new Uint8Array(length)
  let offset = 0
  for (const chunk of chunks) {
    bytes.set(chunk, offset)
    offset += chunk.length
  }
  return bytes
}

/** Of a path or URL, whose query may have slashes too. */
function baseName(file: string): string {
  return file.replace(/[?#].*$/, '').replace(/^.*\//, '')
}
