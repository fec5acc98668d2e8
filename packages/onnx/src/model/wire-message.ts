/**
 * A protobuf message as the fields of the file, in their order. Unedited fields, known or unknown, are written back bit for bit. While a
 * message is only read, it is kept as bytes, and a request scans them. The first edit turns the fields into objects. Payloads are views of
 * the file. `@bufbuild/protobuf` reads and writes numbers; its codec for whole messages is not used because it copies every weight.
 *
 * @see https://protobuf.dev/programming-guides/encoding/
 */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { guarded, invalidOnnx, type Where } from './invalid-onnx.js'
import { MemoryBudget } from './memory-budget.js'

/** The value of a new field: text, an integer (varint), bytes, or a message. For a float see {@link floatField}. */
export type FieldValue = string | number | bigint | Uint8Array | WireMessage

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const NO_BYTES = new Uint8Array()
const NOTHING: Source = { bytes: NO_BYTES, start: 0, end: 0 }
/** Strings up to this length are usually names. */
const MAX_QUICK_TEXT = 128

/** Receives the lower and the upper 32 bits of an integer, both signed. */
export type TakeHalves = (low: number, high: number) => void

const IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1

/** A field: its number and type, and the location of its payload. */
class EncodedField {
  /** Number and type together, as the file stores them. */
  protected tag: number
  /** The bytes of the file, or of a new payload. */
  protected bytes: Uint8Array
  /** The offset of the field's header. New fields have none: their headers are encoded when they are written. */
  protected start: number
  /** The payload is at `[payloadStart, end)`. */
  protected payloadStart: number
  protected end: number

  constructor(tag: number, bytes: Uint8Array, start: number, payloadStart: number, end: number) {
    this.tag = tag
    this.bytes = bytes
    this.start = start
    this.payloadStart = payloadStart
    this.end = end
  }

  set(tag: number, bytes: Uint8Array, start: number, payloadStart: number, end: number): void {
    this.tag = tag
    this.bytes = bytes
    this.start = start
    this.payloadStart = payloadStart
    this.end = end
  }

  get number(): number {
    return this.tag >>> 3
  }

  get wireType(): WireType {
    return this.tag & 7
  }

  /** The payload, as a view. */
  get value(): Uint8Array {
    return this.bytes.subarray(this.payloadStart, this.end)
  }

  /** Decodes the payload as a string. @throws {FourierFTError} `INVALID_ONNX` if the field is not text */
  text(where: Where): string {
    if (this.wireType !== WireType.LengthDelimited) throw this.unexpected(where, 'text')
    return this.#quickText() ?? guarded(where, () => utf8.decode(this.value))
  }

