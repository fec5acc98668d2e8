/** The differences between Node and browsers: transformers.js' ONNX Runtime and access to files. */
import type { Ort } from '@fourierft/onnxruntime'
import type { env } from '@huggingface/transformers'

export interface Platform {
  /** Returns the `onnxruntime-node` that transformers.js uses; undefined if it uses another ONNX Runtime. */
  loadOrt(): Promise<Ort | undefined>
  /** Returns the `env` of the CommonJS copy of transformers.js; undefined if the program has not loaded it by `require`. */
  envOfCommonJsCopy(): typeof env | undefined
  /** Returns the environment variable `HF_ENDPOINT`. */
  hubEndpoint(): string | undefined
  isDirectory(path: string): Promise<boolean>
  isFile(path: string): Promise<boolean>
  /**
   * @throws {FourierFTError} `IO_ERROR`
   */
  readFile(path: string): Promise<Uint8Array>
  /**
   * Writes a model into a new temporary folder, in the layout of transformers.js.
   *
   * @returns the folder, and a function that removes it
   * @throws {FourierFTError} `UNSUPPORTED` in browsers
   */
  writeTemporaryModel(model: Uint8Array): Promise<{ readonly folder: string; remove(): Promise<void> }>
}
