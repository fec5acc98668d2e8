import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { type Adapter, FourierFTError, MODEL_FILE, savePretrained } from '@fourierft/core'
import { beforeEach, describe, expect, it } from 'vitest'
import { testAdapter } from './__fixtures__/adapters.js'
import { AdapterCache, type AdapterCacheOptions } from './adapter-cache.js'
import { ServerError } from './errors.js'
import { folderResolver } from './resolver/folder.js'
import type { Resolver } from './resolver/resolver.js'

interface Made {
  readonly name: string
  readonly scaling: number
  readonly bytes: number
}

const { signal } = new AbortController()
const adapter = testAdapter()

/** Adapters in memory, with versions that a test can change. Reading can be held up. */
class Shelf implements Resolver {
  readonly versions = new Map<string, string>()
  /** Names that were read, in their order. */
  readonly reads: string[] = []
  readonly aborted: string[] = []
  /** Awaited by each reading. */
  held: Promise<unknown> = Promise.resolve()
  fault: unknown

  constructor(...names: string[]) {
    for (const name of names) this.versions.set(name, '1')
  }

  async find(name: string, signal: AbortSignal) {
    signal.throwIfAborted()
    const version = this.versions.get(name)
    if (version === undefined) return undefined
    const read = async (signal: AbortSignal): Promise<Adapter> => {
      this.reads.push(name)
      signal.addEventListener('abort', () => this.aborted.push(name))
      await this.held
      if (this.fault !== undefined) throw this.fault
      return adapter
    }
    return { version, read }
  }
}

function cacheOf(resolver: Resolver, options: Partial<AdapterCacheOptions<Made>> = {}): AdapterCache<Made> {
  const make = async (name: string, { config }: Adapter) => ({ name, scaling: config.scaling, bytes: 100 })
  return new AdapterCache({ resolver, make, memory: 300, ...options })
}

/** A promise and the function that resolves it. */
function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open }
}

describe('get', () => {
  it('loads at the first use, and then has it', async () => {
    const shelf = new Shelf('a')
    const cache = cacheOf(shelf)
    const first = await cache.get('a', signal)
    expect(await cache.get('a', signal)).toBe(first)
    expect(shelf.reads).toEqual(['a'])
    expect([cache.size, cache.bytes, cache.isResident('a')]).toEqual([1, 100, true])
  })

  it('loads once for a thousand concurrent requests', async () => {
    const shelf = new Shelf('a')
    const { opened, open } = gate()
    shelf.held = opened
    const cache = cacheOf(shelf)
    const requests = Array.from({ length: 1000 }, () => cache.get('a', new AbortController().signal))
    await turn()
    open()
    expect(new Set(await Promise.all(requests)).size).toBe(1)
    expect(shelf.reads).toEqual(['a'])
  })

  it('says that an unknown name is not found', async () => {
    await expect(cacheOf(new Shelf()).get('a', signal)).rejects.toMatchObject({
      code: 'model_not_found',
      param: 'model',
    })
  })

  it('loads again if the version has changed, and forgets what is deleted', async () => {
    const shelf = new Shelf('a')
    const cache = cacheOf(shelf)
    const first = await cache.get('a', signal)
    shelf.versions.set('a', '2')
    expect(await cache.get('a', signal)).not.toBe(first)
    expect([cache.size, cache.bytes]).toEqual([1, 100])
    shelf.versions.delete('a')
    await expect(cache.get('a', signal)).rejects.toMatchObject({ code: 'model_not_found' })
    expect([cache.size, cache.bytes]).toEqual([0, 0])
  })

  it('keeps the newest version if an older load ends later', async () => {
    const shelf = new Shelf('a')
    const { opened, open } = gate()
    shelf.held = opened
    const cache = cacheOf(shelf)
    const older = cache.get('a', signal)
    await turn()
    shelf.versions.set('a', '2')
    shelf.held = Promise.resolve()
    const newer = await cache.get('a', signal)
    open()
    expect(await older).not.toBe(newer)
    expect(await cache.get('a', signal)).toBe(newer)
    expect(cache.bytes).toBe(100)
  })

  it('does not keep an adapter that was deleted while it was loaded', async () => {
    const shelf = new Shelf('a')
    const { opened, open } = gate()
    shelf.held = opened
    const cache = cacheOf(shelf)
    const loading = cache.get('a', signal)
    await turn()
    shelf.versions.delete('a')
    await expect(cache.get('a', signal)).rejects.toMatchObject({ code: 'model_not_found' })
    open()
    expect(await loading).toMatchObject({ name: 'a' })
    expect(cache.size).toBe(0)
  })

  it('loads a bounded number of adapters at the same time', async () => {
    const names = Array.from({ length: 50 }, (_, i) => `a${i}`)
    const shelf = new Shelf(...names)
    const { opened, open } = gate()
    shelf.held = opened
    const cache = cacheOf(shelf, { memory: 1e6 })
    const requests = names.map((name) => cache.get(name, new AbortController().signal))
    await turn()
    expect(shelf.reads).toHaveLength(16)
    open()
    await Promise.all(requests)
    expect(cache.size).toBe(50)
  })
})

