/**
 * One HTTP request of a download. Servers are untrusted: the size of an answer is limited while it arrives and after decompression, and a
 * stalled connection ends. Error messages contain no secrets (passwords, tokens, signatures). Credentials go only to the origin that they belong
 * to: `fetch` drops `Authorization` if a redirect leads to another origin.
 */
import { FourierFTError } from '../../errors.js'
import { checkSize } from '../adapter-files.js'
import { type DownloadProgress, readStream } from '../read-stream.js'
import { networkError } from './network-error.js'

/** If nothing arrives for this time, the request ends, unless the caller passes a signal. */
const IDLE_MS = 60_000
/** Size limit of a decompressed answer if the caller sets none: this many bytes, or this multiple of the compressed length. */
const MAX_DECOMPRESSED = 64 * 2 ** 20
const MAX_RATIO = 12

export interface RequestOptions {
  /** Name of the answer in errors. */
  readonly file: string
  /** Size limit of the decompressed answer. */
  readonly maxBytes: number
  /** The limit was set by the caller, so it replaces the default limit of compressed answers. */
  readonly isLimitExplicit?: boolean | undefined
  /** Known length of the answer in bytes. */
  readonly expected?: number | undefined
  readonly headers?: Readonly<Record<string, string>>
  /** Body; makes the request a POST of JSON. */
  readonly json?: unknown
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
  readonly idleMs?: number
}

export interface Answer {
  readonly status: number
  /** The body of a successful answer; other bodies are not read. */
  readonly bytes: Uint8Array | undefined
}

/**
 * Sends a request, and returns an answer of any status.
 *
 * @throws {FourierFTError} `FILE_TOO_LARGE`; `IO_ERROR` if the server cannot be reached, breaks off or stalls; an abort throws the signal's
 *   reason
 */
export async function request(address: URL, options: RequestOptions): Promise<Answer> {
  const { file, maxBytes, expected, headers = {}, json, signal, onProgress, idleMs = IDLE_MS } = options
  const { url, authorization } = moveCredentials(address)
  const idle = signal ? undefined : new IdleTimeout(idleMs)
  const abortSignal = signal ?? idle?.signal
  try {
    const response = await fetch(url, {
      headers: { ...(authorization !== undefined && { authorization }), ...headers },
      ...(json !== undefined && { method: 'POST', body: JSON.stringify(json) }),
      ...(abortSignal && { signal: abortSignal }),
    }).catch((cause) => {
      throw networkError(file, 'the request failed', cause)
    })
    idle?.restart()
    const { status, ok, body } = response
    if (!ok || !body) {
      body?.cancel().catch(() => {})
      return { status, bytes: ok ? new Uint8Array() : undefined }
    }
    const { announced, limit } = limitsOf(response, options)
    if (announced !== undefined) checkSize(announced, maxBytes, file)
    const bytes = await readStream(body, {
      file,
      maxBytes: limit,
      expected: expected ?? announced,
      onProgress,
      onBytes: () => idle?.restart(),
    })
    return { status, bytes }
  } catch (error) {
    if (signal?.aborted) throw signal.reason
    if (idle?.signal.aborted) {
      throw new FourierFTError('IO_ERROR', `${file}: nothing arrived for ${idleMs / 1000} seconds`, {
        advice: 'try again, or give a signal such as AbortSignal.timeout(300_000) to wait longer',
        file,
        option: 'signal',
      })
    }
    if (FourierFTError.isInstance(error)) throw error
    throw networkError(file, 'the download failed', error)
  } finally {
    idle?.stop()
  }
}

/** Returns the size limit of the answer, and its announced length if the answer is not compressed. */
function limitsOf(
  { headers }: Response,
  { maxBytes, isLimitExplicit, expected }: RequestOptions,
): { announced?: number; limit: number } {
  const text = headers.get('content-length')
  const length = text === null ? undefined : Number(text)
  const isCompressed = !/^(identity)?$/i.test(headers.get('content-encoding') ?? '')
  if (!isCompressed) return { limit: maxBytes, ...(length !== undefined && { announced: length }) }
  // The announced length is that of the compressed bytes.
  const defaultLimit = Math.max(MAX_DECOMPRESSED, MAX_RATIO * (length ?? 0))
  return { limit: isLimitExplicit || expected !== undefined ? maxBytes : Math.min(maxBytes, defaultLimit) }
}

/** Returns a URL for messages: without password, query and fragment, which may be secret. */
export function shownUrl(url: URL): string {
  return `${url.origin === 'null' ? `${url.protocol}//` : url.origin}${url.pathname}`
}

/** Moves credentials from the URL to a header. `fetch` rejects a URL with a password, and repeats it in its message. */
function moveCredentials(address: URL): { url: URL; authorization?: string } {
  if (address.username === '' && address.password === '') return { url: address }
  const url = new URL(address)
  url.username = ''
  url.password = ''
  const pair = `${decodePercent(address.username)}:${decodePercent(address.password)}`
  const latin1 = String.fromCharCode(...new TextEncoder().encode(pair))
  return { url, authorization: `Basic ${btoa(latin1)}` }
}

/** Decodes percent escapes. A text with an invalid escape stays as it is. */
function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** A timeout that aborts its signal unless it is restarted in time. */
class IdleTimeout {
  readonly #controller = new AbortController()
  readonly #milliseconds: number
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(milliseconds: number) {
    this.#milliseconds = milliseconds
    this.restart()
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  restart(): void {
    this.stop()
    this.#timer = setTimeout(() => this.#controller.abort(), this.#milliseconds)
  }

  stop(): void {
    clearTimeout(this.#timer)
  }
}
