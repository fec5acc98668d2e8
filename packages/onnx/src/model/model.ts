/**
 * An ONNX model that is read, edited and written without losing a byte that nobody meant to change: nodes and headers are decoded,
 * weights and all that is unknown stay views of the file.
 *
 *     const model = readModel(bytes, { file: 'model.onnx' })
 *     node.setOutput(0, 'base'); model.graph.insertAfter(node, [{ opType: …, inputs: ['base'], outputs: ['y'] }])
 *     const edited = model.toBytes()           // or toParts(), to write without a second copy
 */
import { FourierFTError } from '@fourierft/core'
import { encodeEntry, encodeFunction, encodeOpset, type NewFunction } from './encode.js'
import { OnnxGraph } from './graph.js'
import { invalidOnnx } from './invalid-onnx.js'
import { Entry, LocalFunction, Model, OperatorSet } from './schema.js'
import { readStringMap } from './string-map.js'
import { field, readMessage, type WireField, type WireMessage } from './wire-message.js'

/** The name of a model-local function. */
export interface OnnxFunction {
  readonly domain: string
  readonly name: string
}

/** Protobuf's own limit for one message. */
export const MAX_BYTES = 2 ** 31 - 1

export class OnnxModel {
  readonly file: string
  readonly graph: OnnxGraph
  readonly #message: WireMessage

  constructor(message: WireMessage, file: string) {
    const [graph, ...others] = message.all(Model.graph)
    if (!graph || !message.last(Model.irVersion)) throw invalidOnnx(file, 'it has no graph or no IR version')
    if (others.length > 0) throw invalidOnnx(file, 'it has several graphs')
    this.file = file
    this.#message = message
    this.graph = new OnnxGraph(graph.message(file), file)
    for (const read of [() => this.irVersion, () => this.opsetImports, () => this.functions]) read()
  }

  /** Functions need 8 or more. */
  get irVersion(): number {
    return versionOf(this.#message.integer(Model.irVersion), 'IR version', this.file)
  }

  /** Raises the IR version to `version` where it is lower. */
  raiseIrVersion(version: number): void {
    if (version > this.irVersion) this.setIrVersion(version)
  }

  setIrVersion(version: number): void {
    const old = this.#message.last(Model.irVersion)
    if (old && version !== this.irVersion) this.#message.replace(old, field(Model.irVersion, version))
  }

  /** The version of each operator set that the model uses; `''` is ONNX's own. */
  get opsetImports(): ReadonlyMap<string, number> {
    const imports = new Map<string, number>()
    const cursor = this.#message.cursor()
    while (cursor.next(Model.opsetImport)) {
      const opset = cursor.reading(this.file)
      const domain = opset.text(OperatorSet.domain) ?? ''
      const kind = `version of the operator set ${JSON.stringify(domain)}`
      const version = versionOf(opset.integer(OperatorSet.version), kind, this.file)
      imports.set(domain === 'ai.onnx' ? '' : domain, version)
    }
    return imports
  }

  /** @throws FourierFTError INVALID_STATE: the model has another version of it already */
  addOpsetImport(domain: string, version: number): void {
    const present = this.opsetImports.get(domain)
    if (present === version) return
    if (present !== undefined)
      throw new FourierFTError(
        'INVALID_STATE',
        `${this.file} uses version ${present} of the operator set ${JSON.stringify(domain)}; ${version} cannot be used beside it.`,
        { file: this.file, expected: version, received: present },
      )
    this.#message.insert([field(Model.opsetImport, encodeOpset(domain, version))])
  }

  /** Takes an operator set away, if it is there. */
  removeOpsetImport(domain: string): void {
    const isIt = (one: WireField) => one.reading(this.file).text(OperatorSet.domain) === domain
    this.#message.remove(this.#message.all(Model.opsetImport).filter(isIt))
  }

  /** The model-local functions. */
  get functions(): readonly OnnxFunction[] {
    return this.#message.all(Model.functions).map((one) => this.#functionOf(one))
  }

  /** @throws FourierFTError INVALID_STATE: there is a function of that name */
  addFunction(made: NewFunction): void {
    if (this.functions.some(({ domain, name }) => domain === made.domain && name === made.name))
      throw new FourierFTError(
        'INVALID_STATE',
        `${this.file} has a function ${made.domain}:${made.name} already; detach the adapters first.`,
        { file: this.file, received: `${made.domain}:${made.name}` },
      )
    this.#message.insert([field(Model.functions, encodeFunction(made))])
  }

  /** Takes a function away, if it is there. */
  removeFunction(removed: OnnxFunction): void {
    const isIt = (one: WireField) => {
      const { domain, name } = this.#functionOf(one)
      return domain === removed.domain && name === removed.name
    }
    this.#message.remove(this.#message.all(Model.functions).filter(isIt))
  }

  #functionOf(one: WireField): OnnxFunction {
    const parts = one.reading(this.file)
    return { domain: parts.text(LocalFunction.domain) ?? '', name: parts.text(LocalFunction.name) ?? '' }
  }

