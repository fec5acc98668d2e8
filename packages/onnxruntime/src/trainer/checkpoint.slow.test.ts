/** Checkpoints of processes that are killed at random moments, or whose disk is full. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { decodeCheckpoint } from './checkpoint.js'

const program = fileURLToPath(new URL('../../test/training-process.js', import.meta.url))
const model = fileURLToPath(new URL('../../../onnx/src/__fixtures__/bert-batch.onnx', import.meta.url))
const EPOCHS = 40

let folder: string
let checkpoint: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fourierft-checkpoint-'))
  checkpoint = join(folder, 'run.safetensors')
})
afterEach(() => rmSync(folder, { recursive: true }))

/** Runs a whole training, and returns the bits of the adapter. */
function finish(path: string, epochs = EPOCHS): string {
  const result = join(folder, 'result.safetensors')
  const { status, stderr } = spawnSync(process.execPath, [program, model, path, result, String(epochs)], {
    encoding: 'utf8',
  })
  expect(status, stderr).toBe(0)
  return readFileSync(result).toString('hex')
}

/** Kills the process some time after its first step. Returns whether it had ended before. */
function startAndKill(delay: number): Promise<boolean> {
  const child = spawn(
    process.execPath,
    [program, model, checkpoint, join(folder, 'killed'), String(EPOCHS)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  child.stdout.once('data', () => setTimeout(() => child.kill('SIGKILL'), delay))
  return new Promise((resolve) => child.once('close', (_, signal) => resolve(signal !== 'SIGKILL')))
}

const stepOf = (path: string) => decodeCheckpoint(new Uint8Array(readFileSync(path)), path).step

test('after kill -9 at 100 random moments, each checkpoint loads and the resumed run ends with the same bits', async () => {
  const uninterrupted = finish(join(folder, 'uninterrupted.safetensors'))
  let [kills, completed, last] = [0, 0, 0]
  while (kills < 100) {
    const hasEnded = await startAndKill(Math.random() * 60)
    const step = stepOf(checkpoint)
    expect(step).toBeGreaterThanOrEqual(last)
    last = step
    if (!hasEnded) kills++
    // The rest of a run that is killed every few steps.
    if (hasEnded || step > EPOCHS * 4) {
      expect(finish(checkpoint)).toBe(uninterrupted)
      completed++
      rmSync(checkpoint)
      last = 0
    }
  }
  if (existsSync(checkpoint)) expect(finish(checkpoint)).toBe(uninterrupted)
  expect(completed).toBeGreaterThan(0)
  // A process that is killed while it writes leaves at most one file more.
  const files = readdirSync(folder).filter((name) => name.startsWith('run.'))
  expect(files.every((name) => ['run.safetensors', 'run.safetensors.tmp'].includes(name))).toBe(true)
})

describe.skipIf(process.platform === 'win32')('a disk that is full', () => {
  test('leaves the last checkpoint, from which the run ends with the same bits', async () => {
    const uninterrupted = finish(join(folder, 'uninterrupted.safetensors'))
    await startAndKill(30)
    const before = readFileSync(checkpoint)
    // A limit of 1024 bytes for each file takes the place of the disk.
    const script = `trap '' XFSZ; ulimit -f 1; exec "$@"`
    const result = join(folder, 'limited.safetensors')
    const command = [process.execPath, program, model, checkpoint, result, String(EPOCHS)]
    const { stdout } = spawnSync('bash', ['-c', script, 'bash', ...command], { encoding: 'utf8' })
    expect(stdout.trim().split('\n').at(-1)).toBe('IO_ERROR')
    expect(readFileSync(checkpoint).equals(before)).toBe(true)
    expect(readdirSync(folder)).not.toContain('run.safetensors.tmp')
    expect(finish(checkpoint)).toBe(uninterrupted)
  })
})
