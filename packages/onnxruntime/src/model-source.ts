/** Where a model is: a file, a URL or memory. It is read again for each graph that adapters need, and not held in between. */
import { FourierFTError } from '@fourierft/core'
import { type ModelData, modelBytes, type OnnxModel, readModel, readModelFile } from '@fourierft/onnx'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'

/** A path (Node) or URL of a file `.onnx`, its bytes, or a function that reads it whenever it is needed. */
export type ModelSource = string | URL | ModelData | (() => Promise<GivenModel>)

/** What such a function gives. */
export interface GivenModel extends Omit<ModelBytes, 'bytes'> {
  readonly bytes: ModelData
}

export interface ModelBytes {
  readonly bytes: Uint8Array
  /** Where its external data are, if that is a folder of this machine. */
  readonly folder?: string
  /** Its external data as ONNX Runtime's option of that name takes them, where they are in no folder. */
  readonly externalData?: InferenceSession.SessionOptions['externalData']
}

/** A model that is read to be edited, and where its external data are. */
export interface OpenModel extends Omit<ModelBytes, 'bytes'> {
  readonly model: OnnxModel
}

export class ModelFile {
  /** For messages. */
  readonly name: string
  readonly #source: string | URL | Uint8Array | (() => Promise<GivenModel>)
  readonly #leavesWeights: boolean

  /**
   * @param options.leavesWeights whether the runtime reads external data from files: then those of a model that is to be edited stay in its
   *   own file, and nobody holds them twice
   * @throws {FourierFTError} `INVALID_OPTION`
   */
  constructor(source: ModelSource, { leavesWeights }: { leavesWeights: boolean }) {
    const isPlace = typeof source === 'string' || typeof source === 'function' || source instanceof URL
    const read = isPlace ? source : modelBytes(source)
    if (read === undefined)
      throw new FourierFTError(
        'INVALID_OPTION',
        `model: expected a path, a URL, a Uint8Array, an ArrayBuffer or a function that reads it; received ${source === null ? 'null' : typeof source}`,
        { option: 'model', received: source },
      )
    this.#source = read
    this.#leavesWeights = leavesWeights
    this.name = typeof source === 'string' || source instanceof URL ? String(source) : 'the model'
  }

  /** What a session of the model as it is can be made from. */
  async asIs(): Promise<string | ModelBytes> {
    const path = this.#path
    if (path === undefined) return withOwnMemory(await this.read())
    const left = this.#leavesWeights ? await this.#withoutWeights(path) : undefined
    return left ? { bytes: left.model.toBytes(), folder: left.folder } : path
  }

  /**
   * The model, to be edited.
   *
   * @throws {FourierFTError} `INVALID_ONNX`, `FILE_NOT_FOUND`, `IO_ERROR`
   */
  async open(): Promise<OpenModel> {
    const path = this.#path
    const left = path !== undefined && this.#leavesWeights ? await this.#withoutWeights(path) : undefined
    if (left) return left
    const { bytes, ...places } = await this.read()
    return { model: readModel(bytes, { file: this.name }), ...places }
  }

  /** Undefined where a link leads away from the files that the model refers to: runtimes look for them in one folder alone. */
  async #withoutWeights(path: string): Promise<(OpenModel & { readonly folder: string }) | undefined> {
    const { folder, name, isLink, size, read, close } = await platform.openFile(path)
    try {
      const model = await readModelFile(read, { size, location: name, file: this.name })
      const graphs = model.graph.graphs()
      const external = graphs.flatMap(({ initializers }) =>
        Array.from(initializers.values(), (tensor) => tensor.external?.location ?? name),
      )
      return isLink && external.some((location) => location !== name) ? undefined : { model, folder }
    } finally {
      await close()
    }
  }

  get #path(): string | undefined {
    const source = this.#source
    return typeof source === 'string' || source instanceof URL ? platform.pathOf(source) : undefined
  }

  /** @throws {FourierFTError} `FILE_NOT_FOUND`, `IO_ERROR`, `INVALID_OPTION` for what a function gives */
  async read(): Promise<ModelBytes> {
    const source = this.#source
    if (source instanceof Uint8Array) return { bytes: source }
    if (typeof source === 'function') {
      const read: GivenModel | undefined = await source()
      const bytes = modelBytes(read?.bytes)
      if (read && bytes) return { ...read, bytes }
      throw new FourierFTError(
        'INVALID_OPTION',
        'model: expected the function to give { bytes }, a Uint8Array or an ArrayBuffer; it gave something else',
        { option: 'model', received: read },
      )
    }
    const path = platform.pathOf(source)
    return path === undefined ? { bytes: await download(source) } : platform.readFile(path)
  }
}

/** onnxruntime-node takes no memory that is shared: a session is made from a copy. */
function withOwnMemory(read: ModelBytes): ModelBytes {
  return read.bytes.buffer instanceof ArrayBuffer ? read : { ...read, bytes: read.bytes.slice() }
}

/**
 * Part of a file that a model refers to: one of `externalData`, or one in its folder.
 *
 * @throws {FourierFTError} `FILE_NOT_FOUND`, `IO_ERROR`
 */
export async function readBeside(
  location: string,
  offset: number,
  length: number,
  { folder, externalData = [] }: Omit<ModelBytes, 'bytes'>,
): Promise<Uint8Array> {
  const given = externalData.find((one) => typeof one === 'object' && one.path === location)
  const data = typeof given === 'object' ? given.data : undefined
  if (data instanceof Uint8Array) return data.subarray(offset, offset + length)
  if (data instanceof Blob) return new Uint8Array(await data.slice(offset, offset + length).arrayBuffer())
  const path = typeof data === 'string' ? platform.pathOf(data) : folder && `${folder}/${location}`
  if (path !== undefined) {
    const file = await platform.openFile(path)
    return file.read(offset, length).finally(() => file.close())
  }
  if (typeof data === 'string') return (await download(data)).subarray(offset, offset + length)
  throw new FourierFTError(
    'FILE_NOT_FOUND',
    `${location}, in which the model has weights, is not at hand: give it as externalData`,
    { file: location, option: 'externalData' },
  )
}

async function download(url: string | URL): Promise<Uint8Array> {
  const failed = (reason: string, cause?: unknown) =>
    new FourierFTError('IO_ERROR', `${url} could not be fetched: ${reason}`, { file: String(url), cause })
  try {
    const response = await fetch(url)
    if (!response.ok) throw failed(`${response.status} ${response.statusText}`)
    return new Uint8Array(await response.arrayBuffer())
  } catch (cause) {
    throw FourierFTError.isInstance(cause) ? cause : failed(reasonOf(cause), cause)
  }
}

/** Node's `fetch` says `fetch failed`, and why in the error's cause; that has no message where several addresses were tried. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as Error
  const { message: reason, code } = (cause ?? {}) as { readonly message?: string; readonly code?: string }
  const why = reason || code
  return why ? `${message} (${why})` : message
}
