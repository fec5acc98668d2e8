/**
 * One HTTP request of a download. A server is a stranger: what it sends is bounded while it arrives and after decompression, a connection
 * that stalls ends, and nothing secret (passwords, tokens, signatures) gets into a message. Credentials go to the origin that they were
 * given for: `fetch` drops `Authorization` where a redirect leads to another one.
 */
import { FourierFTError } from '../../errors.js'
import { checkSize, ioError } from '../adapter-files.js'
import { type DownloadProgress, readStream } from '../read-stream.js'
import { networkReason } from './network-reason.js'

/** A connection on which nothing arrives for so long is given up, unless the caller has a signal of their own. */
const IDLE_MS = 60_000
/** What a compressed answer may become where the caller gave no bound: so much, or so many times its length. */
const MAX_UNPACKED = 64 * 2 ** 20
const MAX_RATIO = 12

export interface RequestOptions {
  /** What the answer is called in errors. */
  readonly file: string
  /** Bound of the answer, unpacked. */
  readonly maxBytes: number
  /** The bound is the caller's own, so it holds for compressed answers too. */
  readonly isBoundGiven?: boolean | undefined
  /** Bytes that are known to come. */
  readonly expected?: number | undefined
  readonly headers?: Readonly<Record<string, string>>
  /** Makes it a POST of JSON. */
  readonly json?: unknown
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
  readonly idleMs?: number
}

export interface Answer {
  readonly status: number
  /** The body of a successful answer; those of others are not read. */
  readonly bytes: Uint8Array | undefined
}

/**
 * @throws {FourierFTError} `FILE_TOO_LARGE`; `IO_ERROR` where the server cannot be reached, breaks off or stalls; an abort throws the
 *   signal's reason. An answer of any status is returned
 */
export async function request(address: URL, options: RequestOptions): Promise<Answer> {
  const { file, maxBytes, expected, headers = {}, json, signal, onProgress, idleMs = IDLE_MS } = options
  const { url, authorization } = withoutCredentials(address)
  const idle = signal ? undefined : new IdleTimeout(idleMs)
  const endOn = signal ?? idle?.signal
  try {
    const response = await fetch(url, {
      headers: { ...(authorization !== undefined && { authorization }), ...headers },
      ...(json !== undefined && { method: 'POST', body: JSON.stringify(json) }),
      ...(endOn && { signal: endOn }),
    }).catch((cause) => {
      throw ioError(file, `the request failed: ${networkReason(cause)}`)
    })
    idle?.restart()
    const { status, ok, body } = response
    if (!ok || !body) {
      body?.cancel().catch(() => {})
      return { status, bytes: ok ? new Uint8Array() : undefined }
    }
    const { announced, limit } = boundsOf(response, options)
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
      throw new FourierFTError(
        'IO_ERROR',
        `${file}: nothing arrived for ${idleMs / 1000} seconds; try again, or give a signal such as AbortSignal.timeout(300_000) to wait longer`,
        { file, option: 'signal' },
      )
    }
    if (FourierFTError.isInstance(error)) throw error
    throw ioError(file, `the download failed: ${networkReason(error)}`)
  } finally {
    idle?.stop()
  }
}

/** The length that the server announced, where it is that of what will be read, and the bound of what is read. */
function boundsOf(
  { headers }: Response,
  { maxBytes, isBoundGiven, expected }: RequestOptions,
): { announced?: number; limit: number } {
  const text = headers.get('content-length')
  const length = text === null ? undefined : Number(text)
  const isPacked = !/^(identity)?$/i.test(headers.get('content-encoding') ?? '')
  if (!isPacked) return { limit: maxBytes, ...(length !== undefined && { announced: length }) }
  // The length of a compressed answer is that of the compressed bytes.
  const unpacked = Math.max(MAX_UNPACKED, MAX_RATIO * (length ?? 0))
  return { limit: isBoundGiven || expected !== undefined ? maxBytes : Math.min(maxBytes, unpacked) }
}

/** What a URL is called in messages: without password, query and fragment, any of which may be a secret. */
export function shownUrl(url: URL): string {
  return `${url.origin === 'null' ? `${url.protocol}//` : url.origin}${url.pathname}`
}

/** `fetch` takes no URL with a password, and puts it into its message. */
function withoutCredentials(address: URL): { url: URL; authorization?: string } {
  if (address.username === '' && address.password === '') return { url: address }
  const url = new URL(address)
  url.username = ''
  url.password = ''
  const pair = `${unescaped(address.username)}:${unescaped(address.password)}`
  const latin1 = String.fromCharCode(...new TextEncoder().encode(pair))
  return { url, authorization: `Basic ${btoa(latin1)}` }
}

/** A percent sign that escapes nothing stands for itself. */
function unescaped(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Aborts when it is not restarted for some time. */
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
