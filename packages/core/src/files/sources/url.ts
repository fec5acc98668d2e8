/** Reads an adapter from the URL of a directory, as a static file server serves it. */
import {
  type AdapterFiles,
  CONFIG_FILE,
  ioError,
  MAX_CONFIG_BYTES,
  MODEL_FILE,
  notFound,
  subfolderHint,
} from '../adapter-files.js'
import type { DownloadProgress } from '../read-stream.js'
import { request, shownUrl } from './request.js'

export interface UrlOptions {
  readonly maxBytes: number
  /** Whether the caller set the limit. */
  readonly isLimitExplicit: boolean
  /** Folder below the URL that holds the two files; empty for the URL itself. */
  readonly subfolder: string
  /** Sent as a bearer token, only to the origin of the URL. */
  readonly token?: string | undefined
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
}

/** Downloads both files. @throws {FourierFTError} `FILE_NOT_FOUND`, `FILE_TOO_LARGE`, `IO_ERROR`; an abort throws the signal's reason */
export async function readUrl(base: URL, options: UrlOptions): Promise<AdapterFiles> {
  const { subfolder } = options
  const urls = { config: fileUrl(base, subfolder, CONFIG_FILE), model: fileUrl(base, subfolder, MODEL_FILE) }
  const maxConfig = Math.min(options.maxBytes, MAX_CONFIG_BYTES)
  // One after the other: if the configuration is missing, the large file is not requested.
  const config = await download(urls.config, { ...options, maxBytes: maxConfig })
  const model = await download(urls.model, options)
  return { config, model, names: { config: shownUrl(urls.config), model: shownUrl(urls.model) } }
}

/** Returns the URL of a file. The base may or may not end with a slash. Its query (a signature, for example) is sent with each file. */
function fileUrl(base: URL, subfolder: string, file: string): URL {
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
    throw notFound(file, `expected ${CONFIG_FILE} and ${MODEL_FILE} below the URL`, subfolderHint(subfolder))
  }
  throw ioError(file, `the server answered ${status}`)
}
