/** Writes the answer to a request to infer, as JSON or with binary data after it. */
import { decodeFloats } from '@fourierft/core'
import { invalid } from '../check.js'
import type { Datatype, NumberArray } from './datatypes.js'
import type { InferRequest } from './infer-request.js'
import { HEADER_LENGTH } from './read-body.js'

export interface OutputTensor {
  readonly name: string
  readonly datatype: Datatype
  readonly shape: readonly number[]
  /** Strings for BYTES; bits for FP16; bytes for BOOL. */
  readonly data: NumberArray | readonly string[]
}

/**
 * Returns the outputs that the request asks for, in its order, or all.
 *
 * @throws {ServerError} `invalid_value` for numbers that JSON does not have
 */
export function encodeResponse(
  model: string,
  { id, parameters, outputs: requested }: InferRequest,
  outputs: readonly OutputTensor[],
): Response {
  const inBinary = new Map(requested.map(({ name, parameters }) => [name, parameters?.binary_data]))
  const heads: string[] = []
  const parts: Uint8Array<ArrayBuffer>[] = []
  const chosen =
    requested.length === 0
      ? outputs
      : requested.flatMap(({ name }) => outputs.filter((output) => output.name === name))
  for (const output of chosen) {
    const { name, datatype, shape } = output
    const binary = inBinary.get(name) ?? parameters.binary_data_output === true
    if (binary) {
      const bytes = toBytes(output)
      parts.push(bytes)
      heads.push(JSON.stringify({ name, datatype, shape, parameters: { binary_data_size: bytes.length } }))
    } else {
      // By hand, because JSON.stringify has no integers of 64 bits.
      heads.push(`${JSON.stringify({ name, datatype, shape }).slice(0, -1)},"data":[${toJson(output)}]}`)
    }
  }
  const fields = JSON.stringify({ id, model_name: model, model_version: '1' })
  const json = `${fields.slice(0, -1)},"outputs":[${heads.join(',')}]}`
  if (parts.length === 0) return new Response(json, { headers: { 'content-type': 'application/json' } })
  const head = new TextEncoder().encode(json)
  return new Response(concat([head, ...parts]), {
    headers: { 'content-type': 'application/octet-stream', [HEADER_LENGTH]: String(head.length) },
  })
}

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0))
  let offset = 0
  for (const part of parts) {
    bytes.set(part, offset)
    offset += part.length
  }
  return bytes
}

/** Checks the names before the model runs. @throws {ServerError} `invalid_value` */
export function checkOutputNames(
  { outputs }: InferRequest,
  declared: readonly { readonly name: string }[],
): void {
  const names = declared.map(({ name }) => name)
  if (outputs.every(({ name }) => names.includes(name))) return
  throw invalid('outputs', `expected ${names.join(', ')}; there is an output of another name`)
}

function toBytes({ data }: OutputTensor): Uint8Array<ArrayBuffer> {
  if (ArrayBuffer.isView(data)) {
    return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength)
  }
  const elements = (data as readonly string[]).map((text) => new TextEncoder().encode(text))
  const bytes = new Uint8Array(elements.reduce((size, element) => size + 4 + element.length, 0))
  const view = new DataView(bytes.buffer)
  let offset = 0
  for (const element of elements) {
    view.setUint32(offset, element.length, true)
    bytes.set(element, offset + 4)
    offset += 4 + element.length
  }
  return bytes
}

function toJson(output: OutputTensor): string {
  const { name, datatype, data } = output
  if (datatype === 'BYTES') return (data as readonly string[]).map((text) => JSON.stringify(text)).join(',')
  if (datatype === 'BOOL') return Array.from(data as Uint8Array, (byte) => byte !== 0).join(',')
  const numbers =
    datatype === 'FP16' ? decodeFloats({ dtype: 'F16', bytes: toBytes(output) }) : (data as NumberArray)
  if (datatype.startsWith('FP')) {
    for (const value of numbers) {
      if (!Number.isFinite(value)) {
        throw invalid(
          name,
          'has a number that JSON does not have (NaN or infinity); ask for it with binary_data',
        )
      }
    }
  }
  return numbers.join(',')
}
