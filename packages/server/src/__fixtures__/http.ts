/** Requests to a handler, as short as in the tests' sentences. */
import type { Handler } from '../handler.js'

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: the JSON of an answer, whose fields the tests check
  readonly json: any
}

async function read(response: Response): Promise<Answer> {
  const text = await response.text()
  const isJson = response.headers.get('content-type')?.startsWith('application/json') === true
  return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined }
}

export const get = async (handler: Handler, path: string, init: RequestInit = {}) =>
  read(await handler(new Request(`http://server${path}`, init)))

/** @param body an object is sent as JSON, a text as it is */
export const post = (handler: Handler, path: string, body: unknown, init: RequestInit = {}) =>
  get(handler, path, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...init,
  })

/** The objects of a stream of server-sent events; `[DONE]` is left as a text. */
export function events(text: string): unknown[] {
  return text
    .split('\n\n')
    .filter((event) => event !== '')
    .map((event) => event.replace(/^data: /, ''))
    .map((data) => (data === '[DONE]' ? data : JSON.parse(data)))
}
