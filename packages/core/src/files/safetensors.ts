/**
 * Reads and writes the safetensors format in memory. A file is untrusted and is checked completely before it is used. Tensors are views into
 * the file's bytes; `peft-layout.ts` knows their meaning.
 *
 * @see https://huggingface.co/docs/safetensors, "Format"
 */
import { decodeUtf8, jsonMembers, parseJson } from '../adapter/json.js'
import type { FloatArray } from '../adapter/layer.js'
import { FourierFTError } from '../errors.js'
import { BFLOAT16, encodeHalfFloat, FLOAT16, halfFloatTable } from './half-float.js'

/** Bits of one element. The safetensors library sorts the tensors of a file by dtype in this order, last first. */
const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const

export type TensorDtype = keyof typeof DTYPE_BITS

const FLOAT_DTYPES = ['F32', 'F16', 'BF16', 'F64'] as const

/** The dtypes that hold coefficients. */
export type FloatDtype = (typeof FLOAT_DTYPES)[number]

export interface Tensor {
  readonly dtype: TensorDtype
  readonly shape: readonly number[]
  /** Little-endian, row-major. */
  readonly bytes: Uint8Array
}

export interface SafetensorsFile {
  readonly tensors: ReadonlyMap<string, Tensor>
  /** `__metadata__`; absent if the file has none. */
  readonly metadata?: Readonly<Record<string, string>>
  /** The header of a file that was read. It is written back unchanged if it still describes the tensors. */
  readonly header?: SafetensorsHeader
}

export interface TensorLocation {
  readonly name: string
  readonly dtype: TensorDtype
  readonly shape: readonly number[]
  /** Byte offsets into the data that follows the header. */
  readonly begin: number
  readonly end: number
}

export interface SafetensorsHeader {
  readonly bytes: Uint8Array
  /** In the order of their data. */
  readonly locations: readonly TensorLocation[]
  readonly metadata?: Readonly<Record<string, string>>
}

/** The limit of the safetensors library. */
const MAX_HEADER_LENGTH = 100_000_000
/** Most tensors of a file: more than any adapter has. It limits the memory that a header can take. */
export const MAX_TENSORS = 32_768
/** Most members of `__metadata__`. */
const MAX_METADATA = 10_000
/** Most JSON values in the description of a tensor; it limits the number of axes. */
const MAX_DESCRIPTION_VALUES = 100
const LENGTH_BYTES = 8
/** Name in errors for a file that is being written. */
const NEW_FILE = 'new safetensors file'
const OPEN_BRACE = 0x7b
const SPACE = 0x20
const QUOTE = 0x22
const BACKSLASH = 0x5c
const MINUS = 0x2d
const POINT = 0x2e
const LETTER_E = 0x65

/**
 * Reads and checks a file.
 *
 * @param bytes the whole file; the tensors are views into it
 * @param file name of the file in errors
 * @throws {FourierFTError} `INVALID_SAFETENSORS` if header, offsets, dtypes and length do not agree, `INVALID_JSON` if the header is not
 *   JSON, names a tensor twice or holds a forbidden key
 */
export function readSafetensors(bytes: Uint8Array, file: string): SafetensorsFile {
  const text = headerBytes(bytes, file)
  const data = bytes.subarray(LENGTH_BYTES + text.length)
  const header = parseHeader(text, data.length, file)
  const { locations, metadata } = header
  const tensors = new Map<string, Tensor>()
  for (const { name, dtype, shape, begin, end } of locations) {
    tensors.set(name, { dtype, shape, bytes: data.subarray(begin, end) })
  }
  return { tensors, ...(metadata && { metadata }), header }
}

/**
 * Returns the file's bytes. If `header` still describes the tensors and the metadata, it is written unchanged. Otherwise the file has the
 * layout of the safetensors library: tensors by dtype, widest first, then by name; the header padded with spaces to a multiple of eight
 * bytes.
 *
 * @throws {FourierFTError} `INVALID_SAFETENSORS` if a tensor's bytes do not fit its dtype and shape, or a name is `__metadata__`
 */
