/** The parameters of the protocol itself, which requests to all models can have. */
import * as v from 'valibot'
import { ServerError } from '../../errors.js'
import { boolean, check, integer } from '../check.js'

export const PROTOCOL_PARAMETERS = {
  /** Whether outputs are binary data where the output does not say it. */
  binary_data_output: v.optional(boolean),
  /** Microseconds; 0: no limit. */
  timeout: v.optional(integer(0, Number.MAX_SAFE_INTEGER)),
}

const schema = v.object(PROTOCOL_PARAMETERS)

/** Calls `work` with a signal that is also aborted after the request's own `timeout`. */
export async function withTimeout<T>(
  parameters: unknown,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { timeout = 0 } = check(schema, parameters, 'parameters')
  if (timeout === 0) return work(signal)
  const controller = new AbortController()
  const stop = () =>
    controller.abort(
      new ServerError('deadline_exceeded', `the request took longer than ${timeout} microseconds`),
    )
  // setTimeout takes at most 2³¹ − 1 milliseconds.
  const timer = setTimeout(stop, Math.min(timeout / 1000, 2 ** 31 - 1))
  try {
    return await work(AbortSignal.any([signal, controller.signal]))
  } finally {
    clearTimeout(timer)
  }
}
