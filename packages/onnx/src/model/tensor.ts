/** A tensor of a model as it is stored. Its header is read; its data stay in the model's file or an external file. */
import { FourierFTError } from '@fourierft/core'
import { encodeEntry } from './encode.js'
import { invalidOnnx, type Where } from './invalid-onnx.js'
import { DataType, EXTERNAL, Tensor } from './schema.js'
import { readStringMap } from './string-map.js'
import { field, type WireMessage } from './wire-message.js'

/** The location of a tensor's data in a file beside the model. */
export interface ExternalData {
  /** The path of the file, relative to the folder of the model. */
  readonly location: string
  readonly offset: number
  /** In bytes; undefined means to the end of the file. */
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
   * Returns the bytes, little-endian: a view at any alignment, or a copy if the file stores integers one by one. Undefined for external
   * data, strings, and other forms of storage.
   *
   * @throws {FourierFTError} `SHAPE_MISMATCH` if the data do not fit the dims
   */
  data(): Uint8Array | undefined
  /** Replaces the data, with the same dims and type: by bytes, or by a location in an external file. */
  setData(data: Uint8Array | ExternalData): void
}

/** The size in bytes of one number of each {@link DataType}. */
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

/** Returns the size in bytes of a tensor's data; 0 for types that have no fixed width. */
export function byteLengthOf({ dims, dataType }: Pick<OnnxTensor, 'dims' | 'dataType'>): number {
  return dims.reduce((product, size) => product * size, BYTES.get(dataType) ?? 0)
}

/** The limit of NumPy and PyTorch. */
const MAX_DIMS = 64

/** Checks the number of dims. @throws {FourierFTError} `INVALID_ONNX` if it is larger than that of any tensor */
export function checkRank(rank: number, where: Where): void {
  if (rank > MAX_DIMS) throw invalidOnnx(where, `it has ${rank} dims, more than ${MAX_DIMS}`)
}

/** Gives the message of a tensor, for reading and for editing. */
export interface TensorSource {
  read(): WireMessage | undefined
  edit(): WireMessage | undefined
}

/** Reads the header of a tensor. @throws {FourierFTError} `INVALID_ONNX` */
export function readTensor(source: TensorSource, file: string): OnnxTensor {
  return new StoredTensor(source, file)
}

type ReadInteger = (view: DataView, offset: number) => number | bigint
/** The functions that read one number of each integer type from a `DataView`. */
const INTEGERS: ReadonlyMap<number, ReadInteger> = new Map<number, ReadInteger>([
  [DataType.uint8, (view, offset) => view.getUint8(offset)],
  [DataType.int8, (view, offset) => view.getInt8(offset)],
  [DataType.uint16, (view, offset) => view.getUint16(offset, true)],
  [DataType.int16, (view, offset) => view.getInt16(offset, true)],
  [DataType.uint32, (view, offset) => view.getUint32(offset, true)],
  [DataType.int32, (view, offset) => view.getInt32(offset, true)],
  [DataType.uint64, (view, offset) => view.getBigUint64(offset, true)],
  [DataType.int64, (view, offset) => view.getBigInt64(offset, true)],
])

/** Returns the numbers of a tensor of integers; undefined for other types and external data. */
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

  /** Its description in error messages. */
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

  setData(data: Uint8Array | ExternalData): void {
    const message = this.#source.edit()
    if (!message) throw invalidOnnx(this, 'it is no longer in the file')
    const { floatData, doubleData, int32Data, int64Data, rawData, location } = Tensor
    const old = [floatData, doubleData, int32Data, int64Data, rawData, location, Tensor.external]
    message.remove(old.flatMap((number) => message.all(number)))
    if (data instanceof Uint8Array) {
      message.insert([field(Tensor.rawData, data)])
      this.#external = undefined
      return
    }
    const { offset, length } = data
    const entries = { location: data.location, offset, ...(length === undefined ? {} : { length }) }
    message.insert([
      ...Object.entries(entries).map(([key, value]) =>
        field(Tensor.external, encodeEntry(key, String(value))),
      ),
      field(Tensor.location, EXTERNAL),
    ])
    this.#external = data
  }

  #read(): WireMessage {
    const message = this.#source.read()
    if (message) return message
    throw invalidOnnx(this, 'it is no longer in the file')
  }

  #checkSize(received: number): void {
    const width = BYTES.get(this.dataType)
    if (width === undefined) return
    const size = this.dims.reduce((product, dim) => product * dim, width)
    if (received !== size)
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `the ${this.where} has the dims [${this.dims.join(', ')}], which take ${size} bytes, but ${received} are stored`,
        {
          file: this.#file,
          tensor: this.name,
          expected: size,
          received,
          advice: 'export the model again',
        },
      )
  }

  /** Reads integers that are stored one by one. `int32_data` also holds all smaller types, and 16-bit floats as their bits. */
  #integerBytes(message: WireMessage): Uint8Array | undefined {
    const width = BYTES.get(this.dataType)
    if (width === undefined) return undefined
    const { int32Data, int64Data } = Tensor
    if (message.count(int32Data) + message.count(int64Data) === 0) return undefined
    const size = width * (message.countIntegers(int32Data) + message.countIntegers(int64Data))
    this.#checkSize(size)
    const bytes = new Uint8Array(size)
    const view = new DataView(bytes.buffer)
    let offset = 0
    const put = (low: number, high: number) => {
      if (width >= 4) view.setInt32(offset, low, true)
      else if (width === 2) view.setInt16(offset, low, true)
      else view.setInt8(offset, low)
      if (width === 8) view.setInt32(offset + 4, high, true)
      offset += width
    }
    message.eachInteger(int32Data, put)
    message.eachInteger(int64Data, put)
    return bytes
  }
}

/** Returns the payload if there is exactly one such field: those of several fields are not contiguous. */
function onlyBytes(message: WireMessage, number: number): Uint8Array | undefined {
  return message.count(number) === 1 ? message.bytes(number) : undefined
}

function readExternal(message: WireMessage, where: Where): ExternalData {
  const entries = readStringMap(message, Tensor.external, where)
  const location = entries.get('location')
  if (!location) throw invalidOnnx(where, 'its data are external, but it has no location')
  const length = entries.get('length')
  return {
    location,
    offset: decimal(entries.get('offset') ?? '0', where),
    length: length === undefined ? undefined : decimal(length, where),
  }
}

function decimal(text: string, where: Where): number {
  if (!/^\d{1,19}$/.test(text))
    throw invalidOnnx(where, `${JSON.stringify(text)} is not an offset or a length in a file`)
  return count(BigInt(text), where)
}

function count(value: bigint, where: Where): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER))
    throw invalidOnnx(where, `it has a size of ${value}`)
  return Number(value)
}