export function writeSafetensors({ tensors, metadata, header }: SafetensorsFile): Uint8Array {
  let length = 0
  for (const [name, tensor] of tensors) {
    const { dtype, shape, bytes } = tensor
    if (name === '__metadata__') throw invalid(NEW_FILE, name, 'another name for a tensor', name)
    checkText(name, name, NEW_FILE)
    if (byteLength(dtype, shape) !== bytes.length) throw invalidLength(NEW_FILE, name, tensor, bytes.length)
    length += bytes.length
  }
  for (const text of Object.entries(metadata ?? {}).flat()) checkText(text, '__metadata__', NEW_FILE)
  const { bytes, locations } =
    header && isHeaderOf(header, tensors, metadata) ? header : makeHeader(tensors, metadata)
  const file = new Uint8Array(LENGTH_BYTES + bytes.length + length)
  new DataView(file.buffer).setUint32(0, bytes.length, true)
  file.set(bytes, LENGTH_BYTES)
  for (const { name, begin } of locations) {
    file.set((tensors.get(name) as Tensor).bytes, LENGTH_BYTES + bytes.length + begin)
  }
  return file
}

/**
 * Returns the exact numbers of a floating-point tensor: `Float64Array` for F64, `Float32Array` for the others.
 *
 * @throws {FourierFTError} `UNSUPPORTED_DTYPE`
 */
export function decodeFloats({ dtype, bytes }: Pick<Tensor, 'dtype' | 'bytes'>): FloatArray {
  if (!isFloatDtype(dtype)) {
    throw new FourierFTError(
      'UNSUPPORTED_DTYPE',
      `expected a tensor of dtype F32, F16, BF16 or F64; received ${dtype}`,
      { expected: FLOAT_DTYPES, received: dtype },
    )
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const width = DTYPE_BITS[dtype] / 8
  const values = new (dtype === 'F64' ? Float64Array : Float32Array)(bytes.length / width)
  if (dtype === 'F64') for (let i = 0; i < values.length; i++) values[i] = view.getFloat64(8 * i, true)
  else if (dtype === 'F32') for (let i = 0; i < values.length; i++) values[i] = view.getFloat32(4 * i, true)
  else {
    const table = halfFloatTable(dtype === 'F16' ? FLOAT16 : BFLOAT16)
    for (let i = 0; i < values.length; i++) values[i] = table[view.getUint16(2 * i, true)]
  }
  return values
}

/** Returns the little-endian bytes of `values`, each rounded to the nearest number of the dtype, ties to even; values out of range become infinity. */
export function encodeFloats(values: FloatArray, dtype: FloatDtype): Uint8Array {
  const width = DTYPE_BITS[dtype] / 8
  const bytes = new Uint8Array(values.length * width)
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < values.length; i++) {
    const value = values[i]
    if (dtype === 'F64') view.setFloat64(8 * i, value, true)
    else if (dtype === 'F32') view.setFloat32(4 * i, value, true)
    else view.setUint16(2 * i, encodeHalfFloat(value, dtype === 'F16' ? FLOAT16 : BFLOAT16), true)
  }
  return bytes
}

function headerBytes(bytes: Uint8Array, file: string): Uint8Array {
  if (bytes.length < LENGTH_BYTES) {
    throw malformed(file, 'at least the 8 bytes of the header length', `${bytes.length} bytes`)
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, LENGTH_BYTES)
  // Exact below 2⁵³; larger values exceed every limit anyway.
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32
  const limit = Math.min(bytes.length - LENGTH_BYTES, MAX_HEADER_LENGTH)
  if (length > limit) {
    throw malformed(file, `a header of at most ${limit} bytes`, `a header length of ${length}`)
  }
  return bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length)
}

