/** What differs between Node and the browser: whether there is an ONNX Platform module beside transformers.js, and files. */
import type { Ort } from '@fourierft/onnxruntime'
import type { env } from '@huggingface/transformers'

export interface Platform {
  /** The `onnxruntime-node` that transformers.js uses; undefined where it has ONNX Platform inside, or another one. */
  loadOrt(): Promise<Ort | undefined>
  /** The `env` of the copy of transformers.js that `require` gives; undefined where nobody has required it. */
  requiredEnv(): typeof env | undefined
  /** The environment's `HF_ENDPOINT`. */
  hubEndpoint(): string | undefined
  /** Whether there is a directory of that path. */
  isDirectory(path: string): Promise<boolean>
  /** Whether there is a file of that path. */
  isFile(path: string): Promise<boolean>
  /**
   * A file by its path.
   *
   * @throws {FourierFTError} `IO_ERROR`
   */
  readFile(path: string): Promise<Uint8Array>
  /**
   * A model of one file, in a folder of its own as transformers.js loads it. @returns the folder, and what removes it
   *
   * @throws {FourierFTError} `UNSUPPORTED` where there are no files
   */
  writeModel(model: Uint8Array): Promise<{ readonly folder: string; remove(): Promise<void> }>
}
