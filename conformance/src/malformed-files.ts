/** Adapter files that a disk, a network or an attacker damaged, with the error codes that a reader may throw. */
import { type AdapterBytes, createAdapter, createConfig, type ErrorCode } from '@fourierft/core'

export interface MalformedFiles {
  readonly name: string
  readonly files: AdapterBytes
  readonly codes: readonly ErrorCode[]
}

interface Header {
  [tensor: string]: { dtype: string; shape: unknown; data_offsets: [number, number] }
}

/**
 * Generates damaged copies of an adapter.
 *
 * @param good files with several F32 tensors of coefficients, as PEFT writes them
 */
export function* malformedFiles(good: AdapterBytes): Generator<MalformedFiles> {
  const model = (name: string, bytes: Uint8Array, ...codes: ErrorCode[]): MalformedFiles => ({
    name: `model: ${name}`,
    files: { ...good, model: bytes },
    codes,
  })
  const header = (name: string, edit: (header: Header, tensors: string[]) => void, ...codes: ErrorCode[]) =>
    model(name, editHeader(good.model, edit), ...codes)

  yield model('empty', new Uint8Array(), 'INVALID_SAFETENSORS')
  yield model('five bytes', good.model.slice(0, 5), 'INVALID_SAFETENSORS')
  yield model(
    'a header of 2⁶³ bytes',
    withLength(good.model, 2n ** 63n),
    'INVALID_SAFETENSORS',
    'FILE_TOO_LARGE',
  )
  yield model('a header of 3 GiB', withLength(good.model, 3n << 30n), 'INVALID_SAFETENSORS', 'FILE_TOO_LARGE')
  yield model(
    'a header longer than the file',
    withLength(good.model, BigInt(good.model.length)),
    'INVALID_SAFETENSORS',
  )
  yield model('a header of no bytes', withLength(good.model, 0n), 'INVALID_SAFETENSORS', 'INVALID_JSON')
  yield model(
    'a header that is not JSON',
    withHeader(good.model, '{"a":'),
    'INVALID_SAFETENSORS',
    'INVALID_JSON',
  )
  yield model('a header that is a list', withHeader(good.model, '[]'), 'INVALID_SAFETENSORS')
  yield model('a byte missing', good.model.slice(0, -1), 'INVALID_SAFETENSORS')
  yield model('a byte too many', concat(good.model, new Uint8Array(1)), 'INVALID_SAFETENSORS')
  yield model(
    'no tensors',
    withHeader(good.model.slice(0, 8 + headerLength(good.model)), '{}'),
    'INVALID_SAFETENSORS',
  )
  yield header(
    'tensors that overlap',
    (h, [a, b]) => {
      if (a && b && h[a] && h[b]) h[b].data_offsets = h[a].data_offsets
    },
    'INVALID_SAFETENSORS',
  )
  yield header(
    'a gap between tensors',
    (h, tensors) => {
      delete h[tensors[1] ?? '']
    },
    'INVALID_SAFETENSORS',
  )
  const editFirstTensor = (edit: (tensor: Header[string]) => void) => (h: Header, tensors: string[]) => {
    const tensor = h[tensors[0] ?? '']
    if (tensor) edit(tensor)
  }
  const firstTensor = (name: string, edit: (tensor: Header[string]) => void, ...codes: ErrorCode[]) =>
    header(name, editFirstTensor(edit), ...codes)
  yield firstTensor('offsets that run backwards', (t) => t.data_offsets.reverse(), 'INVALID_SAFETENSORS')
  yield firstTensor('offsets past the end', (t) => t.data_offsets.fill(2 ** 40, 1), 'INVALID_SAFETENSORS')
  yield firstTensor('a negative offset', (t) => t.data_offsets.fill(-4, 0, 1), 'INVALID_SAFETENSORS')
  yield firstTensor(
    'a dtype that does not fit the length',
    (t) => Object.assign(t, { dtype: 'F64' }),
    'INVALID_SAFETENSORS',
  )
  yield firstTensor(
    'an unknown dtype',
    (t) => Object.assign(t, { dtype: 'F31' }),
    'INVALID_SAFETENSORS',
    'UNSUPPORTED_DTYPE',
  )
  yield firstTensor(
    'coefficients that are integers',
    (t) => Object.assign(t, { dtype: 'I32' }),
    'UNSUPPORTED_DTYPE',
  )
  yield firstTensor(
    'a shape that does not fit the length',
    (t) => Object.assign(t, { shape: [29] }),
    'INVALID_SAFETENSORS',
  )
  yield firstTensor('a negative shape', (t) => Object.assign(t, { shape: [-30] }), 'INVALID_SAFETENSORS')
  yield firstTensor(
    'a shape of fractions',
    (t) => Object.assign(t, { shape: [7.5, 4] }),
    'INVALID_SAFETENSORS',
  )
  yield firstTensor(
    'a huge shape',
    (t) => Object.assign(t, { shape: [2 ** 40, 2 ** 40] }),
    'INVALID_SAFETENSORS',
  )
  yield firstTensor(
    'coefficients in two dimensions',
    (t) => Object.assign(t, { shape: [5, 6] }),
    'SHAPE_MISMATCH',
  )
  yield model('a coefficient that is NaN', withLastFloat(good.model, Number.NaN), 'NOT_FINITE')
  yield model(
    'a coefficient that is infinite',
    withLastFloat(good.model, Number.POSITIVE_INFINITY),
    'NOT_FINITE',
  )
  yield model(
    'a tensor named __proto__',
    withHeader(good.model, headerText(good.model).replace(/"base_model[^"]*"/, '"__proto__"')),
    'INVALID_SAFETENSORS',
    'INVALID_JSON',
  )

  const text = (name: string, content: string, ...codes: ErrorCode[]): MalformedFiles => ({
    name: `config: ${name}`,
    files: { ...good, config: new TextEncoder().encode(content) },
    codes,
  })
  const key = (name: string, edit: Record<string, unknown>, ...codes: ErrorCode[]) =>
    text(name, JSON.stringify({ ...JSON.parse(new TextDecoder().decode(good.config)), ...edit }), ...codes)
  yield text('empty', '', 'INVALID_JSON')
  yield text('not JSON', '{"peft_type": "FOURIERFT",', 'INVALID_JSON')
  yield text('a list', '[]', 'INVALID_CONFIG', 'INVALID_JSON')
  yield text('__proto__', '{"peft_type":"FOURIERFT","__proto__":{"scaling":1}}', 'INVALID_JSON')
  yield key('another method', { peft_type: 'LORA' }, 'UNSUPPORTED_PEFT_TYPE')
  yield key('n_frequency below 1', { n_frequency: -1 }, 'INVALID_CONFIG')
  yield key('n_frequency that is a string', { n_frequency: 'many' }, 'INVALID_CONFIG')
  yield key(
    'an n_frequency that differs from the tensors',
    { n_frequency: 31 },
    'SHAPE_MISMATCH',
    'INVALID_CONFIG',
  )
  yield key('scaling that is a string', { scaling: 'large' }, 'INVALID_CONFIG')
  yield key('a seed that is not an integer', { random_loc_seed: 1.5 }, 'INVALID_CONFIG')
  yield key('target_modules that is a number', { target_modules: 7 }, 'INVALID_CONFIG')

  const standaloneFiles = createAdapter(
    createConfig({ nFrequency: 9 }),
    { query: [8, 10] },
    { entries: { sampler: 'bandpass', seed: 1, centerFrequency: 2, bandwidth: 10 } },
  ).toBytes()
  const metadata = (name: string, edit: (text: string) => string, ...codes: ErrorCode[]): MalformedFiles => ({
    name: `standalone file: ${name}`,
    files: {
      config: standaloneFiles.config,
      model: withHeader(standaloneFiles.model, edit(headerText(standaloneFiles.model))),
    },
    codes,
  })
  yield metadata(
    'a digest of other entries',
    (header) => header.replace(/[0-9a-f]{64}/, '0'.repeat(64)),
    'ENTRIES_DIGEST_MISMATCH',
  )
  yield metadata(
    'a newer version of the format',
    (header) => header.replace('"fourierft.version":"1"', '"fourierft.version":"2"'),
    'UNSUPPORTED_FORMAT_VERSION',
  )
}

function headerLength(model: Uint8Array): number {
  return Number(new DataView(model.buffer, model.byteOffset).getBigUint64(0, true))
}

function headerText(model: Uint8Array): string {
  return new TextDecoder().decode(model.subarray(8, 8 + headerLength(model)))
}

/** Replaces the header, padded with spaces to a multiple of eight bytes as in safetensors. */
function withHeader(model: Uint8Array, text: string): Uint8Array {
  const header = new TextEncoder().encode(text)
  const padded = concat(header, new Uint8Array(-header.length & 7).fill(32))
  return withLength(
    concat(new Uint8Array(8), padded, model.subarray(8 + headerLength(model))),
    BigInt(padded.length),
  )
}

function withLength(model: Uint8Array, length: bigint): Uint8Array {
  const copy = model.slice()
  new DataView(copy.buffer).setBigUint64(0, length, true)
  return copy
}

function editHeader(model: Uint8Array, edit: (header: Header, tensors: string[]) => void): Uint8Array {
  const header: Header = JSON.parse(headerText(model))
  edit(
    header,
    Object.keys(header).filter((name) => name !== '__metadata__'),
  )
  return withHeader(model, JSON.stringify(header))
}

function withLastFloat(model: Uint8Array, value: number): Uint8Array {
  const copy = model.slice()
  new DataView(copy.buffer).setFloat32(copy.length - 4, value, true)
  return copy
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const result = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let offset = 0
  for (const part of parts) {
    result.set(part, offset)
    offset += part.length
  }
  return result
}
