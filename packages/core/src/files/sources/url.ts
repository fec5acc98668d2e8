/** An adapter below a base URL, as a static file server gives it. */
import { FourierFTError } from '../../errors.js'
import {
  type AdapterFiles,
  CONFIG_FILE,
  checkSize,
  ioError,
  MODEL_FILE,
  namedAdvice,
  notFound,
} from '../adapter-files.js'
import { type DownloadProgress, readStream } from '../read-stream.js'

interface UrlOptions {
  readonly maxBytes: number
  /** Folder below the URL that holds the two files; empty: none. */
  readonly subfolder: string
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
}

/** @throws {FourierFTError} `FILE_NOT_FOUND`, `FILE_TOO_LARGE`, `IO_ERROR`; an abort throws the signal's reason */
export async function readUrl(base: URL, options: UrlOptions): Promise<AdapterFiles> {
  const { subfolder } = options
  const names = { config: below(base, subfolder, CONFIG_FILE), model: below(base, subfolder, MODEL_FILE) }
  // One after the other: who has no configuration need not send the large file.
  const config = await download(names.config, options)
  const model = await download(names.model, options)
  return { config, model, names }
}

/** The base names a directory with or without its last slash; a query (a signature, say) goes to each file. */
function below(base: URL, subfolder: string, file: string): string {
  const url = new URL(base)
  const folders = subfolder === '' ? [] : subfolder.split('/').map(encodeURIComponent)
  url.pathname = [url.pathname.replace(/\/$/, ''), ...folders, file].join('/')
  return url.href
}

async function download(
  url: string,
  { maxBytes, signal, onProgress, subfolder }: UrlOptions,
): Promise<Uint8Array> {
  try {
    const response = await fetch(url, signal ? { signal } : {}).catch((cause) => {
      throw ioError(url, 'the request failed', cause)
    })
    if (response.status === 404 || response.status === 410) {
      throw notFound(url, `expected ${CONFIG_FILE} and ${MODEL_FILE} below the URL${namedAdvice(subfolder)}`)
    }
    if (!response.ok || !response.body) {
      throw ioError(url, `the server answered ${response.status} ${response.statusText}`.trimEnd())
    }
    const announced = response.headers.get('content-length')
    // The length of a compressed answer is that of the compressed bytes.
    const expected =
      announced !== null && !response.headers.get('content-encoding') ? Number(announced) : undefined
    if (expected !== undefined) checkSize(expected, maxBytes, url)
    return await readStream(response.body, { file: url, maxBytes, expected, onProgress })
  } catch (error) {
    if (signal?.aborted) throw signal.reason
    if (error instanceof FourierFTError) throw error
    throw ioError(url, 'the download failed', error)
  }
}
