/** The URLs of the exports, and the outputs of PyTorch and PEFT. */
import { env, LogLevel } from '@huggingface/transformers'
import { serveWasm } from './serve-wasm.js'

const FIXTURES = '/packages/transformers/test/__fixtures__/'
export const fixture = (path: string) => new URL(FIXTURES + path, location.href)

export interface Vectors {
  readonly cases: readonly {
    readonly text: string
    readonly base: { readonly logits: number[]; readonly tokens?: number[] }
    readonly 'adapter-b': { readonly logits: number[]; readonly tokens?: number[] }
  }[]
}
export const vectorsOf = async (name: string): Promise<Vectors> =>
  (await fetch(fixture(`${name}/vectors.json`))).json()

/** Makes transformers.js load the exports and its WebAssembly from this server. */
export function useFixtures(): void {
  env.allowLocalModels = true
  env.allowRemoteModels = false
  env.localModelPath = FIXTURES
  env.logLevel = LogLevel.ERROR
  serveWasm()
}
