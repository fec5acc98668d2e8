/** Why a request failed, in words. */

/** Node's codes for what went wrong on the way, in words. */
const REASONS: readonly (readonly [code: RegExp, reason: string])[] = [
  [/^(ENOTFOUND|EAI_AGAIN)$/, "the host's name is not known (DNS)"],
  [/^ECONNREFUSED$/, 'the connection was refused'],
  [/^(ECONNRESET|EPIPE|UND_ERR_SOCKET)$/, 'the connection broke off'],
  [/^(ETIMEDOUT|UND_ERR_(CONNECT|HEADERS|BODY)_TIMEOUT)$/, 'the server did not answer in time'],
  [/^(EHOSTUNREACH|ENETUNREACH)$/, 'the host cannot be reached'],
  [/CERT|SIGNATURE|ISSUER|_SSL_|_TLS_|^EPROTO$/, 'the TLS connection failed'],
]

/** Why a request failed, as far as that is told; browsers tell nothing. What might hold a URL is not repeated. */
export function networkReason(error: unknown): string {
  let last = error
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    last = cause
    const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined
    if (code === undefined) continue
    const known = REASONS.find(([pattern]) => pattern.test(code))
    return known ? `${known[1]}, ${code}` : code
  }
  if (last !== error && last instanceof Error && /^[\w -]+$/.test(last.message)) return last.message
  return 'no reason was given; is the address right, and does the server allow this page (CORS)?'
}
