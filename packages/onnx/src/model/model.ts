/**
 * An ONNX model that can be read, edited and written without changing any other byte. Nodes and headers are decoded; weights and unknown
 * fields stay views of the file.
 *
 *     const model = readModel(bytes, { file: 'model.onnx' })
 *     node.setOutput(0, 'base'); model.graph.insertAfter(node, [{ opType: …, inputs: ['base'], outputs: ['y'] }])
 *     const edited = model.toBytes()           // or toParts(), to write without a second copy
 */
import { FourierFTError } from '@fourierft/core'
import { encodeEntry, encodeFunction, encodeOpset, type NewFunction } from './encode.js'
import { type FunctionBody, readFunctionBody } from './function-body.js'
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

/** Protobuf's limit for one message. */
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
    this.graph = new OnnxGraph(graph.editableMessage(file), file)
    // Rejects a broken file when it is read, not on first use.
    for (const read of [() => this.irVersion, () => this.opsetImports, () => this.functions]) read()
  }

  /** At least 8 in models with functions. */
  get irVersion(): number {
    return versionOf(this.#message.integer(Model.irVersion), 'IR version', this.file)
  }

  /** Raises the IR version to `version` if it is lower. */
  raiseIrVersion(version: number): void {
    if (version > this.irVersion) this.setIrVersion(version)
  }

  setIrVersion(version: number): void {
    const old = this.#message.last(Model.irVersion)
    if (old && version !== this.irVersion) this.#message.replace(old, field(Model.irVersion, version))
  }

  /** The version of each operator set that the model uses; `''` is ONNX's own set. */
  get opsetImports(): ReadonlyMap<string, number> {
    const imports = new Map<string, number>()
    const cursor = this.#message.cursor()
    while (cursor.next(Model.opsetImport)) {
      const opset = cursor.readOnlyMessage(this.file)
      const domain = opset.text(OperatorSet.domain) ?? ''
      const kind = `version of the operator set ${JSON.stringify(domain)}`
      const version = versionOf(opset.integer(OperatorSet.version), kind, this.file)
      imports.set(domain === 'ai.onnx' ? '' : domain, version)
    }
    return imports
  }

  /** Adds an operator set. @throws {FourierFTError} `INVALID_STATE` if the model uses another version of the set */
  addOpsetImport(domain: string, version: number): void {
    const present = this.opsetImports.get(domain)
    if (present === version) return
    if (present !== undefined)
      throw new FourierFTError(
        'INVALID_STATE',
        `${this.file} uses version ${present} of the operator set ${JSON.stringify(domain)}, so it cannot also use version ${version}`,
        { file: this.file, expected: version, received: present },
      )
    this.#message.insert([field(Model.opsetImport, encodeOpset(domain, version))])
  }

  /** Changes the version of ONNX's own operator set, for the graph and for the functions of the model. The nodes do not change. */
  setOpset(version: number): void {
    const holders = [
      { message: this.#message, number: Model.opsetImport as number },
      ...this.#message.all(Model.functions).map((one) => ({
        message: one.editableMessage(this.file),
        number: LocalFunction.opsetImport as number,
      })),
    ]
    for (const { message, number } of holders)
      for (const one of message.all(number)) {
        const domain = one.readOnlyMessage(this.file).text(OperatorSet.domain) ?? ''
        if (domain === '' || domain === 'ai.onnx')
          message.replace(one, field(number, encodeOpset(domain, version)))
      }
  }

  /** Removes an operator set if the model has it. */
  removeOpsetImport(domain: string): void {
    const isRemoved = (field: WireField) =>
      field.readOnlyMessage(this.file).text(OperatorSet.domain) === domain
    this.#message.remove(this.#message.all(Model.opsetImport).filter(isRemoved))
  }

  /** The model-local functions. */
  get functions(): readonly OnnxFunction[] {
    return this.#message.all(Model.functions).map((field) => this.#functionOf(field))
  }

  /** Adds a function. @throws {FourierFTError} `INVALID_STATE` if there is a function of that name */
  addFunction(definition: NewFunction): void {
    if (this.functions.some(({ domain, name }) => domain === definition.domain && name === definition.name))
      throw new FourierFTError(
        'INVALID_STATE',
        `${this.file} has a function ${definition.domain}:${definition.name} already`,
        {
          file: this.file,
          received: `${definition.domain}:${definition.name}`,
          advice: 'detach the adapters first',
        },
      )
    this.#message.insert([field(Model.functions, encodeFunction(definition))])
  }

  /** Removes a function if the model has it. */
  removeFunction(removed: OnnxFunction): void {
    const isRemoved = (field: WireField) => {
      const { domain, name } = this.#functionOf(field)
      return domain === removed.domain && name === removed.name
    }
    this.#message.remove(this.#message.all(Model.functions).filter(isRemoved))
  }

  /** @internal The body of a function. */
  functionBody({ domain, name }: OnnxFunction): FunctionBody | undefined {
    const found = this.#message.all(Model.functions).find((one) => {
      const candidate = this.#functionOf(one)
      return candidate.domain === domain && candidate.name === name
    })
    return found && readFunctionBody(found.editableMessage(this.file), this.file)
  }

  #functionOf(field: WireField): OnnxFunction {
    const message = field.readOnlyMessage(this.file)
    return { domain: message.text(LocalFunction.domain) ?? '', name: message.text(LocalFunction.name) ?? '' }
  }

  /** `metadata_props` of the model. */
  get metadata(): ReadonlyMap<string, string> {
    return readStringMap(this.#message, Model.metadata, this.file)
  }

  /** Adds an entry to the metadata. @throws {FourierFTError} `INVALID_OPTION` if the key is taken */
  addMetadata(key: string, value: string): void {
    if (this.metadata.has(key))
      throw new FourierFTError('INVALID_OPTION', `${this.file} has metadata ${JSON.stringify(key)} already`, {
        file: this.file,
        received: key,
        advice: 'choose another key',
      })
    this.#message.insert([field(Model.metadata, encodeEntry(key, value))])
  }

  /** Removes an entry of the metadata if the model has it. */
  removeMetadata(key: string): void {
    const isRemoved = (field: WireField) => field.readOnlyMessage(this.file).text(Entry.key) === key
    this.#message.remove(this.#message.all(Model.metadata).filter(isRemoved))
  }

  /** @internal The fields of that number. A change of them is not noticed by this object. */
  fields(number: number): WireField[] {
    return this.#message.all(number)
  }

  /** Runs `edit`; if it throws, restores the model. `edit` must not set the data of tensors, which are not restored. */
  transaction<T>(edit: () => T): T {
    const restoreAll = [this.#message.snapshot(), this.graph.snapshot()]
    try {
      return edit()
    } catch (error) {
      for (const restore of restoreAll) restore()
      throw error
    }
  }

  /** The size in bytes of the file that would be written. */
  get size(): number {
    return this.#message.size
  }

  /**
   * Returns the file in pieces, in the order in which to write them: views of the file that was read, and new parts.
   *
   * @throws {FourierFTError} `FILE_TOO_LARGE` from 2 GB on, which protobuf cannot hold
   */
  toParts(): Uint8Array[] {
    if (this.size > MAX_BYTES)
      throw new FourierFTError(
        'FILE_TOO_LARGE',
        `${this.file} would have ${this.size} bytes; an ONNX file has less than 2 GB`,
        {
          file: this.file,
          expected: MAX_BYTES,
          received: this.size,
          advice: 'keep its weights in external files',
        },
      )
    const parts: Uint8Array[] = []
    this.#message.writeTo(parts)
    return parts
  }

  /** Returns a copy of the file as one array. @throws {FourierFTError} as {@link toParts} does */
  toBytes(): Uint8Array {
    const parts = this.toParts()
    const bytes = new Uint8Array(this.size)
    let offset = 0
    for (const part of parts) {
      bytes.set(part, offset)
      offset += part.length
    }
    return bytes
  }
}

/** The types of a model's bytes: views, such as Node's `Buffer`, and whole buffers, shared or not. */
export type ModelData = Uint8Array | ArrayBuffer | SharedArrayBuffer

/**
 * Returns the bytes as a plain `Uint8Array`, without copying. A `Buffer` of Node is also converted, because it redefines methods: its
 * `slice` gives a view.
 *
 * @returns undefined for other values
 */
export function modelBytes(data: unknown): Uint8Array | undefined {
  if (data instanceof Uint8Array) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  const isShared = typeof SharedArrayBuffer !== 'undefined' && data instanceof SharedArrayBuffer
  return isShared || data instanceof ArrayBuffer ? new Uint8Array(data) : undefined
}

/**
 * Reads a model. The bytes must not change while the model is in use, because its weights are views of them. External data are not read.
 * Reading needs at most 12 times the file's size in memory, including the file itself; files under 10 MB count as 10 MB.
 *
 * @param options.file the name in error messages
 * @throws {FourierFTError} `INVALID_ONNX` for bytes that are not an ONNX file, a truncated file, impossible lengths or sizes, graphs nested
 *   too deep, nodes without an operator, and files with too many small parts for that memory; `INVALID_OPTION` if `data` is not bytes
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

/** Converts a version to a number. @throws {FourierFTError} `INVALID_ONNX` if it is negative or not a safe integer */
function versionOf(version: bigint | undefined, kind: string, file: string): number {
  const number = Number(version ?? 0n)
  if (Number.isSafeInteger(number) && number >= 0) return number
  throw invalidOnnx(file, `its ${kind} is ${version}`)
}
