/** Reads the body of a request to infer: JSON, and after it the binary data of the tensors. */
import { promisify } from 'node:util'
import { gunzip, inflate } from 'node:zlib'
import { ServerError } from '../../errors.js'
import { invalid } from '../check.js'
import { type RequestContext, readBody } from '../context.js'

/** The header with the length of the JSON, in requests and answers. */
export const HEADER_LENGTH = 'Inference-Header-Content-Length'

const DECOMPRESS = new Map([
  ['gzip', promisify<Uint8Array, { maxOutputLength: number }, Uint8Array>(gunzip)],
  ['deflate', promisify<Uint8Array, { maxOutputLength: number }, Uint8Array>(inflate)],
])

export interface InferBody {
  readonly json: unknown
  /** The bytes after the JSON; undefined if the request does not use the binary extension. */
  readonly binary: Uint8Array<ArrayBuffer> | undefined
}

/**
 * Reads and decompresses the body.
 *
 * @param maxBytes limit of the body, before and after decompression
 * @throws {ServerError} `invalid_value`; `body_too_large`
 */
export async function readInferBody(c: RequestContext, maxBytes: number): Promise<InferBody> {
  const body = await decompress(await readBody(c, maxBytes), c.req.header('content-encoding'), maxBytes)
  const header = c.req.header(HEADER_LENGTH)
  if (header === undefined) return { json: parseJson(body), binary: undefined }
  const length = /^\d{1,15}$/.test(header) ? Number(header) : Number.NaN
  if (!(length <= body.length)) {
    throw invalid(HEADER_LENGTH, `expected the length of the JSON, at most ${body.length} bytes of the body`)
  }
  if (length === 0) throw invalid(HEADER_LENGTH, 'requests without JSON are not supported')
  return { json: parseJson(body.subarray(0, length)), binary: body.subarray(length) }
}

async function decompress(
  body: Uint8Array<ArrayBuffer>,
  encoding: string | undefined,
  maxBytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  if (encoding === undefined || encoding.toLowerCase() === 'identity') return body
  const method = DECOMPRESS.get(encoding.toLowerCase())
  if (method === undefined) throw invalid('Content-Encoding', 'expected gzip, deflate or identity')
  try {
    const { buffer, byteOffset, length } = await method(body, { maxOutputLength: maxBytes })
    return new Uint8Array(buffer as ArrayBuffer, byteOffset, length)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      throw new ServerError('body_too_large', `the decompressed body is larger than ${maxBytes} bytes`)
    }
    throw invalid('Content-Encoding', `the body is not valid ${encoding.toLowerCase()}`)
  }
}

/** Parses JSON in UTF-8. @throws {ServerError} `invalid_value` */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    // The message of the parser would quote the body.
    throw new ServerError('invalid_value', 'the request is not valid JSON in UTF-8')
  }
}
