/** The differences between Node and browsers: how to get ONNX Runtime, files and the native kernel. */
import type { OnnxRuntime } from '@fourierft/native'
import type { Ort } from '../ort.js'

export interface OpenFile {
  /** The folder of the file, with links resolved. */
  readonly folder: string
  readonly name: string
  /** Whether the path is a link. Then other files beside the path need not be in `folder`. */
  readonly isLink: boolean
  readonly size: number
  /** Reads `length` bytes, or fewer at the end of the file. */
  read(offset: number, length: number): Promise<Uint8Array>
  close(): Promise<void>
}

export interface Platform {
  /**
   * Loads the user's own ONNX Runtime.
   *
   * @throws {FourierFTError} `UNSUPPORTED` if it is not installed
   */
  loadOrt(): Promise<Ort>
  /** Returns the path of a model that is a local file; undefined if the model has to be downloaded. */
  localPath(model: string | URL): string | undefined
  /** Reads a whole file, and returns its bytes and its folder. */
  readFile(path: string): Promise<{ readonly bytes: Uint8Array; readonly folder: string }>
  /** Opens a file to read parts of it. The caller closes it. */
  openFile(path: string): Promise<OpenFile>
  /** Writes a file as one atomic change: after a failure, or if the process ends, the old file is unchanged. */
  writeFile(path: string, bytes: Uint8Array): Promise<void>
  /** Resolves when the event loop has handled the events that wait. */
  nextTask(): Promise<void>
  /** Returns the bytes of memory that are free now, and that the process can have at all; infinite if that is not known. */
  memory(): { readonly free: number; readonly total: number }
  /**
   * Opens the native kernel in the ONNX Runtime that this process has loaded.
   *
   * @throws {Error} with the reason why there is no kernel: `message`, and in errors of `@fourierft/native` also `problem` and `advice`
   */
  openNativeKernel(): Promise<OnnxRuntime>
}