  /** Decodes short ASCII strings, such as names, faster than a call of the decoder. */
  #quickText(): string | undefined {
    const { bytes, payloadStart, end } = this
    if (end - payloadStart > MAX_QUICK_TEXT) return undefined
    for (let offset = payloadStart; offset < end; offset++) if (bytes[offset] > 127) return undefined
    return Reflect.apply(String.fromCharCode, null, bytes.subarray(payloadStart, end))
  }

  /** Counts the integers in the field: one, or several in a packed field. */
  countIntegers(where: Where): number {
    if (this.wireType === WireType.Varint) return 1
    if (this.wireType !== WireType.LengthDelimited) throw this.unexpected(where, 'integers')
    let count = 0
    for (let offset = this.payloadStart; offset < this.end; offset++) if (this.bytes[offset] < 128) count++
    return count
  }

  /** Passes all integers of the field to `take`, in halves, because a `bigint` is an object, and there may be millions of integers. */
  eachInteger(where: Where, take: TakeHalves): void {
    const { bytes, end } = this
    for (let offset = this.payloadStart; offset < end; ) {
      let low = 0
      let high = 0
      let byte = 128
      for (let i = 0; byte > 127; i++) {
        if (offset === end || i === 10)
          throw invalidOnnx(where, `field ${this.number} has an integer that does not end`)
        byte = bytes[offset++]
        const bits = byte & 127
        if (i < 5) low |= bits << (7 * i)
        if (i === 4) high = bits >> 4
        if (i > 4) high |= bits << (7 * i - 32)
      }
      take(low, high)
    }
  }

  /** Returns the first integer of the field; undefined for an empty packed field. */
  integer(where: Where): bigint | undefined {
    if (this.wireType !== WireType.Varint && this.wireType !== WireType.LengthDelimited)
      throw this.unexpected(where, 'integers')
    if (this.payloadStart === this.end) return undefined
    return guarded(where, () => BigInt(new BinaryReader(this.value).int64()))
  }

  /** Returns all floats (32 bits) of the field: one, or several in a packed field. */
  floats(where: Where): Float32Array {
    if (this.wireType !== WireType.Bit32 && this.wireType !== WireType.LengthDelimited)
      throw this.unexpected(where, 'floats')
    const { buffer, byteOffset, byteLength } = this.value
    if (byteLength % 4 > 0) throw invalidOnnx(where, `field ${this.number} ends within a float`)
    const view = new DataView(buffer, byteOffset, byteLength)
    return Float32Array.from({ length: byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true))
  }

  /** Returns the payload as a message. Do not edit it: each call may return a new object. */
  readOnlyMessage(where: Where): WireMessage {
    if (this.wireType !== WireType.LengthDelimited) throw this.unexpected(where, 'a message')
    return new WireMessage(where, { bytes: this.bytes, start: this.payloadStart, end: this.end })
  }

  protected unexpected(where: Where, expected: string) {
    return invalidOnnx(
      where,
      `field ${this.number}: expected ${expected}; received wire type ${this.wireType}`,
    )
  }
}

/** Reads the fields of a message one after the other. This one object describes the current field until `next` is called. */
export class Cursor extends EncodedField {
  readonly #messageEnd: number
  readonly #where: Where
  /** The next field of a message whose fields are objects. */
  #nextField: WireField | undefined
  #field: WireField | undefined

  constructor(where: Where, { bytes, start, end }: Source, first?: WireField) {
    super(0, bytes, start, start, start)
    this.#messageEnd = end
    this.#where = where
    this.#nextField = first
  }

  /** Moves to the next field, or to the next one of that number. @returns whether there is one @throws {FourierFTError} `INVALID_ONNX` */
  next(number?: number): boolean {
    while (this.#nextField ? this.#follow(this.#nextField) : this.#advance())
      if (number === undefined || this.tag >>> 3 === number) return true
    return false
  }

  override readOnlyMessage(where: Where): WireMessage {
    return this.#field?.readOnlyMessage(where) ?? super.readOnlyMessage(where)
  }

  /** Returns the current field as a separate object. */
  field(): WireField {
    return new WireField(this.tag, this.bytes, this.start, this.payloadStart, this.end)
  }

  #follow(field: WireField): boolean {
    field.copyLocationTo(this)
    this.#field = field
    this.#nextField = field.next
    return true
  }

