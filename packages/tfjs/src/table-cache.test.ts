import { uniformEntries } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { useBackend } from './__fixtures__/use-backend.js'
import { entriesKey, TableCache } from './table-cache.js'

const entries = (seed: number) => uniformEntries({ shape: [6, 8], n: 5, seed })

describe('TableCache', () => {
  beforeAll(() => useBackend('cpu'))

  it('computes a table once for equal entries, and keeps it when tidy ends', () => {
    const cache = new TableCache()
    let computed = 0
    const table = (seed: number) =>
      tf.tidy(() => {
        const found = cache.table(entries(seed), 'ones', () => {
          computed++
          return tf.ones([4])
        })
        expect(found.isDisposed).toBe(false)
      })
    table(1)
    table(1)
    expect(computed).toBe(1)
    table(2)
    expect(computed).toBe(2)
    expect(cache.bytes).toBe(32)
    cache.retain([entries(2)])
    expect(cache.bytes).toBe(16)
    table(2)
    expect(computed).toBe(2)
    cache.dispose()
    expect(cache.bytes).toBe(0)
    expect(tf.memory().numTensors).toBe(0)
  })

  it('frees the least recently used tables, and never those of the current entries', () => {
    const cache = new TableCache(100)
    const sized = (seed: number, size: number) => cache.table(entries(seed), `${size}`, () => tf.ones([size]))
    const first = sized(1, 10)
    const second = sized(2, 10)
    sized(1, 10)
    sized(3, 10)
    expect([first.isDisposed, second.isDisposed]).toEqual([false, true])
    const large = sized(4, 100)
    expect(sized(4, 50).isDisposed || large.isDisposed).toBe(false)
    expect(first.isDisposed).toBe(true)
    expect(cache.bytes).toBe(600)
    cache.dispose()
    expect(tf.memory().numTensors).toBe(0)
  })

  it('distinguishes shapes with equal positions', () => {
    const tall = uniformEntries({ shape: [8, 6], n: 5, seed: 1 })
    expect(entriesKey({ ...tall, shape: [6, 8] })).not.toBe(entriesKey(tall))
  })
})
