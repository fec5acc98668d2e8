/** The differences between Node and browsers: where ONNX Runtime, files and the native kernel come from. */
import type { OnnxRuntime } from '@fourierft/native'
import type { Ort } from '../ort.js'

export interface OpenFile {
  /** With links resolved. */
  readonly folder: string
  readonly name: string
  /** Whether the path is a link, so that files beside the path need not be in `folder`. */
  readonly isLink: boolean
  readonly size: number
  /** Fewer bytes than `length` at the end of the file. */
  read(offset: number, length: number): Promise<Uint8Array>
  close(): Promise<void>
}

export interface Platform {
  /**
   * The user's own ONNX Runtime.
   *
   * @throws {FourierFTError} `UNSUPPORTED` if it is not installed
   */
  loadOrt(): Promise<Ort>
  /** The path of a model that is a local file; undefined if it has to be downloaded. */
  localPath(model: string | URL): string | undefined
  /** Reads a file; `folder` contains it. */
  readFile(path: string): Promise<{ readonly bytes: Uint8Array; readonly folder: string }>
  /** Opens a file that is read in parts. The caller closes it. */
  openFile(path: string): Promise<OpenFile>
  /**
   * The native kernel in the ONNX Runtime that this process has loaded.
   *
   * @throws {Error} whose message says why there is none
   */
  openNativeKernel(): Promise<OnnxRuntime>
}