  #advance(): boolean {
    const messageEnd = this.#messageEnd
    // After the last field object there are no bytes to scan.
    if (this.#field || this.end >= messageEnd) return false
    this.start = this.end
    const tag = this.#varint()
    const wireType = tag & 7
    if (tag < 8 || tag >= 2 ** 32) throw invalidOnnx(this.#where, `there is no field at byte ${this.start}`)
    this.tag = tag
    if (wireType === WireType.LengthDelimited) {
      const length = this.#varint()
      this.payloadStart = this.end
      if (length > messageEnd - this.payloadStart)
        throw invalidOnnx(
          this.#where,
          `field ${this.number} has ${length} bytes, but ${messageEnd - this.payloadStart} are left`,
        )
      this.end = this.payloadStart + length
      return true
    }
    this.payloadStart = this.end
    if (wireType === WireType.Varint) this.#varint()
    else if (wireType === WireType.Bit64) this.end += 8
    else if (wireType === WireType.Bit32) this.end += 4
    else if (wireType === WireType.StartGroup || wireType === WireType.EndGroup)
      throw invalidOnnx(this.#where, `field ${this.number} is a group, which no ONNX file has`)
    else throw invalidOnnx(this.#where, `field ${this.number} has the unknown wire type ${wireType}`)
    if (this.end > messageEnd) throw invalidOnnx(this.#where, `it ends within field ${this.number}`)
    return true
  }

  /** Reads a number and moves past it. */
  #varint(): number {
    const { bytes } = this
    let value = 0
    let factor = 1
    for (let i = 0; i < 10; i++) {
      if (this.end >= this.#messageEnd) throw invalidOnnx(this.#where, 'it ends within a number')
      const byte = bytes[this.end++]
      value += (byte & 127) * factor
      if (byte < 128) return value
      factor *= 128
    }
    throw invalidOnnx(this.#where, 'a number has more than ten bytes')
  }
}

/** One field of a message that can be edited. */
export class WireField extends EncodedField {
  /** The message that contains the field, and the field's neighbours there. */
  parentMessage: WireMessage | undefined
  next: WireField | undefined
  previous: WireField | undefined
  #message: WireMessage | undefined

  constructor(
    tag: number,
    bytes: Uint8Array,
    start: number,
    payloadStart: number,
    end: number,
    message?: WireMessage,
  ) {
    super(tag, bytes, start, payloadStart, end)
    this.#message = message
    if (message) message.parentField = this
  }

  /** Returns the payload as a message for editing. Every call returns the same object, so edits are kept. */
  editableMessage(where: Where): WireMessage {
    if (this.wireType !== WireType.LengthDelimited) throw this.unexpected(where, 'a message')
    const { bytes, payloadStart, end, parentMessage } = this
    if (!this.#message) {
      this.#message = new WireMessage(where, { bytes, start: payloadStart, end }, parentMessage?.budget)
      this.#message.parentField = this
    }
    return this.#message
  }

  override readOnlyMessage(where: Where): WireMessage {
    const { bytes, payloadStart, end, parentMessage } = this
    if (this.wireType !== WireType.LengthDelimited) throw this.unexpected(where, 'a message')
    return this.#message ?? new WireMessage(where, { bytes, start: payloadStart, end }, parentMessage?.budget)
  }

  /** The message for editing, if it was requested before. */
  get editedMessage(): WireMessage | undefined {
    return this.#message
  }

  get size(): number {
    const size = this.#message?.isChanged ? this.#message.size : this.end - this.payloadStart
    return this.#keepsHeader ? this.end - this.start : this.#headerSize(size) + size
  }

  writeTo(parts: Uint8Array[]): void {
    if (this.#keepsHeader) {
      pushView(parts, this.bytes.subarray(this.start, this.end))
      return
    }
    const size = this.#message?.isChanged ? this.#message.size : this.end - this.payloadStart
    const header = [...varint(this.tag)]
    if (this.wireType === WireType.LengthDelimited) header.push(...varint(size))
    pushView(parts, Uint8Array.from(header))
    if (this.#message?.isChanged) this.#message.writeTo(parts)
    else pushView(parts, this.value)
  }

  /** Makes another object describe this field. */
  copyLocationTo(other: EncodedField): void {
    other.set(this.tag, this.bytes, this.start, this.payloadStart, this.end)
  }

  /** Returns a copy of this field for another message. */
  copy(): WireField {
    return new WireField(this.tag, this.bytes, this.start, this.payloadStart, this.end, this.#message)
  }

  /** Whether header and payload are written as they are in the file. */
  get #keepsHeader(): boolean {
    return this.start < this.payloadStart && !this.#message?.isChanged
  }

  #headerSize(length: number): number {
    const lengthSize = this.wireType === WireType.LengthDelimited ? varintSize(length) : 0
    return varintSize(this.tag) + lengthSize
  }
}

/** The bytes of a message in a file. */
interface Source {
  readonly bytes: Uint8Array
  readonly start: number
  readonly end: number
}

/** An ordered list of fields that can be added, replaced and removed. */
export class WireMessage {
  /** The memory budget of the file; undefined for new and for read-only messages. */
  readonly budget: MemoryBudget | undefined
  /** The field whose payload this message is. */
  parentField: WireField | undefined
  readonly #where: Where
  readonly #source: Source | undefined
  /** Whether the fields are objects. */
  #hasFieldObjects: boolean
  #first: WireField | undefined
  #last: WireField | undefined
  #isChanged: boolean
  /** The size of a changed message, until the next change. */
  #size: number | undefined

  constructor(where: Where, source?: Source, budget?: MemoryBudget) {
    this.#where = where
    this.#source = source
    this.budget = budget
    this.#hasFieldObjects = source === undefined
    this.#isChanged = source === undefined
  }

  /** Returns a cursor before the first field. */
  cursor(): Cursor {
    if (this.#hasFieldObjects || !this.#source) return new Cursor(this.#where, NOTHING, this.#first)
    return new Cursor(this.#where, this.#source)
  }

  /** Returns the text of the last field of that number: as protobuf demands, it overrides earlier ones. */
  text(number: number): string | undefined {
    const cursor = this.cursor()
    let text: string | undefined
    while (cursor.next(number)) text = cursor.text(this.#where)
    return text
  }

  /** Returns the first integer of the last field. */
  integer(number: number): bigint | undefined {
    const cursor = this.cursor()
    let integer: bigint | undefined
    while (cursor.next(number)) integer = cursor.integer(this.#where)
    return integer
  }

  /** Counts the integers in all fields of that number. */
  countIntegers(number: number): number {
    const cursor = this.cursor()
    let count = 0
    while (cursor.next(number)) count += cursor.countIntegers(this.#where)
    return count
  }

  /** Passes the integers of all fields of that number to `take`. */
  eachInteger(number: number, take: TakeHalves): void {
    const cursor = this.cursor()
    while (cursor.next(number)) cursor.eachInteger(this.#where, take)
  }

  /** Returns the integers of all fields of that number. */
  integers(number: number): BigInt64Array {
    const integers = new BigInt64Array(this.countIntegers(number))
    const view = new DataView(integers.buffer)
    let offset = 0
    this.eachInteger(number, (low, high) => {
      view.setInt32(offset, IS_LITTLE_ENDIAN ? low : high, IS_LITTLE_ENDIAN)
      view.setInt32(offset + 4, IS_LITTLE_ENDIAN ? high : low, IS_LITTLE_ENDIAN)
      offset += 8
    })
    return integers
  }

  /** Returns the first float of the last field. */
  float(number: number): number | undefined {
    const cursor = this.cursor()
    let float: number | undefined
    while (cursor.next(number)) [float] = cursor.floats(this.#where)
    return float
  }

  /** Returns the floats of all fields of that number. */
  floats(number: number): Float32Array {
    const cursor = this.cursor()
    const runs: Float32Array[] = []
    while (cursor.next(number)) runs.push(cursor.floats(this.#where))
    const [only] = runs
    if (only && runs.length === 1) return only
    const floats = new Float32Array(runs.reduce((sum, { length }) => sum + length, 0))
    let offset = 0
    for (const run of runs) {
      floats.set(run, offset)
      offset += run.length
    }
    return floats
  }

  /** Returns the payload of the last field. */
  bytes(number: number): Uint8Array | undefined {
    const cursor = this.cursor()
    let bytes: Uint8Array | undefined
    while (cursor.next(number)) bytes = cursor.value
    return bytes
  }

  /** Returns the last field of that number as a message. Do not edit it: each call may return a new object. */
  readOnlyMessage(number: number): WireMessage | undefined {
    const cursor = this.cursor()
    let message: WireMessage | undefined
    while (cursor.next(number)) message = cursor.readOnlyMessage(this.#where)
    return message
  }

  count(number: number): number {
    const cursor = this.cursor()
    let count = 0
    while (cursor.next(number)) count++
    return count
  }

  /** Yields the fields as objects that can be edited. */
  *fields(): Generator<WireField> {
    this.#makeFieldObjects()
    for (let field = this.#first; field; field = field.next) yield field
  }

  all(number: number): WireField[] {
    return Array.from(this.fields()).filter((field) => field.number === number)
  }

  last(number: number): WireField | undefined {
    this.#makeFieldObjects()
    let field = this.#last
    while (field && field.number !== number) field = field.previous
    return field
  }

  /**
   * Inserts fields after `after`, or at the end.
   *
   * @returns the inserted fields; a field of another message is copied first
   */
  insert(fields: readonly WireField[], after?: WireField): WireField[] {
    this.#makeFieldObjects()
    return this.#link(fields, after ? after.next : undefined)
  }

  insertBefore(fields: readonly WireField[], before: WireField): WireField[] {
    this.#makeFieldObjects()
    return this.#link(fields, before)
  }

  /** Replaces `old` by `fields`. */
  replace(old: WireField, ...fields: readonly WireField[]): WireField[] {
    this.#makeFieldObjects()
    const linked = this.#link(fields, old)
    this.#unlink(old)
    return linked
  }

  /** Removes fields; those of other messages are ignored. */
  remove(fields: Iterable<WireField>): void {
    this.#makeFieldObjects()
    for (const field of fields) if (field.parentMessage === this) this.#unlink(field)
  }

  /** Whether this message, or a message inside it, differs from the file. */
  get isChanged(): boolean {
    return this.#isChanged
  }

  get size(): number {
    if (this.#source && !this.isChanged) return this.#source.end - this.#source.start
    if (this.#size === undefined) {
      this.#size = 0
      for (let field = this.#first; field; field = field.next) this.#size += field.size
    }
    return this.#size
  }

  writeTo(parts: Uint8Array[]): void {
    if (this.#source && !this.isChanged) {
      const { bytes, start, end } = this.#source
      pushView(parts, bytes.subarray(start, end))
    } else for (let field = this.#first; field; field = field.next) field.writeTo(parts)
  }

  /** Returns a function that restores the current fields, and those of the messages inside. */
  snapshot(): () => void {
    const savedMessages = new Map<WireMessage, SavedMessage>()
    this.#save(savedMessages)
    return () => this.#restore(savedMessages)
  }

  #save(savedMessages: Map<WireMessage, SavedMessage>): void {
    if (!this.#hasFieldObjects) return
    const fields = Array.from(this.fields())
    savedMessages.set(this, { fields, isChanged: this.#isChanged })
    for (const { editedMessage } of fields) if (editedMessage) editedMessage.#save(savedMessages)
  }

  #restore(savedMessages: ReadonlyMap<WireMessage, SavedMessage>): void {
    const saved = savedMessages.get(this)
    const before = Array.from(this.#chain())
    this.#first = undefined
    this.#last = undefined
    if (!saved) {
      this.budget?.give('field', before.length)
      this.#hasFieldObjects = false
      this.#isChanged = false
      return
    }
    for (const field of before) field.parentMessage = undefined
    for (const field of saved.fields) field.parentMessage = undefined
    for (const field of saved.fields) this.#append(field)
    this.#isChanged = saved.isChanged
    this.#size = undefined
    for (const field of saved.fields) {
      const { editedMessage } = field
      if (!editedMessage) continue
      editedMessage.parentField = field
      editedMessage.#restore(savedMessages)
    }
  }

  *#chain(): Generator<WireField> {
    for (let field = this.#first; field; field = field.next) yield field
  }

  #makeFieldObjects(): void {
    const source = this.#source
    if (this.#hasFieldObjects || !source) return
    if (this.budget) {
      let count = 0
      const counter = new Cursor(this.#where, source)
      while (counter.next()) count++
      this.budget.take('field', count, this.#where)
    }
    const cursor = new Cursor(this.#where, source)
    while (cursor.next()) this.#append(cursor.field())
    this.#hasFieldObjects = true
  }

  /** Marks this message and its enclosing messages as changed: each of them must be encoded again. */
  #change(): void {
    let changed: WireMessage | undefined = this
    while (changed) {
      changed.#isChanged = true
      changed.#size = undefined
      changed = changed.parentField?.parentMessage
    }
  }

  #append(field: WireField): void {
    field.parentMessage = this
    field.next = undefined
    field.previous = this.#last
    if (this.#last) this.#last.next = field
    else this.#first = field
    this.#last = field
  }

  #link(fields: readonly WireField[], before: WireField | undefined): WireField[] {
    const linked = fields.map((field) => (field.parentMessage ? field.copy() : field))
    for (const field of linked) {
      if (!before) {
        this.#append(field)
        continue
      }
      field.parentMessage = this
      field.next = before
      field.previous = before.previous
      if (before.previous) before.previous.next = field
      else this.#first = field
      before.previous = field
    }
    this.#change()
    return linked
  }

  #unlink(field: WireField): void {
    if (field.previous) field.previous.next = field.next
    else this.#first = field.next
    if (field.next) field.next.previous = field.previous
    else this.#last = field.previous
    field.parentMessage = undefined
    field.next = undefined
    field.previous = undefined
    this.#change()
  }
}

interface SavedMessage {
  readonly fields: readonly WireField[]
  readonly isChanged: boolean
}

/**
 * Reads the message of a file. Fields are scanned when they are requested, and no payload is copied.
 *
 * @param where the file, node or tensor that an error message names
 */
export function readMessage(bytes: Uint8Array, where: Where): WireMessage {
  return new WireMessage(where, { bytes, start: 0, end: bytes.length }, new MemoryBudget(bytes.length))
}

/** Creates a field; bytes are kept as a view. */
export function field(number: number, value: FieldValue): WireField {
  if (typeof value === 'string') return field(number, new TextEncoder().encode(value))
  const tag = number * 8 + WireType.LengthDelimited
  if (value instanceof WireMessage) return new WireField(tag, NO_BYTES, 0, 0, 0, value)
  if (value instanceof Uint8Array) return new WireField(tag, value, 0, 0, value.length)
  const bytes = new BinaryWriter().int64(value).finish()
  return new WireField(number * 8 + WireType.Varint, bytes, 0, 0, bytes.length)
}

/** Creates a field of one 32-bit float. */
export function floatField(number: number, value: number): WireField {
  const bytes = new BinaryWriter().float(value).finish()
  return new WireField(number * 8 + WireType.Bit32, bytes, 0, 0, bytes.length)
}

/** Creates a message of new fields. */
export function message(...fields: readonly WireField[]): WireMessage {
  const created = new WireMessage('a new part of a model')
  created.insert(fields)
  return created
}

/** Encodes an integer as seven bits per byte, the lowest first. The eighth bit means that another byte follows. */
function varint(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  while (rest > 127) {
    bytes.push((rest % 128) | 128)
    rest = Math.floor(rest / 128)
  }
  bytes.push(rest)
  return bytes
}

function varintSize(value: number): number {
  let size = 1
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) size++
  return size
}

/** Adds a view, joined to the last one if the two are adjacent in one buffer. */
function pushView(parts: Uint8Array[], view: Uint8Array): void {
  if (view.length === 0) return
  const last = parts.at(-1)
  if (last && last.buffer === view.buffer && last.byteOffset + last.byteLength === view.byteOffset)
    parts[parts.length - 1] = new Uint8Array(last.buffer, last.byteOffset, last.length + view.length)
  else parts.push(view)
}
