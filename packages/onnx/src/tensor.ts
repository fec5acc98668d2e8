/**
 * A tensor of a model as it is stored: its header is read, its data stay where they are, in the file or beside it.
 */
import { FourierFTError } from '@fourierft/core'
import { encodeEntry } from './encode.js'
import { DataType, Entry, EXTERNAL, Tensor } from './schema.js'
import { field, malformed, type WireMessage } from './wire-message.js'

/** Where the data of a tensor lie that is too large for the model's own file. */
export interface ExternalData {
  /** Relative to the folder of the model. */
  readonly location: string
  readonly offset: number
  /** In bytes; undefined: to the end of the file. */
  readonly length: number | undefined
}

export interface OnnxTensor {
  readonly name: string
  readonly dims: readonly number[]
  /** A number of {@link DataType}. */
  readonly dataType: number
  readonly external: ExternalData | undefined
  /**
   * The bytes, little-endian, as a view at any alignment, or as a copy where the file has integers one by one; undefined where they are
   * external, texts, or in another form.
   *
   * @throws FourierFTError SHAPE_MISMATCH: dims and data do not agree
   */
  data(): Uint8Array | undefined
  /** Puts other data of the same dims and type in the place of the old: bytes, or where they will lie beside the model. */
  setData(data: Uint8Array | ExternalData): void
}

/** The size of one number of a {@link DataType}. */
export const BYTES: ReadonlyMap<number, number> = new Map([
  [DataType.float, 4],
  [DataType.uint8, 1],
  [DataType.int8, 1],
  [DataType.uint16, 2],
  [DataType.int16, 2],
  [DataType.int32, 4],
  [DataType.int64, 8],
  [DataType.bool, 1],
  [DataType.float16, 2],
  [DataType.double, 8],
  [DataType.uint32, 4],
  [DataType.uint64, 8],
  [DataType.bfloat16, 2],
])

/** @throws FourierFTError INVALID_ONNX */
export function readTensor(tensor: WireMessage, file: string): OnnxTensor {
  const name = tensor.last(Tensor.name)?.text(`a tensor of ${file}`) ?? ''
  const where = `tensor ${JSON.stringify(name)} of ${file}`
  const dims = tensor
    .all(Tensor.dims)
    .flatMap((field) => field.integers(where).map((size) => count(size, where)))
  const [dataType = 0n] = tensor.last(Tensor.dataType)?.integers(where) ?? []
  const [location] = tensor.last(Tensor.location)?.integers(where) ?? []
  let external = location === EXTERNAL ? readExternal(tensor, where) : undefined
  return {
    name,
    dims,
    dataType: Number(dataType),
    get external() {
      return external
    },
    data,
    setData,
  }

  function setData(made: Uint8Array | ExternalData): void {
    const { floatData, doubleData, int32Data, int64Data, rawData, location } = Tensor
    const old = [floatData, doubleData, int32Data, int64Data, rawData, location, Tensor.external]
    tensor.remove(old.flatMap((number) => tensor.all(number)))
    if (made instanceof Uint8Array) {
      tensor.insert([field(Tensor.rawData, made)])
      external = undefined
      return
    }
    const { offset, length } = made
    const entries = { location: made.location, offset, ...(length === undefined ? {} : { length }) }
    tensor.insert([
      ...Object.entries(entries).map(([key, value]) =>
        field(Tensor.external, encodeEntry(key, String(value))),
      ),
      field(Tensor.location, EXTERNAL),
    ])
    external = made
  }

  function data(): Uint8Array | undefined {
    const stored = tensor.last(Tensor.rawData) ?? onlyField(Tensor.floatData) ?? onlyField(Tensor.doubleData)
    const bytes = external ? undefined : (stored?.value ?? integerBytes())
    if (!bytes) return undefined
    const expected = BYTES.get(Number(dataType))
    const size = dims.reduce((product, dim) => product * dim, expected ?? 0)
    if (expected !== undefined && bytes.length !== size)
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `The ${where} has the dims [${dims.join(', ')}], which take ${size} bytes, but ${bytes.length} are stored. Export the model again.`,
        { file, tensor: name, expected: size, received: bytes.length },
      )
    return bytes
  }

  /** `int32_data` holds all that is smaller too, 16-bit floats as their bits. */
  function integerBytes(): Uint8Array | undefined {
    const fields = [...tensor.all(Tensor.int32Data), ...tensor.all(Tensor.int64Data)]
    const width = BYTES.get(Number(dataType))
    if (fields.length === 0 || width === undefined) return undefined
    const integers = fields.flatMap((one) => one.integers(where))
    const bytes = new Uint8Array(integers.length * width)
    const view = new DataView(bytes.buffer)
    for (const [i, integer] of integers.entries()) {
      if (width === 8) view.setBigInt64(8 * i, integer, true)
      else if (width === 4) view.setInt32(4 * i, Number(BigInt.asIntN(32, integer)), true)
      else if (width === 2) view.setUint16(2 * i, Number(BigInt.asUintN(16, integer)), true)
      else bytes[i] = Number(BigInt.asUintN(8, integer))
    }
    return bytes
  }

  function onlyField(number: number) {
    const fields = tensor.all(number)
    return fields.length === 1 ? fields[0] : undefined
  }
}

function readExternal(tensor: WireMessage, where: string): ExternalData {
  const entries = new Map(
    tensor.all(Tensor.external).map((field) => {
      const entry = field.message(where)
      return [entry.last(Entry.key)?.text(where) ?? '', entry.last(Entry.value)?.text(where) ?? '']
    }),
  )
  const location = entries.get('location')
  if (!location) throw malformed(where, 'its data are external, but no location is given')
  const length = entries.get('length')
  return {
    location,
    offset: decimal(entries.get('offset') ?? '0', where),
    length: length === undefined ? undefined : decimal(length, where),
  }
}

function decimal(text: string, where: string): number {
  if (!/^\d{1,19}$/.test(text)) throw malformed(where, `${JSON.stringify(text)} is no place in a file`)
  return count(BigInt(text), where)
}

function count(value: bigint, where: string): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER))
    throw malformed(where, `it has a size of ${value}`)
  return Number(value)
}
