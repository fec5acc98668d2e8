/**
 * Reads a model without its weights: the result refers to them as external data in the original file. So a multi-gigabyte model can be
 * edited, and opened by ONNX Runtime.
 *
 * @see ONNX's docs/ExternalData.md
 */
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import { invalidOnnx } from './invalid-onnx.js'
import { MemoryBudget } from './memory-budget.js'
import { OnnxModel } from './model.js'
import { Graph, Model, Tensor } from './schema.js'
import { readTensor } from './tensor.js'
import { field, WireField, WireMessage } from './wire-message.js'

/** Reads `length` bytes of the file from `offset` on. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>

export interface ModelFileOptions {
  /** The size of the whole file in bytes. */
  readonly size: number
  /** The file's name in its folder, which becomes the location of its weights. */
  readonly location: string
  /** The name in error messages. Default: `location` */
  readonly file?: string
  /** Tensors of at most this many bytes are read, because runtimes need shapes and other small constants early. Default: 4096 */
  readonly inlineUpTo?: number
}

/** The number of bytes read at a time. Everything except the weights is close together. */
const WINDOW = 65_536
/** The largest number of bytes before a payload: 5 of the tag, 10 of the length. */
const MAX_FIELD_HEADER = 15

/** The location of one field in the file. */
interface FieldLocation {
  readonly number: number
  readonly wireType: WireType
  /** The offset of the field's tag. */
  readonly start: number
  /** The payload is at `[payloadStart, end)`. */
  readonly payloadStart: number
  readonly end: number
}

/**
 * Reads the model. The bytes that it writes refer to the original file: give a runtime the folder of that file
 * (`session.model_external_initializers_file_folder_path` of ONNX Runtime).
 *
 * @throws {FourierFTError} `INVALID_ONNX`, as `readModel` does
 */
export async function readModelFile(
  read: ReadAt,
  { size, location: fileName, file = fileName, inlineUpTo = 4096 }: ModelFileOptions,
): Promise<OnnxModel> {
  const bytesAt = windowed(read, size)
  const budget = new MemoryBudget(size)
  const fields = await mapFields(0, size, async (location) =>
    location.number === Model.graph && location.wireType === WireType.LengthDelimited
      ? field(Model.graph, messageOf(await mapFields(location.payloadStart, location.end, graphField)))
      : readField(location),
  )
  return new OnnxModel(messageOf(fields), file)

  function messageOf(fields: readonly WireField[]): WireMessage {
    const message = new WireMessage(file, undefined, budget)
    message.insert(fields)
    return message
  }

  async function graphField(location: FieldLocation): Promise<WireField> {
    const { number, wireType, payloadStart, end } = location
    const isLarge = end - payloadStart > inlineUpTo && wireType === WireType.LengthDelimited
    if (number !== Graph.initializer || !isLarge) return readField(location)
    let data: FieldLocation | undefined
    const header = await mapFields(payloadStart, end, async (inner) => {
      if (inner.number !== Tensor.rawData || inner.end - inner.payloadStart <= inlineUpTo)
        return readField(inner)
      data = inner
      return undefined
    })
    if (!data) return readField(location)
    const message = messageOf(header)
    // `readTensor` requests the message before each read and each edit.
    const source = { read: () => message, edit: () => message }
    const { payloadStart: offset, end: dataEnd } = data
    readTensor(source, file).setData({ location: fileName, offset, length: dataEnd - offset })
    return field(Graph.initializer, message)
  }

  async function readField({
    number,
    wireType,
    start,
    payloadStart,
    end,
  }: FieldLocation): Promise<WireField> {
    // Two objects: the field and its bytes.
    budget.take('field', 2, file)
    const bytes = new Uint8Array(await bytesAt(start, end - start))
    return new WireField(number * 8 + wireType, bytes, 0, payloadStart - start, end - start)
  }

  /** Maps the fields in `[start, end)` of the file. Fields for which `map` returns undefined are left out. */
  async function mapFields(
    start: number,
    end: number,
    map: (location: FieldLocation) => Promise<WireField | undefined>,
  ): Promise<WireField[]> {
    const mapped: WireField[] = []
    for (let offset = start; offset < end; ) {
      const location = locationOf(await bytesAt(offset, Math.min(MAX_FIELD_HEADER, end - offset)), offset)
      const { number, end: fieldEnd } = location
      if (fieldEnd > end)
        throw invalidOnnx(file, `field ${number} at ${offset} ends at ${fieldEnd}, beyond the end at ${end}`)
      const result = await map(location)
      if (result) mapped.push(result)
      offset = fieldEnd
    }
    return mapped
  }

  function locationOf(header: Uint8Array, start: number): FieldLocation {
    try {
      const reader = new BinaryReader(header)
      const [number, wireType] = reader.tag()
      if (wireType === WireType.StartGroup || wireType === WireType.EndGroup)
        throw new Error(`field ${number} is a group, which no ONNX file has`)
      if (wireType === WireType.LengthDelimited) {
        const length = Number(reader.uint64())
        const payloadStart = start + reader.pos
        return { number, wireType, start, payloadStart, end: payloadStart + length }
      }
      const payloadStart = start + reader.pos
      reader.skip(wireType, number)
      return { number, wireType, start, payloadStart, end: start + reader.pos }
    } catch (cause) {
      throw invalidOnnx(file, `at ${start}: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
    }
  }
}

/** Makes `read` read ahead. The view that it then gives is valid until the next call. */
function windowed(read: ReadAt, size: number): ReadAt {
  let start = 0
  let window: Uint8Array = new Uint8Array()
  return async (offset, length) => {
    if (offset < start || offset + length > start + window.length) {
      window = await read(offset, Math.min(Math.max(length, WINDOW), size - offset))
      start = offset
    }
    return window.subarray(offset - start, offset - start + length)
  }
}
