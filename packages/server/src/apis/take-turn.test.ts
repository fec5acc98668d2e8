import { expect, test } from 'vitest'
import { takeTurn } from './take-turn.js'

const { signal } = new AbortController()

test('between long texts the process does other work; short texts do not wait', async () => {
  const events: string[] = []
  setImmediate(() => events.push('other work'))
  await takeTurn(10, signal)
  for (let i = 0; i < 100; i++) await takeTurn(50, signal)
  events.push('short texts')
  await takeTurn(16_000, signal)
  events.push('long text')
  expect(events).toEqual(['short texts', 'other work', 'long text'])
})

test('of texts that wait, each has its own turn, in their order', async () => {
  const events: string[] = []
  const texts = [0, 1, 2].map((i) => takeTurn(16_000, signal).then(() => events.push(`text ${i}`)))
  const others = async () => {
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setImmediate(resolve))
      events.push('other work')
    }
  }
  await Promise.all([...texts, others()])
  const places = [0, 1, 2].map((i) => events.indexOf(`text ${i}`))
  expect(places).toEqual(places.toSorted((a, b) => a - b))
  for (const [i, place] of places.slice(1).entries())
    expect(events.slice(places[i], place)).toContain('other work')
})

test('an aborted request gets no turn', async () => {
  const controller = new AbortController()
  await takeTurn(16_000, signal)
  const waiting = takeTurn(16_000, controller.signal)
  controller.abort(new Error('gone'))
  await expect(waiting).rejects.toThrow('gone')
})
