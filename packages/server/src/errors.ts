/** `ServerError`: an error with the HTTP status and the words that OpenAI's clients know. */
import { FourierFTError } from '@fourierft/core'
import { clientMessage } from './client-message.js'

/** The `code` of an error in OpenAI's JSON. */
export type ServerErrorCode =
  | 'model_not_found'
  | 'invalid_adapter'
  | 'too_many_groups'
  | 'adapter_too_large'
  | 'queue_full'
  | 'deadline_exceeded'
  | 'shutting_down'
  | 'invalid_value'
  | 'context_length_exceeded'
  | 'unsupported_task'
  | 'invalid_api_key'
  | 'body_too_large'
  | 'not_found'
  | 'internal_error'

export interface ServerErrorDetails {
  /** The field of the request. */
  readonly param?: string
  /** Seconds after which a client should try again. */
  readonly retryAfter?: number
  readonly cause?: unknown
}

const STATUS: Readonly<Record<ServerErrorCode, number>> = {
  model_not_found: 404,
  invalid_adapter: 422,
  too_many_groups: 409,
  adapter_too_large: 413,
  queue_full: 429,
  deadline_exceeded: 504,
  shutting_down: 503,
  invalid_value: 400,
  context_length_exceeded: 400,
  unsupported_task: 400,
  invalid_api_key: 401,
  body_too_large: 413,
  not_found: 404,
  internal_error: 500,
}

export class ServerError extends Error {
  readonly code: ServerErrorCode
  readonly param: string | undefined
  readonly retryAfter: number | undefined

  constructor(code: ServerErrorCode, message: string, { param, retryAfter, cause }: ServerErrorDetails = {}) {
    super(message, { cause })
    this.name = 'ServerError'
    this.code = code
    this.param = param
    this.retryAfter = retryAfter
  }

  get status(): number {
    return STATUS[this.code]
  }
}

/** Makes the error of an adapter whose files are broken or do not fit the model. */
export function invalidAdapter(name: string, cause: unknown): ServerError {
  const reason = FourierFTError.isInstance(cause) ? clientMessage(cause) : 'its files cannot be read'
  return new ServerError('invalid_adapter', `adapter '${name}': ${reason}`, { param: 'model', cause })
}
