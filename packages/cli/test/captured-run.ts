/** One call of the command inside this process, with what it would have printed. */
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

/** The directory of an adapter that PEFT made (`conformance/oracle/make_vectors.py`). */
export function peftAdapter(name: string): string {
  return fileURLToPath(new URL(`../../../conformance/vectors/adapters/${name}`, import.meta.url))
}
