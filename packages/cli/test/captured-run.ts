/** Runs the command in this process, and captures the text that it would print. */
import { fileURLToPath } from 'node:url'
import { run } from '../src/run.js'

export interface CapturedRun {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export async function capturedRun(...args: readonly string[]): Promise<CapturedRun> {
  let [stdout, stderr] = ['', '']
  const status = await run(args, {
    result: (text) => {
      stdout += text
    },
    diagnostic: (text) => {
      stderr += text
    },
  })
  return { status, stdout, stderr }
}

/** Returns the directory of an adapter that PEFT saved (`conformance/oracle/make_vectors.py`). */
export function peftAdapter(name: string): string {
  return fileURLToPath(new URL(`../../../conformance/vectors/adapters/${name}`, import.meta.url))
}
