/** The answer to a failed request: its status, and the fields of OpenAI's error object. Nothing internal leaves the server. */
import { FourierFTError } from '@fourierft/core'
import { ClientGoneError } from './apis/context.js'
import { clientMessage } from './client-message.js'
import { ServerError } from './errors.js'

export interface ApiError {
  readonly status: number
  readonly message: string
  readonly code: string
  readonly param: string | null
  /** OpenAI's `type`. */
  readonly type: string
  /** Seconds, for `Retry-After`. */
  readonly retryAfter: number | undefined
}

function typeOf(status: number): string {
  if (status >= 500) return 'server_error'
  if (status === 401) return 'authentication_error'
  return status === 429 ? 'rate_limit_error' : 'invalid_request_error'
}

/** Translates whatever was thrown. What is not known is a 500 that only names the request. */
export function describeError(error: unknown, requestId: string): ApiError {
  const answer = (status: number, code: string, message: string, rest: Partial<ApiError> = {}): ApiError => ({
    status,
    message,
    code,
    type: typeOf(status),
    param: null,
    retryAfter: undefined,
    ...rest,
  })
  if (error instanceof ServerError && error.code !== 'internal_error') {
    const wait = error.status === 429 || error.status === 503 ? (error.retryAfter ?? 1) : error.retryAfter
    return answer(error.status, error.code, error.message, { param: error.param ?? null, retryAfter: wait })
  }
  if (error instanceof ClientGoneError) return answer(499, 'client_closed_request', error.message)
  if (FourierFTError.isInstance(error) && error.code === 'INVALID_OPTION') {
    return answer(400, 'invalid_value', clientMessage(error), { param: error.details.option ?? null })
  }
  if (FourierFTError.isInstance(error) && !OUR_FAULT.has(error.code)) {
    return answer(422, 'invalid_adapter', clientMessage(error), { param: 'model' })
  }
  return answer(500, 'internal_error', `the server failed; its log has the cause under the id ${requestId}`)
}

/** Codes of `FourierFTError` that do not blame the files of an adapter. */
const OUR_FAULT: ReadonlySet<string> = new Set([
  'IO_ERROR',
  'INVALID_ONNX',
  'INVALID_STATE',
  'ADAPTER_EXISTS',
  'UNSUPPORTED',
])

/** The JSON of an error: OpenAI's or, in the Open Inference Protocol, a text. */
export function errorBody(
  { message, type, param, code }: ApiError,
  path: string,
): { readonly error: unknown } {
  return { error: /^\/v2(\/|$)/.test(path) ? message : { message, type, param, code } }
}

export function errorHeaders({ status, code, retryAfter }: ApiError): Record<string, string> {
  return {
    // The rest of the body is not read, so the connection cannot have another request.
    ...(code === 'body_too_large' && { connection: 'close' }),
    ...(retryAfter !== undefined && { 'retry-after': String(Math.ceil(retryAfter)) }),
    ...(status === 401 && { 'www-authenticate': 'Bearer' }),
  }
}
