/** The differences between Node and browsers: how to get transformers.js' ONNX Runtime, and files. */
import type { Ort } from '@fourierft/onnxruntime'
import type { env } from '@huggingface/transformers'

export interface Platform {
  /** The `onnxruntime-node` that transformers.js uses; undefined if it uses another ONNX Runtime. */
  loadOrt(): Promise<Ort | undefined>
  /** The `env` of the copy of transformers.js that `require` returns; undefined if the program has not required it. */
  envOfRequiredCopy(): typeof env | undefined
  /** The environment variable `HF_ENDPOINT`. */
  hubEndpoint(): string | undefined
  isDirectory(path: string): Promise<boolean>
  isFile(path: string): Promise<boolean>
  /**
   * @throws {FourierFTError} `IO_ERROR`
   */
  readFile(path: string): Promise<Uint8Array>
  /**
   * Writes a model into a new folder, in the layout of transformers.js.
   *
   * @returns the folder, and a function that removes it
   * @throws {FourierFTError} `UNSUPPORTED` in browsers
   */
  writeModel(model: Uint8Array): Promise<{ readonly folder: string; remove(): Promise<void> }>
}
