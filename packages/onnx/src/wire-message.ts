/**
 * A protobuf message as the fields that lie in the file, in their order: what nobody edits is written back bit for bit, known or
 * not. Payloads are views of the file. Bits are read and written by `@bufbuild/protobuf`; its codec of whole messages is not used,
 * for it copies every weight.
 *
 * @see https://protobuf.dev/programming-guides/encoding/
 */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { FourierFTError } from '@fourierft/core'

/** What a field is made of: text, an integer (varint), bytes, or a message. A float is {@link floatField}. */
export type FieldValue = string | number | bigint | Uint8Array | WireMessage

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** One field: its tag (and length) in `head`, its payload in `value`. */
export class WireField {
  readonly number: number
  readonly wireType: WireType
  readonly head: Uint8Array
  readonly value: Uint8Array
  #message: WireMessage | undefined
  readonly #isMade: boolean

  constructor(
    number: number,
    wireType: WireType,
    head: Uint8Array,
    value: Uint8Array,
    message?: WireMessage,
  ) {
    this.number = number
    this.wireType = wireType
    this.head = head
    this.value = value
    this.#message = message
    this.#isMade = message !== undefined
  }

  /** The payload as a message: one object however often it is asked for, so that edits stay. */
  message(where: string): WireMessage {
    this.#message ??= readMessage(this.bytes(where), where)
    return this.#message
  }

  /** @throws FourierFTError INVALID_ONNX: the field has no length */
  bytes(where: string): Uint8Array {
    if (this.wireType !== WireType.LengthDelimited) throw this.#unexpected(where, 'bytes')
    return this.value
  }

  text(where: string): string {
    try {
      return utf8.decode(this.bytes(where))
    } catch (cause) {
      if (cause instanceof FourierFTError) throw cause
      throw malformed(where, `field ${this.number} is no UTF-8 text`, cause)
    }
  }

  /** All integers of the field: one, or the many of a packed field. */
  integers(where: string): bigint[] {
    if (this.wireType !== WireType.Varint && this.wireType !== WireType.LengthDelimited)
      throw this.#unexpected(where, 'integers')
    return guarded(where, () => {
      const reader = new BinaryReader(this.value)
      const integers: bigint[] = []
      while (reader.pos < reader.len) integers.push(BigInt(reader.int64()))
      return integers
    })
  }

  /** All floats (32 bits) of the field: one, or the many of a packed field. */
  floats(where: string): number[] {
    if (this.wireType !== WireType.Bit32 && this.wireType !== WireType.LengthDelimited)
      throw this.#unexpected(where, 'floats')
    return guarded(where, () => {
      const reader = new BinaryReader(this.value)
      const floats: number[] = []
      while (reader.pos < reader.len) floats.push(reader.float())
      return floats
    })
  }

  get isChanged(): boolean {
    return this.#isMade || (this.#message?.isChanged ?? false)
  }

