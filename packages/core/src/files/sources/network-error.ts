/** Errors of requests that fail on the network. */
import type { FourierFTError } from '../../errors.js'
import { ioError } from '../adapter-files.js'

/** Reasons for Node's error codes. */
const REASONS: readonly (readonly [code: RegExp, reason: string])[] = [
  [/^(ENOTFOUND|EAI_AGAIN)$/, "the host's name is unknown (DNS)"],
  [/^ECONNREFUSED$/, 'the connection was refused'],
  [/^(ECONNRESET|EPIPE|UND_ERR_SOCKET)$/, 'the connection broke off'],
  [/^(ETIMEDOUT|UND_ERR_(CONNECT|HEADERS|BODY)_TIMEOUT)$/, 'the server did not answer in time'],
  [/^(EHOSTUNREACH|ENETUNREACH)$/, 'the host cannot be reached'],
  [/CERT|SIGNATURE|ISSUER|_SSL_|_TLS_|^EPROTO$/, 'the TLS connection failed'],
]

/**
 * Makes the error of a request that failed. Browsers give no reason.
 *
 * @param problem what failed
 */
export function networkError(file: string, problem: string, error: unknown): FourierFTError {
  const reason = reasonOf(error)
  if (reason !== undefined) return ioError(file, `${problem}: ${reason}`)
  return ioError(file, `${problem}, and no reason was given`, {
    advice: 'check the address, and whether the server allows requests of this page (CORS)',
  })
}

/** Returns the reason, or undefined if it is unknown. Texts that may contain a URL are not repeated. */
function reasonOf(error: unknown): string | undefined {
  let last = error
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    last = cause
    const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined
    if (code === undefined) continue
    const known = REASONS.find(([pattern]) => pattern.test(code))
    return known ? `${known[1]}, ${code}` : code
  }
  return last !== error && last instanceof Error && /^[\w -]+$/.test(last.message) ? last.message : undefined
}
