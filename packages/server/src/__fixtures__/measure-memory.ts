/** Prints the growth of the process with COUNT / 2 adapters and with COUNT, and what the cache counts: `node --expose-gc measure-memory.js COUNT DTYPE`. */
import { loadAdapter } from '@fourierft/core'
import { AdapterCache } from '../adapter-cache.js'
import { Layouts, ResidentAdapter } from '../resident-adapter.js'
import { matched, testAdapter } from './adapters.js'

const [count, dtype] = [Number(process.argv[2]), process.argv[3] as 'F32' | 'F16']
const part = {}
const shape = [768, 768] as const
const files = testAdapter({ layers: 12, shape, nFrequency: 1000, scaling: 150 }).toBytes({ dtype })
const layouts = new Layouts<typeof part>()
const cache = new AdapterCache({
  resolver: { find: async () => ({ version: '1', read: () => loadAdapter(files) }) },
  memory: 2 ** 40,
  make: async (name, adapter) => new ResidentAdapter(name, matched(name, adapter, part, { shape }), layouts),
})
const { signal } = new AbortController()
const rss = () => {
  global.gc?.()
  return process.memoryUsage().rss
}
/** Loads adapters until the cache has `size`. @returns the growth of the process since its start */
async function growTo(size: number): Promise<number> {
  for (let i = cache.size; i < size; i++) await cache.get(`customer-${i}`, signal)
  return rss() - start
}
// The first one takes what is needed once: code and entries.
await cache.get('customer-0', signal)
const start = rss()
console.log(JSON.stringify([await growTo(count / 2), await growTo(count), cache.bytes]))
