import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test, vi } from 'vitest'
import { RunLog } from './run-log.js'

const folder = await mkdtemp(join(tmpdir(), 'run-log-'))
afterAll(() => rm(folder, { recursive: true }))

test('computes each result once, also in another process', async () => {
  const path = join(folder, 'new', 'runs.jsonl')
  const compute = vi.fn(async () => ({ accuracy: 0.5 }))
  expect(await new RunLog(path).run({ seed: 1 }, compute)).toEqual({ accuracy: 0.5 })
  expect(await new RunLog(path).run({ seed: 1 }, compute)).toEqual({ accuracy: 0.5 })
  expect(compute).toHaveBeenCalledTimes(1)
  await new RunLog(path).run({ seed: 2 }, compute)
  expect(compute).toHaveBeenCalledTimes(2)
  expect((await readFile(path, 'utf8')).trim().split('\n')).toHaveLength(2)
})

test('without a file nothing is kept', async () => {
  const compute = vi.fn(async () => ({ accuracy: 0.5 }))
  const log = new RunLog(undefined)
  await log.run({ seed: 1 }, compute)
  await log.run({ seed: 1 }, compute)
  expect(compute).toHaveBeenCalledTimes(2)
})
