/**
 * Reads a model from its file without the weights: they stay where they are, and the model refers to them as external data of its own
 * file. So a model of gigabytes is edited, and opened by ONNX Runtime, without being read.
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

/** Gives `length` bytes of the file from `offset` on. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>

export interface ModelFileOptions {
  /** Of the whole file, in bytes. */
  readonly size: number
  /** The file's name in its folder: where its weights are from now on. */
  readonly location: string
  /** For the messages of errors; default: `location`. */
  readonly file?: string
  /** Tensors of at most this many bytes are read: runtimes want shapes and other small constants at hand. Default: 4096 */
  readonly inlineUpTo?: number
}

/** So much is read at once, for what is no weight lies side by side. */
const WINDOW = 65_536
/** A tag has at most 5 bytes, an integer 10. */
const LONGEST_HEAD = 15

/** Where one field lies in the file. */
interface Place {
  readonly number: number
  readonly wireType: WireType
  readonly start: number
  readonly from: number
  readonly to: number
}

/**
 * Reads the model. What is written of it is only good beside its file: give a runtime the folder of the file
 * (`session.model_external_initializers_file_folder_path` of ONNX Runtime).
 *
 * @throws {FourierFTError} `INVALID_ONNX`, as `readModel`
 */
export async function readModelFile(
  read: ReadAt,
  { size, location, file = location, inlineUpTo = 4096 }: ModelFileOptions,
): Promise<OnnxModel> {
  const bytesAt = windowed(read, size)
  const budget = new MemoryBudget(size)
  const fields = await mapFields(0, size, async (place) =>
    place.number === Model.graph && place.wireType === WireType.LengthDelimited
      ? field(Model.graph, messageOf(await mapFields(place.from, place.to, graphField)))
      : whole(place),
  )
  return new OnnxModel(messageOf(fields), file)

  function messageOf(fields: readonly WireField[]): WireMessage {
    const made = new WireMessage(file, undefined, budget)
    made.insert(fields)
    return made
  }

  async function graphField(place: Place): Promise<WireField> {
    const isLarge = place.to - place.from > inlineUpTo && place.wireType === WireType.LengthDelimited
    if (place.number !== Graph.initializer || !isLarge) return whole(place)
    let data: Place | undefined
    const header = await mapFields(place.from, place.to, async (part) => {
      if (part.number !== Tensor.rawData || part.to - part.from <= inlineUpTo) return whole(part)
      data = part
      return undefined
    })
    if (!data) return whole(place)
    const message = messageOf(header)
    const source = { read: () => message, edit: () => message }
    readTensor(source, file).setData({ location, offset: data.from, length: data.to - data.from })
    return field(Graph.initializer, message)
  }

  async function whole({ number, wireType, start, from, to }: Place): Promise<WireField> {
    // The field and its bytes are an object each.
    budget.take('field', 2, file)
    const bytes = new Uint8Array(await bytesAt(start, to - start))
    return new WireField(number * 8 + wireType, bytes, 0, from - start, to - start)
  }

  /** Each field between two places of the file, as the function gives it; those that it does not give are left out. */
  async function mapFields(
    from: number,
    to: number,
    map: (place: Place) => Promise<WireField | undefined>,
  ): Promise<WireField[]> {
    const mapped: WireField[] = []
    for (let at = from; at < to; ) {
      const place = positionOf(await bytesAt(at, Math.min(LONGEST_HEAD, to - at)), at)
      if (place.to > to)
        throw invalidOnnx(file, `field ${place.number} at ${at} ends at ${place.to}, beyond the end at ${to}`)
      const one = await map(place)
      if (one) mapped.push(one)
      at = place.to
    }
    return mapped
  }

  function positionOf(head: Uint8Array, start: number): Place {
    try {
      const reader = new BinaryReader(head)
      const [number, wireType] = reader.tag()
      if (wireType === WireType.StartGroup || wireType === WireType.EndGroup)
        throw new Error(`field ${number} is a group, which no ONNX file has`)
      if (wireType === WireType.LengthDelimited) {
        const length = Number(reader.uint64())
        const from = start + reader.pos
        return { number, wireType, start, from, to: from + length }
      }
      const from = start + reader.pos
      reader.skip(wireType, number)
      return { number, wireType, start, from, to: start + reader.pos }
    } catch (cause) {
      throw invalidOnnx(file, `at ${start}: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
    }
  }
}

/** Reads ahead. What is given is valid until the next call. */
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