  get size(): number {
    if (!this.#message || !this.isChanged) return this.head.length + this.value.length
    const { size } = this.#message
    return lengthHead(this.number, size).length + size
  }

  writeTo(parts: Uint8Array[]): void {
    if (this.#message && this.isChanged) {
      pushView(parts, lengthHead(this.number, this.#message.size))
      this.#message.writeTo(parts)
    } else {
      pushView(parts, this.head)
      pushView(parts, this.value)
    }
  }

  /** @returns puts the payload back as it is now */
  saved(): () => void {
    const message = this.#message
    const restore = message?.saved()
    return () => {
      this.#message = message
      restore?.()
    }
  }

  #unexpected(where: string, expected: string): FourierFTError {
    return malformed(
      where,
      `field ${this.number} has wire type ${this.wireType}, where ${expected} were expected`,
    )
  }
}

/** Fields in their order, which may be added to, replaced and taken away. */
export class WireMessage {
  #fields: WireField[]
  #edited = false

  constructor(fields: readonly WireField[] = [], edited = false) {
    this.#fields = [...fields]
    this.#edited = edited
  }

  get fields(): readonly WireField[] {
    return this.#fields
  }

  all(number: number): WireField[] {
    return this.#fields.filter((field) => field.number === number)
  }

  /** The field that counts where a file has several: protobuf's last. */
  last(number: number): WireField | undefined {
    return this.#fields.findLast((field) => field.number === number)
  }

  /** Puts fields behind `after`, or at the end. */
  insert(fields: readonly WireField[], after?: WireField): void {
    const at = after ? this.#fields.indexOf(after) + 1 : this.#fields.length
    this.#fields = [...this.#fields.slice(0, at), ...fields, ...this.#fields.slice(at)]
    this.#edited = true
  }

  /** Puts `fields` in the place of `old`. */
  replace(old: WireField, ...fields: WireField[]): void {
    this.#fields = this.#fields.flatMap((field) => (field === old ? fields : [field]))
    this.#edited = true
  }

  /** Takes fields away; those of other messages are passed by. */
  remove(fields: Iterable<WireField>): void {
    const gone = new Set(fields)
    if (gone.size === 0) return
    this.#fields = this.#fields.filter((field) => !gone.has(field))
    this.#edited = true
  }

  get isChanged(): boolean {
    return this.#edited || this.#fields.some((field) => field.isChanged)
  }

  get size(): number {
    return this.#fields.reduce((sum, field) => sum + field.size, 0)
  }

  writeTo(parts: Uint8Array[]): void {
    for (const field of this.#fields) field.writeTo(parts)
  }

  /** @returns puts all fields back as they are now */
  saved(): () => void {
    const [fields, edited] = [this.#fields, this.#edited]
    const restore = fields.map((field) => field.saved())
    return () => {
      this.#fields = fields
      this.#edited = edited
      for (const each of restore) each()
    }
  }
}

/**
 * Indexes the fields of a message; no payload is copied.
 *
 * @param where file, node or tensor, for the message of an error
 * @throws FourierFTError INVALID_ONNX: cut off, a length beyond the end, an illegal tag, a group (ONNX has none)
 */
export function readMessage(bytes: Uint8Array, where: string): WireMessage {
  return guarded(where, () => {
    const reader = new BinaryReader(bytes)
    const fields: WireField[] = []
    while (reader.pos < reader.len) {
      const start = reader.pos
      const [number, wireType] = reader.tag()
      if (wireType === WireType.StartGroup || wireType === WireType.EndGroup)
        throw malformed(where, `field ${number} is a group, which no ONNX file has`)
      let from = reader.pos
      if (wireType === WireType.LengthDelimited) {
        const { length } = reader.bytes()
        from = reader.pos - length
      } else {
        reader.skip(wireType, number)
      }
      fields.push(
        new WireField(number, wireType, bytes.subarray(start, from), bytes.subarray(from, reader.pos)),
      )
    }
    return new WireMessage(fields)
  })
}

/** A new field; bytes are kept as a view. */
export function field(number: number, value: FieldValue): WireField {
  if (typeof value === 'string') return field(number, new TextEncoder().encode(value))
  if (value instanceof WireMessage)
    return new WireField(number, WireType.LengthDelimited, new Uint8Array(), new Uint8Array(), value)
  if (value instanceof Uint8Array)
    return new WireField(number, WireType.LengthDelimited, lengthHead(number, value.length), value)
  const head = new BinaryWriter().tag(number, WireType.Varint).finish()
  return new WireField(number, WireType.Varint, head, new BinaryWriter().int64(value).finish())
}

/** A new field of one 32-bit float. */
export function floatField(number: number, value: number): WireField {
  const head = new BinaryWriter().tag(number, WireType.Bit32).finish()
  return new WireField(number, WireType.Bit32, head, new BinaryWriter().float(value).finish())
}

/** A new message of new fields. */
export function message(...fields: readonly WireField[]): WireMessage {
  return new WireMessage(fields, true)
}

/** What is thrown for a file that is not what ONNX's schema says. */
export function malformed(where: string, problem: string, cause?: unknown): FourierFTError {
  return new FourierFTError(
    'INVALID_ONNX',
    `${where} is no valid ONNX: ${problem}. Check that the file is a complete .onnx model; export or download it again.`,
    { file: where, ...(cause === undefined ? {} : { cause }) },
  )
}

function guarded<T>(where: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    if (cause instanceof FourierFTError) throw cause
    throw malformed(where, cause instanceof Error ? cause.message : String(cause), cause)
  }
}

function lengthHead(number: number, length: number): Uint8Array {
  return new BinaryWriter().tag(number, WireType.LengthDelimited).uint32(length).finish()
}

/** Adds a view; what lies side by side in one buffer becomes one view again. */
function pushView(parts: Uint8Array[], view: Uint8Array): void {
  if (view.length === 0) return
  const last = parts.at(-1)
  if (last && last.buffer === view.buffer && last.byteOffset + last.byteLength === view.byteOffset)
    parts[parts.length - 1] = new Uint8Array(last.buffer, last.byteOffset, last.length + view.length)
  else parts.push(view)
}
