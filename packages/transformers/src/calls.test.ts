/** Calls and changes come in the order in which they were begun. */
import { expect, test } from 'vitest'
import { Calls } from './calls.js'

/** A call or change that says when it begins and ends when it is told. */
function step(log: string[], name: string) {
  let end = () => {}
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })
  const work = async () => {
    log.push(name)
    await ended
    log.push(`${name} ends`)
  }
  return { work, end }
}

const settle = () => new Promise((resolve) => setTimeout(resolve))

test('a change waits for the calls before it, the calls after it wait for the change', async () => {
  const calls = new Calls()
  const log: string[] = []
  const [a, b, change, c] = ['a', 'b', 'change', 'c'].map((name) => step(log, name)) as [
    ReturnType<typeof step>,
    ReturnType<typeof step>,
    ReturnType<typeof step>,
    ReturnType<typeof step>,
  ]
  const all = [calls.begin(a.work), calls.begin(b.work), calls.change(change.work), calls.begin(c.work)]
  expect(log).toEqual(['a', 'b'])
  a.end()
  await settle()
  expect(log).toEqual(['a', 'b', 'a ends'])
  b.end()
  await settle()
  expect(log.slice(3)).toEqual(['b ends', 'change'])
  change.end()
  await settle()
  expect(log.slice(5)).toEqual(['change ends', 'c'])
  c.end()
  await Promise.all(all)
  // Nothing is due any more: at once.
  calls.begin(async () => void log.push('at once'))
  expect(log.at(-1)).toBe('at once')
})

test('what fails holds nobody up', async () => {
  const calls = new Calls()
  const fail = async () => {
    throw new Error('failed')
  }
  const results = [
    calls.begin(fail),
    calls.change(fail),
    calls.begin(async () => 1),
    calls.change(async () => 2),
  ]
  expect((await Promise.allSettled(results)).map(({ status }) => status)).toEqual([
    'rejected',
    'rejected',
    'fulfilled',
    'fulfilled',
  ])
  await calls.idle()
})
