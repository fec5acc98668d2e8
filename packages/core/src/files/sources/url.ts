/** An adapter below a base URL, as a static file server gives it. */
import {
  type AdapterFiles,
  CONFIG_FILE,
  ioError,
  MAX_CONFIG_BYTES,
  MODEL_FILE,
  namedAdvice,
  notFound,
} from '../adapter-files.js'
import type { DownloadProgress } from '../read-stream.js'
import { request, shownUrl } from './request.js'

export interface UrlOptions {
  readonly maxBytes: number
  /** Whether the caller gave the bound. */
  readonly isBoundGiven: boolean
  /** Folder below the URL that holds the two files; empty: none. */
  readonly subfolder: string
  /** Sent as a bearer token, to the origin of the URL alone. */
  readonly token?: string | undefined
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
}

/** @throws {FourierFTError} `FILE_NOT_FOUND`, `FILE_TOO_LARGE`, `IO_ERROR`; an abort throws the signal's reason */
export async function readUrl(base: URL, options: UrlOptions): Promise<AdapterFiles> {
  const { subfolder } = options
  const urls = { config: below(base, subfolder, CONFIG_FILE), model: below(base, subfolder, MODEL_FILE) }
  const maxConfig = Math.min(options.maxBytes, MAX_CONFIG_BYTES)
  // One after the other: who has no configuration need not send the large file.
  const config = await download(urls.config, { ...options, maxBytes: maxConfig })
  const model = await download(urls.model, options)
  return { config, model, names: { config: shownUrl(urls.config), model: shownUrl(urls.model) } }
}

/** The base names a directory with or without its last slash; a query (a signature, say) goes to each file. */
function below(base: URL, subfolder: string, file: string): URL {
  const url = new URL(base)
  const folders = subfolder === '' ? [] : subfolder.split('/').map(encodeURIComponent)
  url.pathname = [url.pathname.replace(/\/$/, ''), ...folders, file].join('/')
  return url
}

async function download(url: URL, { token, subfolder, ...options }: UrlOptions): Promise<Uint8Array> {
  const file = shownUrl(url)
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  const { status, bytes } = await request(url, { ...options, file, headers })
  if (bytes) return bytes
  if (status === 404 || status === 410) {
    throw notFound(file, `expected ${CONFIG_FILE} and ${MODEL_FILE} below the URL${namedAdvice(subfolder)}`)
  }
  throw ioError(file, `the server answered ${status}`)
}