  /** `metadata_props` of the model. */
  get metadata(): ReadonlyMap<string, string> {
    return readStringMap(this.#message, Model.metadata, this.file)
  }

  /** @throws FourierFTError INVALID_OPTION: the key is taken */
  addMetadata(key: string, value: string): void {
    if (this.metadata.has(key))
      throw new FourierFTError(
        'INVALID_OPTION',
        `${this.file} has metadata ${JSON.stringify(key)} already; choose another key.`,
        { file: this.file, received: key },
      )
    this.#message.insert([field(Model.metadata, encodeEntry(key, value))])
  }

  /** Takes an entry of the metadata away, if it is there. */
  removeMetadata(key: string): void {
    const isIt = (one: WireField) => one.reading(this.file).text(Entry.key) === key
    this.#message.remove(this.#message.all(Model.metadata).filter(isIt))
  }

  /**
   * Edits the model wholly or not at all: if `edit` throws, the model is as it was. Data of tensors are not to be set in it.
   */
  transaction<T>(edit: () => T): T {
    const restore = [this.#message.saved(), this.graph.saved()]
    try {
      return edit()
    } catch (error) {
      for (const each of restore) each()
      throw error
    }
  }

  /** The length of the file that would be written. */
  get size(): number {
    return this.#message.size
  }

  /**
   * The file in pieces, to be written one after the other: views of the file that was read, and what is new between them.
   *
   * @throws FourierFTError FILE_TOO_LARGE: 2 GB and more, which protobuf cannot hold
   */
  toParts(): Uint8Array[] {
    if (this.size > MAX_BYTES)
      throw new FourierFTError(
        'FILE_TOO_LARGE',
        `${this.file} would have ${this.size} bytes, but an ONNX file ends at 2 GB. Keep its weights in external files.`,
        { file: this.file, expected: MAX_BYTES, received: this.size },
      )
    const parts: Uint8Array[] = []
    this.#message.writeTo(parts)
    return parts
  }

  /** The file as one array, copied once. @throws FourierFTError as {@link toParts} */
  toBytes(): Uint8Array {
    const parts = this.toParts()
    const bytes = new Uint8Array(this.size)
    let at = 0
    for (const part of parts) {
      bytes.set(part, at)
      at += part.length
    }
    return bytes
  }
}

/** What a model may be read from: views of any kind (Node's `Buffer` too) and whole buffers, of memory that is shared or not. */
export type ModelData = Uint8Array | ArrayBuffer | SharedArrayBuffer

/**
 * The bytes as a plain `Uint8Array`; nothing is copied. Node's `Buffer` is one that has other methods of the same names: its `slice` is a
 * view.
 *
 * @returns undefined: it is something else
 */
export function modelBytes(data: unknown): Uint8Array | undefined {
  if (data instanceof Uint8Array) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  const isShared = typeof SharedArrayBuffer !== 'undefined' && data instanceof SharedArrayBuffer
  return isShared || data instanceof ArrayBuffer ? new Uint8Array(data) : undefined
}

/**
 * Reads a model. The bytes must not change while the model is in use: its weights are views of them. External data are not read.
 * Reading takes at most 12 times the memory of the file (of 10 MB for smaller ones), the file included.
 *
 * @param options.file its name, for the messages of errors
 * @throws FourierFTError INVALID_ONNX: no ONNX file, cut off, absurd lengths or sizes, graphs nested too deep, nodes without an operator, more
 *   and smaller parts than that memory has room for; INVALID_OPTION: something else than bytes
 */
export function readModel(data: ModelData, { file = 'the model' }: { file?: string } = {}): OnnxModel {
  const bytes = modelBytes(data)
  if (bytes) return new OnnxModel(readMessage(bytes, file), file)
  throw new FourierFTError(
    'INVALID_OPTION',
    `${file}: expected the model's bytes as a Uint8Array or an ArrayBuffer; received ${data === null ? 'null' : typeof data}`,
    { file, option: 'data', received: data },
  )
}

/** No version is negative, or more than a number can hold. */
function versionOf(version: bigint | undefined, kind: string, file: string): number {
  const number = Number(version ?? 0n)
  if (Number.isSafeInteger(number) && number >= 0) return number
  throw invalidOnnx(file, `its ${kind} is ${version}`)
}
