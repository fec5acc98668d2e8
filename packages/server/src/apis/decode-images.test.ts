import { setMaxListeners } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { decoded } from './decode-images.js'

const { signal } = new AbortController()
// More images than Node expects listeners.
setMaxListeners(0, signal)

test('two images are decoded at a time, and all decoded ones have 32 million pixels at most', async () => {
  const pixels = 2 ** 22
  const now = { decoding: 0, pixels: 0 }
  const most = { decoding: 0, pixels: 0 }
  const count = (name: 'decoding' | 'pixels', by: number) => {
    now[name] += by
    most[name] = Math.max(most[name], now[name])
  }
  const one = (i: number) =>
    decoded(pixels, signal, {
      async decode() {
        count('decoding', 1)
        count('pixels', pixels)
        await sleep(1)
        count('decoding', -1)
        return i
      },
      async work(image) {
        await sleep(10)
        count('pixels', -pixels)
        if (i % 5 === 0) throw new Error(`image ${image}`)
        return image
      },
    })
  const outcomes = await Promise.allSettled(Array.from({ length: 40 }, (_, i) => one(i)))
  expect(most).toEqual({ decoding: 2, pixels: 2 ** 25 })
  expect(outcomes.map(({ status }) => status)).toEqual(
    Array.from({ length: 40 }, (_, i) => (i % 5 === 0 ? 'rejected' : 'fulfilled')),
  )
})

test('damaged images and aborted requests give their place back', async () => {
  const damaged = Array.from({ length: 20 }, () =>
    decoded(2 ** 25, signal, { decode: () => Promise.reject(new Error('damaged')), work: async () => 1 }),
  )
  for (const { status } of await Promise.allSettled(damaged)) expect(status).toBe('rejected')

  const controller = new AbortController()
  let end = () => {}
  const running = decoded(2 ** 25, signal, {
    decode: async () => 'image',
    work: () =>
      new Promise<void>((resolve) => {
        end = resolve
      }),
  })
  const waiting = decoded(1, controller.signal, { decode: async () => 1, work: async () => 1 })
  controller.abort(new Error('gone'))
  await expect(waiting).rejects.toThrow('gone')
  const last = decoded(2 ** 25, signal, { decode: async () => 1, work: async (image) => image + 1 })
  end()
  await running
  expect(await last).toBe(2)
})
