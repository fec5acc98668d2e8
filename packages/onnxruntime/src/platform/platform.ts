/** What differs between Node and the browser: where ONNX Runtime, files and the native kernel come from. */
import type { OnnxRuntime } from '@fourierft/native'
import type { Ort } from '../ort.js'

export interface OpenFile {
  /** Where it really is, links resolved. */
  readonly folder: string
  readonly name: string
  /** Whether the path was a link to it, so that files beside the path need not be beside it. */
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
   * @throws {FourierFTError} `UNSUPPORTED` where it is not installed
   */
  loadOrt(): Promise<Ort>
  /** The path of a model that is a file of this machine; undefined: it is to be fetched. */
  pathOf(model: string | URL): string | undefined
  /** A file and the folder that it is in. */
  readFile(path: string): Promise<{ readonly bytes: Uint8Array; readonly folder: string }>
  /** The same, to be read in parts and closed. */
  openFile(path: string): Promise<OpenFile>
  /**
   * The native kernel in the ONNX Runtime that this process has loaded.
   *
   * @throws {Error} that says why there is none
   */
  openNative(): Promise<OnnxRuntime>
}
