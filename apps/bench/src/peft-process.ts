/** Starts PEFT on PyTorch in a second process, which measures itself on request (`python/peft_process.py`). */
import { spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Case, Clock } from './measure.js'

export interface PeftSize {
  readonly d: number
  readonly tokens: number
  /** The number of successive layers of `d × d`; for pocketfft, of pairs of a transform and its inverse. Default: 1 */
  readonly layers?: number
}

export interface PeftProcess {
  /** Versions and threads, to print with the results. */
  readonly description: string
  /** `training` is the forward pass and the gradients of the input and of the adapter's parameters. pocketfft has only `forward`. */
  case(
    name: 'frozen' | 'LoRA' | 'FourierFT' | 'pocketfft',
    pass: 'forward' | 'training',
    size: PeftSize,
  ): Case
  stop(): void
}

/**
 * Starts the process. @returns undefined if the Python in `FOURIERFT_PYTHON` (default: python3) has no PEFT
 *
 * @param options.threads the number of threads of PyTorch; default: PyTorch chooses
 */
export async function startPeftProcess({
  threads: threadCount,
  clock = 'wall',
}: {
  readonly threads?: number
  readonly clock?: Clock
} = {}): Promise<PeftProcess | undefined> {
  const python = process.env.FOURIERFT_PYTHON ?? 'python3'
  if (spawnSync(python, ['-c', 'import peft, torch']).status !== 0) return undefined
  const script = fileURLToPath(new URL('../python/peft_process.py', import.meta.url))
  // OpenMP threads must not spin at a barrier: if another process takes a core, PyTorch would be a hundred times slower.
  const env = { OMP_WAIT_POLICY: 'PASSIVE', ...process.env }
  const options = ['--clock', clock, ...(threadCount === undefined ? [] : ['--threads', String(threadCount)])]
  const child = spawn(python, [script, ...options], { stdio: ['pipe', 'pipe', 'inherit'], env })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const answer = async () => {
    const { value, done } = await lines.next()
    if (done) throw new Error('the process of PEFT ended')
    return JSON.parse(value)
  }
  const { torch, peft, numpy, threads } = await answer()
  return {
    description: `PyTorch ${torch}, PEFT ${peft}, NumPy ${numpy}, ${threads} thread${threads === 1 ? '' : 's'}`,
    case: (name, pass, { d, tokens, layers = 1 }) => ({
      name: name === 'frozen' ? 'PyTorch frozen' : name === 'pocketfft' ? name : `PEFT ${name}`,
      run: () => {},
      time: async (repeats) => {
        child.stdin.write(`${JSON.stringify({ case: name, pass, d, tokens, layers, repeats })}\n`)
        return (await answer()).seconds * 1000
      },
    }),
    stop: () => child.kill(),
  }
}