/** Parses the header and checks it against the `dataLength` bytes that follow it. The tensors are in the order of their data. */
function parseHeader(bytes: Uint8Array, dataLength: number, file: string): SafetensorsHeader {
  if (bytes[0] !== OPEN_BRACE) throw malformed(file, 'a header that begins with {', `byte ${bytes[0]}`)
  const text = decodeUtf8(bytes, file)
  let metadata: Record<string, string> | undefined
  const locations: TensorLocation[] = []
  for (const [name, literal] of jsonMembers(text, file, { maxValues: MAX_TENSORS + 1 })) {
    checkText(name, name, file)
    if (name === '__metadata__') metadata = parseMetadata(literal, file)
    else
      locations.push(
        parseLocation(name, parseJson(literal, file, { maxValues: MAX_DESCRIPTION_VALUES }), file),
      )
  }
  checkIntegers(text, file)
  locations.sort((a, b) => a.begin - b.begin || a.end - b.end)
  let covered = 0
  for (const { name, begin, end } of locations) {
    if (begin !== covered) {
      const fault = begin < covered ? 'overlaps the tensor before it' : 'leaves a gap before it'
      throw invalid(file, name, `data_offsets from ${covered}`, `[${begin}, ${end}], which ${fault}`)
    }
    covered = end
  }
  if (covered !== dataLength) {
    throw malformed(
      file,
      `${covered} bytes of data, as data_offsets of the header declare`,
      `${dataLength} bytes`,
      'check whether the file was cut off, or something was appended',
    )
  }
  return { bytes, locations, ...(metadata && { metadata }) }
}

/** Checks that all numbers in a header are written as counts. The safetensors library rejects `24.0`, `2.4e1` and `-0`. */
function checkIntegers(text: string, file: string): void {
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === QUOTE) {
      for (i++; text.charCodeAt(i) !== QUOTE; i++) if (text.charCodeAt(i) === BACKSLASH) i++
    } else if (c === POINT || c === MINUS || ((c | 0x20) === LETTER_E && isDigit(text.charCodeAt(i - 1)))) {
      let start = i
      while (/[\d.eE+-]/.test(text[start - 1] ?? '')) start--
      const [number] = /^[\d.eE+-]+/.exec(text.slice(start, start + 40)) ?? []
      throw malformed(file, 'sizes and offsets as integers without sign, point or exponent', number)
    }
  }
}

const isDigit = (c: number) => c >= 0x30 && c <= 0x39

/** Rejects halves of surrogate pairs, as the safetensors library does: they are not characters. */
function checkText(text: string, tensor: string, file: string): void {
  if (!/\p{Cs}/u.test(text)) return
  throw invalid(
    file,
    tensor,
    'text of whole characters',
    `half of a surrogate pair in ${JSON.stringify(text)}`,
  )
}

/** Parses the metadata. As in Python, null means that there is no metadata. */
function parseMetadata(literal: string, file: string): Record<string, string> | undefined {
  if (literal === 'null') return undefined
  if (!literal.startsWith('{')) throw invalid(file, '__metadata__', 'an object of strings', literal)
  const metadata: Record<string, string> = {}
  for (const [key, member] of jsonMembers(literal, file, { maxValues: MAX_METADATA })) {
    const text = parseJson(member, file, { maxValues: 1 })
    if (typeof text !== 'string') throw invalid(file, '__metadata__', `a string for ${key}`, text)
    checkText(key, '__metadata__', file)
    checkText(text, '__metadata__', file)
    metadata[key] = text
  }
  return metadata
}

function parseLocation(name: string, value: unknown, file: string): TensorLocation {
  if (!isObject(value)) throw invalid(file, name, 'an object with dtype, shape and data_offsets', value)
  const { dtype, shape, data_offsets: offsets, ...others } = value
  const unknown = Object.keys(others)
  if (unknown.length > 0) throw invalid(file, name, 'only dtype, shape and data_offsets', unknown.join(', '))
  if (!isDtype(dtype)) throw invalid(file, name, `a dtype of ${Object.keys(DTYPE_BITS).join(', ')}`, dtype)
  if (!isCounts(shape)) throw invalid(file, name, 'a shape of integers, 0 or larger', shape)
  if (!isCounts(offsets) || offsets.length !== 2 || offsets[0] > offsets[1]) {
    throw invalid(file, name, 'data_offsets [begin, end]', offsets)
  }
  const [begin, end] = offsets as [number, number]
  if (byteLength(dtype, shape) !== end - begin) throw invalidLength(file, name, { dtype, shape }, end - begin)
  return { name, dtype, shape, begin, end }
}

