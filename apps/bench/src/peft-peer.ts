/** PEFT on PyTorch, in a process beside this one that measures itself when it is asked (`python/peft_peer.py`). */
import { spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Case, Clock } from './measure.js'

export interface PeerSize {
  readonly d: number
  readonly tokens: number
  /** Layers of `d × d`, one after the other; pocketfft: so many transforms there and back. Default: 1 */
  readonly layers?: number
}

export interface PeftPeer {
  /** Versions and threads, for the reader of the table. */
  readonly description: string
  /** Training is forward and backward pass by the input and what the adapter trains; pocketfft has one pass. */
  case(
    name: 'frozen' | 'LoRA' | 'FourierFT' | 'pocketfft',
    pass: 'forward' | 'training',
    size: PeerSize,
  ): Case
  stop(): void
}

/**
 * The peer, or undefined where the Python that `FOURIERFT_PYTHON` names (else python3) has no PEFT.
 *
 * @param options.threads of PyTorch; its own choice by default
 */
export async function startPeftPeer({
  threads: wanted,
  clock = 'wall',
}: {
  readonly threads?: number
  readonly clock?: Clock
} = {}): Promise<PeftPeer | undefined> {
  const python = process.env.FOURIERFT_PYTHON ?? 'python3'
  if (spawnSync(python, ['-c', 'import peft, torch']).status !== 0) return undefined
  const script = fileURLToPath(new URL('../python/peft_peer.py', import.meta.url))
  // Threads of OpenMP that spin at a barrier for one that has no core make PyTorch a hundred times slower beside another process.
  const env = { OMP_WAIT_POLICY: 'PASSIVE', ...process.env }
  const options = ['--clock', clock, ...(wanted === undefined ? [] : ['--threads', String(wanted)])]
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
