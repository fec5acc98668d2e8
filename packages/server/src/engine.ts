/** `Engine`: one model with many adapters. The APIs call the model through it. */
import type { InferenceSession } from 'onnxruntime-common'

/** A pipeline of transformers.js, or a view of it for one request. */
export type Pipe = ((input: unknown, options?: Record<string, unknown>) => Promise<unknown>) & {
  readonly task: string
  // biome-ignore lint/suspicious/noExplicitAny: the classes of transformers.js differ from model to model
  readonly tokenizer: any
  // biome-ignore lint/suspicious/noExplicitAny: as above
  readonly processor: any
  // biome-ignore lint/suspicious/noExplicitAny: as above
  readonly model: any
}

export interface CallOptions {
  /** Aborted if the client has gone or the deadline is over. The call then rejects with the signal's reason at once, and its waiting runs are removed. */
  readonly signal: AbortSignal
}

/** What is known about an adapter without loading it. */
export interface ListedAdapter {
  readonly name: string
  /** Time of the newest file, in milliseconds since 1970; undefined if it is unknown. */
  readonly modified: number | undefined
  readonly isResident: boolean
  readonly isPinned: boolean
}

/** How runs of the model may share batches. `padded`: also of other lengths; `equal`: only of equal shapes; `single`: not at all. */
export type Joining = 'padded' | 'equal' | 'single'

export interface Engine {
  /** The name of the base model in all APIs. */
  readonly model: string
  /** The task of the pipeline, in the words of transformers.js: `text-classification`. */
  readonly task: string
  /** The pipeline itself, for its tokenizer and its configuration. Calls go through `call`. */
  readonly pipe: Pipe
  /** Milliseconds since 1970 at which the model was loaded. */
  readonly created: number
  readonly joining: Joining
  /** True after the first warm run, until `close`. */
  readonly isReady: boolean
  /** Inputs and outputs of the model's only session; undefined if it has several. */
  readonly signature:
    | {
        readonly inputs: readonly InferenceSession.ValueMetadata[]
        readonly outputs: readonly InferenceSession.ValueMetadata[]
      }
    | undefined

  /**
   * Calls the model with an adapter. The runs of the call share batches with other calls.
   *
   * @param adapter its name; null is the base model
   * @param work receives a view of the pipeline, which is valid until the promise of `work` settles
   * @throws {ServerError} of `errors.ts`, `FourierFTError` for files that do not fit
   */
  call<T>(adapter: string | null, work: (pipe: Pipe) => Promise<T>, options: CallOptions): Promise<T>

  /** Runs the model's only session once, in a shared batch. */
  run(
    adapter: string | null,
    feeds: InferenceSession.FeedsType,
    options: CallOptions,
  ): Promise<InferenceSession.ReturnType>

  /** Checks that an adapter can be used, and loads it. @throws as `call` */
  prepare(adapter: string, options: CallOptions): Promise<void>

  /** Lists the adapters that have names: those of the folder, those that were loaded by name, and resident ones. */
  list(): Promise<readonly ListedAdapter[]>

  /**
   * Adds an adapter under a name (vLLM's `load_lora_adapter`).
   *
   * @param source a folder of the server, or another name of an adapter that the resolver finds, such as a repository of an allowed owner
   */
  load(name: string, source: string, options: CallOptions): Promise<void>
  /** Removes an adapter that `load` added. Calls that have started keep it. */
  unload(name: string): Promise<void>

  /** Stops accepting calls, and waits for the running ones, at most `gracePeriod` milliseconds; then releases the model. */
  close(gracePeriod?: number): Promise<void>
}
