/** The differences between Node and browsers: transformers.js' ONNX Runtime and access to files. */
import type { Ort } from '@fourierft/onnxruntime'
import type { env } from '@huggingface/transformers'

/** The function `parse` of csv-parse. */
export type CsvParser = (text: string, options: CsvOptions) => unknown

export interface CsvOptions {
  /** Is called with the names of the columns, and returns them. */
  readonly columns: (names: string[]) => string[]
  readonly skip_empty_lines: boolean
  /** The most characters of a row. */
  readonly max_record_size: number
}

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
   * Reads a file of data.
   *
   * @param file a path, or a `file:` URL
   * @throws {FourierFTError} `FILE_NOT_FOUND`; `FILE_TOO_LARGE` before it is read; `IO_ERROR`; `UNSUPPORTED` in browsers
   */
  readDataFile(file: string | URL, maxBytes: number): Promise<Uint8Array>
  loadCsvParser(): Promise<CsvParser>
  /**
   * Writes a model into a new temporary folder, in the layout of transformers.js.
   *
   * @returns the folder, and a function that removes it
   * @throws {FourierFTError} `UNSUPPORTED` in browsers
   */
  writeTemporaryModel(model: Uint8Array): Promise<{ readonly folder: string; remove(): Promise<void> }>
}
