/** The bound of calls, their order, and the end. */
import { expect, test } from 'vitest'
import { CallSlots } from './call-slots.js'

const never = new AbortController().signal

/** A call that runs until `end` is called. */
function call(slots: CallSlots, signal = never) {
  let end: () => void = () => undefined
  let hasBegun = false
  const work = async () => {
    hasBegun = true
    await new Promise<void>((resolve) => {
      end = resolve
    })
  }
  const done = slots.admit(() => slots.run(signal, work))
  return { done, end: () => end(), hasBegun: () => hasBegun }
}

const turn = () => new Promise((done) => setImmediate(done))

test('further calls wait in their order, and more than the most are refused', async () => {
  const slots = new CallSlots({ maxCalls: 3, maxRunning: 1 })
  const [a, b, c] = [call(slots), call(slots), call(slots)]
  await expect(slots.admit(async () => 1)).rejects.toMatchObject({ code: 'queue_full', status: 429 })
  await expect(slots.admit(async () => 1)).rejects.toSatisfy(
    ({ retryAfter }) => retryAfter >= 1 && retryAfter <= 60,
  )
  await turn()
  expect([a, b, c].map(({ hasBegun }) => hasBegun())).toEqual([true, false, false])
  a.end()
  await a.done
  await turn()
  expect([b, c].map(({ hasBegun }) => hasBegun())).toEqual([true, false])
  b.end()
  await turn()
  c.end()
  await c.done
  expect([slots.active, slots.waiting]).toEqual([0, 0])
})

test('a call that is aborted while it waits leaves the queue', async () => {
  const slots = new CallSlots({ maxCalls: 9, maxRunning: 1 })
  const first = call(slots)
  const controller = new AbortController()
  const second = call(slots, controller.signal)
  const third = call(slots)
  controller.abort(new Error('gone'))
  await expect(second.done).rejects.toThrow('gone')
  expect([slots.active, slots.waiting]).toEqual([1, 1])
  first.end()
  await turn()
  expect(third.hasBegun()).toBe(true)
  third.end()
  await third.done
})

test('never more calls run than allowed, also if one begins while another ends', async () => {
  const slots = new CallSlots({ maxCalls: 1000, maxRunning: 3 })
  let running = 0
  let most = 0
  const work = async () => {
    most = Math.max(most, ++running)
    await turn()
    running--
  }
  await Promise.all(
    Array.from({ length: 100 }, async (_, i) => {
      for (let k = 0; k < i % 4; k++) await turn()
      await slots.run(never, work)
    }),
  )
  expect(most).toBe(3)
})

test('close waits for the calls, at most for some time', async () => {
  const slots = new CallSlots({ maxCalls: 9, maxRunning: 9 })
  const first = call(slots)
  let isClosed = false
  const closing = slots.close(60_000).then(() => {
    isClosed = true
  })
  await turn()
  expect(isClosed).toBe(false)
  first.end()
  await closing
  call(slots)
  await slots.close(1)
})

test('a call that prepares counts, but holds no slot', async () => {
  const slots = new CallSlots({ maxCalls: 2, maxRunning: 1 })
  let ready: () => void = () => undefined
  const slow = slots.admit(async () => {
    await new Promise<void>((resolve) => {
      ready = resolve
    })
    return slots.run(never, async () => 'slow')
  })
  expect(await slots.admit(() => slots.run(never, async () => 'quick'))).toBe('quick')
  const other = call(slots)
  await expect(slots.admit(async () => 1)).rejects.toMatchObject({ code: 'queue_full' })
  ready()
  other.end()
  expect(await slow).toBe('slow')
  await other.done
})