describe('memory', () => {
  it('evicts the least recently used adapter', async () => {
    const shelf = new Shelf('a', 'b', 'c', 'd')
    const cache = cacheOf(shelf)
    for (const name of ['a', 'b', 'c', 'a', 'd']) await cache.get(name, signal)
    expect([...cache.names()]).toEqual(['c', 'a', 'd'])
    expect([cache.size, cache.bytes]).toEqual([3, 300])
    await cache.get('b', signal)
    expect([...cache.names()]).toEqual(['a', 'd', 'b'])
  })

  it('does not evict pinned adapters', async () => {
    const cache = cacheOf(new Shelf('a', 'b', 'c', 'd', 'e'), { pinned: ['a'] })
    cache.pin('b')
    for (const name of ['a', 'b', 'c', 'd', 'e']) await cache.get(name, signal)
    expect([...cache.names()]).toEqual(['a', 'b', 'e'])
    cache.unpin('a')
    await cache.get('c', signal)
    expect([...cache.names()]).toEqual(['b', 'e', 'c'])
    expect([cache.isPinned('a'), cache.isPinned('b')]).toEqual([false, true])
  })

  it('rejects an adapter that is larger than the memory, and does not read it again', async () => {
    const shelf = new Shelf('a', 'b')
    const cache = cacheOf(shelf, {
      make: async (name) => ({ name, scaling: 1, bytes: name === 'a' ? 301 : 300 }),
    })
    await cache.get('b', signal)
    for (let i = 0; i < 2; i++)
      await expect(cache.get('a', signal)).rejects.toMatchObject({ code: 'adapter_too_large', status: 413 })
    expect(shelf.reads).toEqual(['b', 'a'])
    expect(cache.isResident('b')).toBe(true)
  })

  it('rejects an adapter that has no room beside the pinned ones, until one is unpinned', async () => {
    const cache = cacheOf(new Shelf('a', 'b', 'c', 'd'), { pinned: ['a', 'b', 'c'] })
    for (const name of ['a', 'b', 'c']) await cache.get(name, signal)
    await expect(cache.get('d', signal)).rejects.toThrow(/pinned adapters take 300/)
    cache.unpin('a')
    await cache.get('d', signal)
    expect([...cache.names()]).toEqual(['b', 'c', 'd'])
  })

  it('has a part of the free memory by default', () => {
    const { memory } = new AdapterCache({ resolver: new Shelf(), make: async () => ({ bytes: 1 }) })
    expect(memory).toBeGreaterThan(2 ** 20)
    expect(memory).toBeLessThanOrEqual(process.availableMemory())
  })
})

describe('failures', () => {
  const broken = new FourierFTError('INVALID_SAFETENSORS', 'adapter_model.safetensors: it is cut off')

  it('does not read broken files again until they change', async () => {
    const shelf = new Shelf('a')
    shelf.fault = broken
    const cache = cacheOf(shelf)
    for (let i = 0; i < 3; i++)
      await expect(cache.get('a', signal)).rejects.toMatchObject({
        code: 'invalid_adapter',
        status: 422,
        message: expect.stringContaining('cut off'),
      })
    expect(shelf.reads).toEqual(['a'])
    shelf.fault = undefined
    shelf.versions.set('a', '2')
    expect(await cache.get('a', signal)).toMatchObject({ name: 'a' })
  })

  it('does not answer with the old version of files that are broken now', async () => {
    const shelf = new Shelf('a')
    const cache = cacheOf(shelf)
    await cache.get('a', signal)
    shelf.versions.set('a', '2')
    shelf.fault = broken
    await expect(cache.get('a', signal)).rejects.toMatchObject({ code: 'invalid_adapter' })
    expect(cache.size).toBe(0)
  })

  it('remembers a bounded number of failures', async () => {
    const names = Array.from({ length: 1001 }, (_, i) => `a${i}`)
    const shelf = new Shelf(...names)
    shelf.fault = broken
    const cache = cacheOf(shelf)
    for (const name of [...names, 'a1000', 'a0']) await cache.get(name, signal).catch(() => {})
    expect(shelf.reads.slice(1001)).toEqual(['a0'])
  })

  it.each([
    ['a closed model', new FourierFTError('INVALID_STATE', 'the model is closed')],
    ['a full queue', new ServerError('queue_full', 'full')],
    ['a bug', new TypeError('undefined is not a function')],
  ])('passes the error of %s on, and tries again', async (_, fault) => {
    const shelf = new Shelf('a')
    shelf.fault = fault
    const cache = cacheOf(shelf)
    await expect(cache.get('a', signal)).rejects.toBe(fault)
    shelf.fault = undefined
    expect(await cache.get('a', signal)).toMatchObject({ name: 'a' })
  })

  it('says that an adapter is not found if its files vanish before they are read', async () => {
    const shelf = new Shelf('a')
    shelf.fault = new FourierFTError('FILE_NOT_FOUND', 'adapter_config.json does not exist')
    await expect(cacheOf(shelf).get('a', signal)).rejects.toMatchObject({ code: 'model_not_found' })
  })
})