/** Returns the number of bytes of a tensor; NaN if its bits are not a whole number of bytes, or exceed the safe integers. */
function byteLength(dtype: TensorDtype, shape: readonly number[]): number {
  const bits = shape.includes(0) ? 0 : shape.reduce((product, size) => product * size, DTYPE_BITS[dtype])
  return bits % 8 === 0 && Number.isSafeInteger(bits) ? bits / 8 : NaN
}

function isHeaderOf(
  { locations, metadata }: SafetensorsHeader,
  tensors: ReadonlyMap<string, Tensor>,
  newMetadata: SafetensorsFile['metadata'],
): boolean {
  const keys = Object.keys(newMetadata ?? {})
  return (
    locations.length === tensors.size &&
    locations.every(({ name, dtype, shape }) => {
      const tensor = tensors.get(name)
      return tensor?.dtype === dtype && tensor.shape.join() === shape.join()
    }) &&
    (metadata === undefined) === (newMetadata === undefined) &&
    keys.length === Object.keys(metadata ?? {}).length &&
    keys.every((key) => metadata?.[key] === newMetadata?.[key])
  )
}

function makeHeader(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: SafetensorsFile['metadata'],
): SafetensorsHeader {
  const dtypes = Object.keys(DTYPE_BITS)
  const ordered = [...tensors].sort(
    ([name, tensor], [otherName, other]) =>
      dtypes.indexOf(other.dtype) - dtypes.indexOf(tensor.dtype) || compareUtf8(name, otherName),
  )
  const locations: TensorLocation[] = []
  const descriptions: string[] = []
  if (metadata) {
    const sorted = Object.entries(metadata).sort(([a], [b]) => compareUtf8(a, b))
    const pairs = sorted.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`)
    descriptions.push(`"__metadata__":{${pairs.join()}}`)
  }
  let begin = 0
  for (const [name, { dtype, shape, bytes }] of ordered) {
    const end = begin + bytes.length
    locations.push({ name, dtype, shape, begin, end })
    descriptions.push(
      `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`,
    )
    begin = end
  }
  const text = new TextEncoder().encode(`{${descriptions.join()}}`)
  const bytes = new Uint8Array(Math.ceil(text.length / 8) * 8).fill(SPACE)
  bytes.set(text)
  return { bytes, locations }
}

/** Compares by UTF-8 bytes, which is the order of code points. The order of UTF-16 units differs. */
function compareUtf8(a: string, b: string): number {
  const [left, right] = [Array.from(a), Array.from(b)]
  for (let i = 0; i < left.length && i < right.length; i++) {
    const difference = (left[i].codePointAt(0) ?? 0) - (right[i].codePointAt(0) ?? 0)
    if (difference !== 0) return difference
  }
  return left.length - right.length
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isDtype(value: unknown): value is TensorDtype {
  return typeof value === 'string' && Object.hasOwn(DTYPE_BITS, value)
}

export function isFloatDtype(value: unknown): value is FloatDtype {
  return FLOAT_DTYPES.some((dtype) => dtype === value)
}

function isCounts(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((count) => Number.isSafeInteger(count) && count >= 0)
}

function malformed(file: string, expected: string, received: unknown, advice?: string): FourierFTError {
  return new FourierFTError(
    'INVALID_SAFETENSORS',
    `${file}: not a valid safetensors file: expected ${expected}; received ${describe(received)}`,
    { ...(advice !== undefined && { advice }), file, expected, received },
  )
}

function invalid(file: string, tensor: string, expected: string, received: unknown): FourierFTError {
  return new FourierFTError(
    'INVALID_SAFETENSORS',
    `${file}: tensor ${tensor}: expected ${expected}; received ${describe(received)}`,
    { file, tensor, expected, received },
  )
}

function invalidLength(
  file: string,
  name: string,
  { dtype, shape }: Pick<Tensor, 'dtype' | 'shape'>,
  received: number,
): FourierFTError {
  const bytes = byteLength(dtype, shape)
  const expected = Number.isNaN(bytes) ? 'a whole number of bytes below 2^53' : `${bytes} bytes`
  return invalid(file, name, `${expected} for ${dtype} [${shape}]`, `${received} bytes`)
}

/** Returns a short text for any value of an untrusted file. */
function describe(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}
