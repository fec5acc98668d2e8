/** The meter with a clock that the test sets. */
import { beforeEach, expect, test, vi } from 'vitest'
import { BlockMeter } from './block-meter.js'

let now = 0
beforeEach(() => {
  vi.spyOn(performance, 'now').mockImplementation(() => now)
  return () => vi.restoreAllMocks()
})

/** Lets the clock run while other events are handled. */
const elsewhere = (milliseconds: number) =>
  new Promise<void>((resolve) => {
    setImmediate(() =>
      setImmediate(() => {
        now += milliseconds
        resolve()
      }),
    )
  })

test('work in the same thread counts, with what comes before and after it', async () => {
  const blocks = new BlockMeter()
  now += 1
  await blocks.during(async () => {
    now += 50
  })
  now += 2
  expect(blocks.longest()).toBe(53)
})

test('of work in another thread only the start counts, and what follows it', async () => {
  const blocks = new BlockMeter()
  now += 1
  await blocks.during(async () => {
    now += 4
    await elsewhere(100)
  })
  expect(blocks.longest()).toBe(5)
  now += 7
  expect(blocks.longest()).toBe(7)
})

test('a pause begins a new block, also after work that fails', async () => {
  const blocks = new BlockMeter()
  now += 3
  await blocks.pause()
  now += 4
  const failing = blocks.during(async () => {
    now += 5
    throw new Error('failed')
  })
  await expect(failing).rejects.toThrow('failed')
  await blocks.pause()
  now += 2
  expect(blocks.longest()).toBe(9)
})