describe('abort', () => {
  it('ends one request, and not the load for the others', async () => {
    const shelf = new Shelf('a')
    const { opened, open } = gate()
    shelf.held = opened
    const cache = cacheOf(shelf)
    const controller = new AbortController()
    const gone = cache.get('a', controller.signal)
    const other = cache.get('a', signal)
    await turn()
    controller.abort(new Error('the client has gone'))
    await expect(gone).rejects.toThrow('the client has gone')
    expect(shelf.aborted).toEqual([])
    open()
    expect(await other).toMatchObject({ name: 'a' })
  })

  it('ends a load for which nobody waits, and starts another one for the next request', async () => {
    const shelf = new Shelf('a')
    const { opened, open } = gate()
    shelf.held = opened
    const cache = cacheOf(shelf)
    const controller = new AbortController()
    const gone = [cache.get('a', controller.signal), cache.get('a', controller.signal)]
    await turn()
    controller.abort(new Error('the client has gone'))
    for (const request of gone) await expect(request).rejects.toThrow('the client has gone')
    expect(shelf.aborted).toEqual(['a'])
    open()
    expect(await cache.get('a', signal)).toMatchObject({ name: 'a' })
    expect(shelf.reads).toEqual(['a', 'a'])
    expect(cache.bytes).toBe(100)
  })
})

it('tells what happens', async () => {
  const log: string[] = []
  const shelf = new Shelf('a', 'b')
  const cache = cacheOf(shelf, {
    memory: 100,
    events: {
      hit: () => log.push('hit'),
      miss: () => log.push('miss'),
      loaded: (name, seconds, result) => log.push(`${result} ${name} ${seconds >= 0 && seconds < 60}`),
      removed: (name, resident, reason) => log.push(`${reason} ${name} ${resident.name}`),
    },
  })
  await cache.get('a', signal)
  await cache.get('a', signal)
  await cache.get('b', signal)
  shelf.fault = new FourierFTError('INVALID_JSON', 'not JSON')
  shelf.versions.set('b', '2')
  await cache.get('b', signal).catch(() => {})
  await cache.get('b', signal).catch(() => {})
  expect(log).toEqual([
    'miss',
    'loaded a true',
    'hit',
    'miss',
    'evicted a a',
    'loaded b true',
    'miss',
    'changed b b',
    'failed b true',
    'miss',
  ])
})

describe('with a folder', () => {
  let folder: string

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fourierft-server-'))
    return () => rm(folder, { recursive: true })
  })

  it('serves what the folder contains at each moment', async () => {
    const cache = cacheOf(folderResolver(folder))
    const scaling = async () => (await cache.get('customer', signal)).scaling
    await expect(scaling()).rejects.toMatchObject({ code: 'model_not_found' })
    await savePretrained(testAdapter({ scaling: 2 }), join(folder, 'customer'))
    expect(await scaling()).toBe(2)
    await savePretrained(testAdapter({ scaling: 3 }), join(folder, 'customer'))
    expect(await scaling()).toBe(3)
    await truncate(join(folder, 'customer', MODEL_FILE), 100)
    await expect(scaling()).rejects.toMatchObject({ code: 'invalid_adapter', status: 422 })
    await writeFile(join(folder, 'customer', MODEL_FILE), testAdapter({ scaling: 3 }).toBytes().model)
    expect(await scaling()).toBe(3)
    await rm(join(folder, 'customer'), { recursive: true })
    await expect(scaling()).rejects.toMatchObject({ code: 'model_not_found' })
    expect([cache.size, cache.bytes]).toEqual([0, 0])
  })

  it('does not look up names that are paths', async () => {
    await savePretrained(testAdapter(), folder)
    const cache = cacheOf(folderResolver(join(folder, 'inner')))
    await expect(cache.get('..', signal)).rejects.toMatchObject({ code: 'model_not_found' })
  })
})
