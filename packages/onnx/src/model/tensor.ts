/**
 * A tensor of a model as it is stored: its header is read, its data stay where they are, in the file or beside it.
 */
import { FourierFTError } from '@fourierft/core'
import { encodeEntry } from './encode.js'
import { invalidOnnx, type Where } from './invalid-onnx.js'
import { DataType, EXTERNAL, Tensor } from './schema.js'
import { readStringMap } from './string-map.js'
import { field, type WireMessage } from './wire-message.js'

/** Where the data of a tensor lie that is too large for the model's own file. */
export interface ExternalData {
  /** Relative to the folder of the model. */
  readonly location: string
  readonly offset: number
  /** In bytes; undefined: to the end of the file. */
  readonly length: number | undefined
}

/** Reads bytes of an external file. */
export type ReadExternal = (
  location: string,
  offset: number,
  length: number,
) => Uint8Array | Promise<Uint8Array>

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

/** NumPy and PyTorch end at 64. */
const MOST_DIMS = 64

/** @throws FourierFTError INVALID_ONNX: more dims than any tensor has */
export function checkRank(rank: number, where: Where): void {
  if (rank > MOST_DIMS) throw invalidOnnx(where, `it has ${rank} dims; ${MOST_DIMS} are the most`)
}

/** Where a tensor is in the file: its message to be read, and to be edited. */
export interface TensorSource {
  read(): WireMessage | undefined
  edit(): WireMessage | undefined
}

/** @throws FourierFTError INVALID_ONNX */
export function readTensor(source: TensorSource, file: string): OnnxTensor {
  return new StoredTensor(source, file)
}

type ReadInteger = (view: DataView, at: number) => number | bigint
/** Of each type of whole numbers, how a `DataView` reads one. */
const INTEGERS: ReadonlyMap<number, ReadInteger> = new Map<number, ReadInteger>([
  [DataType.uint8, (view, at) => view.getUint8(at)],
  [DataType.int8, (view, at) => view.getInt8(at)],
  [DataType.uint16, (view, at) => view.getUint16(at, true)],
  [DataType.int16, (view, at) => view.getInt16(at, true)],
  [DataType.uint32, (view, at) => view.getUint32(at, true)],
  [DataType.int32, (view, at) => view.getInt32(at, true)],
  [DataType.uint64, (view, at) => view.getBigUint64(at, true)],
  [DataType.int64, (view, at) => view.getBigInt64(at, true)],
])

/** The numbers of a tensor of whole numbers, wherever its bytes lie; undefined: another type, or data that are external. */
export function integersOf(tensor: OnnxTensor): number[] | undefined {
  const get = INTEGERS.get(tensor.dataType)
  const bytes = get && tensor.data()
  if (!get || !bytes) return undefined
  const width = BYTES.get(tensor.dataType) ?? 1
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Array.from({ length: bytes.byteLength / width }, (_, i) => Number(get(view, i * width)))
}

class StoredTensor implements OnnxTensor {
  readonly name: string
  readonly dims: readonly number[]
  readonly dataType: number
  readonly #file: string
  readonly #source: TensorSource
  #external: ExternalData | undefined

  constructor(source: TensorSource, file: string) {
    this.#source = source
    this.#file = file
    this.name = ''
    this.dims = []
    const message = this.#read()
    this.name = message.text(Tensor.name) ?? ''
    checkRank(message.countIntegers(Tensor.dims), this)
    this.dims = Array.from(message.integers(Tensor.dims), (size) => count(size, this))
    this.dataType = Number(message.integer(Tensor.dataType) ?? 0n)
    if (message.integer(Tensor.location) === EXTERNAL) this.#external = readExternal(message, this)
  }

  /** What it is called in the message of an error. */
  get where(): string {
    return `tensor ${JSON.stringify(this.name)} of ${this.#file}`
  }

  get external(): ExternalData | undefined {
    return this.#external
  }

  readonly data = (): Uint8Array | undefined => {
    if (this.#external) return undefined
    const message = this.#read()
    const stored =
      message.bytes(Tensor.rawData) ??
      onlyBytes(message, Tensor.floatData) ??
      onlyBytes(message, Tensor.doubleData)
    if (stored) this.#checkSize(stored.length)
    return stored ?? this.#integerBytes(message)
  }

  setData(made: Uint8Array | ExternalData): void {
    const message = this.#source.edit()
    if (!message) throw invalidOnnx(this, 'it is not in the file any more')
    const { floatData, doubleData, int32Data, int64Data, rawData, location } = Tensor
    const old = [floatData, doubleData, int32Data, int64Data, rawData, location, Tensor.external]
    message.remove(old.flatMap((number) => message.all(number)))
    if (made instanceof Uint8Array) {
      message.insert([field(Tensor.rawData, made)])
      this.#external = undefined
      return
    }
    const { offset, length } = made
    const entries = { location: made.location, offset, ...(length === undefined ? {} : { length }) }
    message.insert([
      ...Object.entries(entries).map(([key, value]) =>
        field(Tensor.external, encodeEntry(key, String(value))),
      ),
      field(Tensor.location, EXTERNAL),
    ])
    this.#external = made
  }

  #read(): WireMessage {
    const message = this.#source.read()
    if (message) return message
    throw invalidOnnx(this, 'it is not in the file any more')
  }

  #checkSize(received: number): void {
    const width = BYTES.get(this.dataType)
    if (width === undefined) return
    const size = this.dims.reduce((product, dim) => product * dim, width)
    if (received !== size)
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `The ${this.where} has the dims [${this.dims.join(', ')}], which take ${size} bytes, but ${received} are stored. Export the model again.`,
        { file: this.#file, tensor: this.name, expected: size, received },
      )
  }

  /** `int32_data` holds all that is smaller too, 16-bit floats as their bits. */
  #integerBytes(message: WireMessage): Uint8Array | undefined {
    const width = BYTES.get(this.dataType)
    if (width === undefined) return undefined
    const { int32Data, int64Data } = Tensor
    if (message.count(int32Data) + message.count(int64Data) === 0) return undefined
    const size = width * (message.countIntegers(int32Data) + message.countIntegers(int64Data))
    this.#checkSize(size)
    const bytes = new Uint8Array(size)
    const view = new DataView(bytes.buffer)
    let at = 0
    const put = (low: number, high: number) => {
      if (width >= 4) view.setInt32(at, low, true)
      else if (width === 2) view.setInt16(at, low, true)
      else view.setInt8(at, low)
      if (width === 8) view.setInt32(at + 4, high, true)
      at += width
    }
    message.eachInteger(int32Data, put)
    message.eachInteger(int64Data, put)
    return bytes
  }
}

/** The payload, if there is one such field: several are not one run of bytes. */
function onlyBytes(message: WireMessage, number: number): Uint8Array | undefined {
  return message.count(number) === 1 ? message.bytes(number) : undefined
}

function readExternal(message: WireMessage, where: Where): ExternalData {
  const entries = readStringMap(message, Tensor.external, where)
  const location = entries.get('location')
  if (!location) throw invalidOnnx(where, 'its data are external, but no location is given')
  const length = entries.get('length')
  return {
    location,
    offset: decimal(entries.get('offset') ?? '0', where),
    length: length === undefined ? undefined : decimal(length, where),
  }
}

function decimal(text: string, where: Where): number {
  if (!/^\d{1,19}$/.test(text)) throw invalidOnnx(where, `${JSON.stringify(text)} is no place in a file`)
  return count(BigInt(text), where)
}

function count(value: bigint, where: Where): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER))
    throw invalidOnnx(where, `it has a size of ${value}`)
  return Number(value)
}
