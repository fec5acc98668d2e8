/** The exported models in this folder, and the selection that quick tests run. */
import { readdirSync, readFileSync } from 'node:fs'

const folder = new URL('./', import.meta.url)

/** The names of all models, without `.onnx`. */
export const MODEL_NAMES: readonly string[] = readdirSync(folder)
  .filter((file) => file.endsWith('.onnx'))
  .map((file) => file.slice(0, -'.onnx'.length))

export function modelBytes(name: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(new URL(`${name}.onnx`, folder)))
}

/** Whether a test runs all of its cases: `*.slow.test.ts` files set the variable and import the quick tests. */
export const RUNS_ALL_CASES = process.env.FOURIERFT_ALL_CASES !== undefined

/** Returns the cases of a test that takes long for each case: all cases in slow tests, otherwise only those that `isQuick` selects. */
export function quickOrAllCases<T>(all: readonly T[], isQuick: (testCase: T) => boolean): T[] {
  return all.filter((testCase) => RUNS_ALL_CASES || isQuick(testCase))
}
