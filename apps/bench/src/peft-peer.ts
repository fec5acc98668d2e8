/** PEFT on PyTorch, in a process beside this one that measures itself when it is asked (`python/peft_peer.py`). */
import { spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Case } from './measure.js'

export interface PeftPeer {
  /** Versions and threads, for the reader of the table. */
  readonly description: string
  /** A layer of `d × d`; training is forward and backward pass by the input and what the adapter trains. */
  case(name: 'frozen' | 'LoRA' | 'FourierFT', pass: 'forward' | 'training', d: number, tokens: number): Case
  stop(): void
}

/** The peer, or undefined where the Python that `FOURIERFT_PYTHON` names (else python3) has no PEFT. */
export async function startPeftPeer(): Promise<PeftPeer | undefined> {
  const python = process.env.FOURIERFT_PYTHON ?? 'python3'
  if (spawnSync(python, ['-c', 'import peft, torch']).status !== 0) return undefined
  const script = fileURLToPath(new URL('../python/peft_peer.py', import.meta.url))
  // Threads of OpenMP that spin at a barrier for one that has no core make PyTorch a hundred times slower beside another process.
  const env = { OMP_WAIT_POLICY: 'PASSIVE', ...process.env }
  const child = spawn(python, [script], { stdio: ['pipe', 'pipe', 'inherit'], env })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const answer = async () => {
    const { value, done } = await lines.next()
    if (done) throw new Error('the process of PEFT ended')
    return JSON.parse(value)
  }
  const { torch, peft, threads } = await answer()
  return {
    description: `PyTorch ${torch}, PEFT ${peft}, ${threads} threads`,
    case: (name, pass, d, tokens) => ({
      name: `PEFT ${name}`,
      run: () => {},
      time: async (repeats) => {
        child.stdin.write(`${JSON.stringify({ case: name, pass, d, tokens, repeats })}\n`)
        return (await answer()).seconds * 1000
      },
    }),
    stop: () => child.kill(),
  }
}
