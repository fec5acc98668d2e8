/** What the page and its worker say to each other. */
import type { Example } from './examples.js'

export interface Settings {
  readonly epochs: number
  /** The number of coefficients of each adapted layer. */
  readonly nFrequency: number
}

export interface Step {
  readonly step: number
  readonly steps: number
  /** The mean loss of the step's examples, before the step. */
  readonly loss: number
}

export interface Trained {
  readonly steps: number
  readonly seconds: number
  readonly isStopped: boolean
  /** The number of examples that the classifier gives their own label. */
  readonly right: number
  readonly coefficients: number
}

export interface Answer {
  readonly label: string
  /** 0…1 */
  readonly score: number
}

export interface AdapterBytes {
  readonly config: Uint8Array
  readonly model: Uint8Array
}

/** The functions of the worker. */
export interface Calls {
  /** Loads the encoder from the server of the page with this URL. */
  load(page: string): Promise<void>
  /** Trains a new classifier, which then replaces the old one. Failed training leaves the old one. */
  train(examples: readonly Example[], settings: Settings): Promise<Trained>
  /** Stops the training after the current step, and keeps its result. */
  stop(): Promise<void>
  /** Returns all labels, the likeliest first. */
  classify(text: string): Promise<readonly Answer[]>
  /** Returns the contents of the adapter's two files. */
  save(): Promise<AdapterBytes>
}

export interface Request<Name extends keyof Calls = keyof Calls> {
  readonly id: number
  readonly name: Name
  readonly args: Parameters<Calls[Name]>
}

export interface Failure {
  readonly message: string
  /** The position of the example, from 0. */
  readonly row?: number
}

export type Reply =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly failure: Failure }
  | { readonly step: Step }
