/** An answer as server-sent events, in OpenAI's form: one JSON object for each event, and `[DONE]` at the end. */
import { describeError, errorBody } from '../../api-error.js'
import { ClientGoneError, type RequestContext } from '../context.js'

/**
 * Answers with the objects that `work` writes. Until the first one a failure is an ordinary error with its HTTP status; later ones
 * are the last event of the stream.
 *
 * @param work gets a signal that is also aborted when the reader of the stream has gone
 */
export async function eventStream(
  c: RequestContext,
  work: (write: (event: object) => void, signal: AbortSignal) => Promise<void>,
): Promise<Response> {
  const gone = new AbortController()
  const signal = AbortSignal.any([c.get('signal'), gone.signal])
  const encoder = new TextEncoder()
  let started = () => {}
  const hasStarted = new Promise<void>((resolve) => {
    started = resolve
  })
  let stream: ReadableStreamDefaultController<Uint8Array> | undefined
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => {
      stream = controller
    },
    cancel: () => gone.abort(new ClientGoneError()),
  })
  const send = (data: string) => {
    if (!gone.signal.aborted) stream?.enqueue(encoder.encode(`data: ${data}\n\n`))
  }
  const running = work((event) => {
    send(JSON.stringify(event))
    started()
  }, signal)
  await Promise.race([hasStarted, running])
  const finished = running.then(
    () => 200,
    (error: unknown) => {
      const described = describeError(error, c.get('requestId'))
      c.set('error', error)
      send(JSON.stringify(errorBody(described, c.req.path)))
      return described.status
    },
  )
  c.set(
    'finished',
    finished.then((status) => {
      send('[DONE]')
      if (!gone.signal.aborted) stream?.close()
      return status
    }),
  )
  return c.body(body, 200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache, no-transform',
    // Proxies such as nginx would collect the events.
    'x-accel-buffering': 'no',
  })
}
