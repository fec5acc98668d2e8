/** Reads a whole stream into memory and checks its length. */
import { checkSize, ioError } from './adapter-files.js'
import { networkError } from './sources/network-error.js'

/** Progress of the download of a file. */
export interface DownloadProgress {
  /** The file's name, without folders. */
  readonly file: string
  /** Bytes. */
  readonly loaded: number
  /** Bytes; undefined if unknown. */
  readonly total: number | undefined
}

/**
 * Reads the stream to its end.
 *
 * @param expected announced length in bytes; undefined if unknown
 * @param onProgress called for each piece
 * @throws {FourierFTError} `FILE_TOO_LARGE` as soon as more than `maxBytes` have arrived; `IO_ERROR` if the stream breaks off, or its length
 *   differs from the announced one
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
    /** Called whenever bytes arrive. */
    onBytes?: () => void
  },
): Promise<Uint8Array> {
  const reader = stream.getReader()
  const chunks: Uint8Array[] = []
  let length = 0
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause) => {
        throw networkError(file, `the download broke off after ${length} bytes`, cause)
      })
      if (done) break
      onBytes?.()
      length += value.length
      checkSize(length, maxBytes, file)
      if (expected !== undefined && length > expected)
        throw ioError(file, `expected ${expected} bytes; received more`)
      chunks.push(value)
      onProgress?.({ file: baseName(file), loaded: length, total: expected })
    }
  } finally {
    // Stops the transfer after an error. After the end of the stream it does nothing.
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

/** Returns the last part of a path or URL. The query of a URL may also contain slashes. */
function baseName(file: string): string {
  return file.replace(/[?#].*$/, '').replace(/^.*\//, '')
}
