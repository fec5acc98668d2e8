import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Adapter, savePretrained } from '@fourierft/core'
import { describe, expect, it, vi } from 'vitest'
import { testAdapter } from '../__fixtures__/adapters.js'
import { functionResolver } from './function.js'

const { signal } = new AbortController()

function scalings({ config }: Adapter): number {
  return config.scaling
}

describe('functionResolver', () => {
  it('reads bytes, and their version is their content', async () => {
    const stored = new Map([['customer', testAdapter({ scaling: 2 }).toBytes()]])
    const resolver = functionResolver((name) => stored.get(name))
    const found = await resolver.find('customer', signal)
    expect(scalings((await found?.read(signal)) as Adapter)).toBe(2)
    stored.set('customer', testAdapter({ scaling: 2 }).toBytes())
    expect((await resolver.find('customer', signal))?.version).toBe(found?.version)
    stored.set('customer', testAdapter({ scaling: 3 }).toBytes())
    expect((await resolver.find('customer', signal))?.version).not.toBe(found?.version)
    expect(await resolver.find('other', signal)).toBeUndefined()
  })

  it('takes adapters, whose version is the object', async () => {
    let adapter = testAdapter()
    const resolver = functionResolver(async () => adapter)
    const found = await resolver.find('customer', signal)
    expect(await found?.read(signal)).toBe(adapter)
    expect((await resolver.find('customer', signal))?.version).toBe(found?.version)
    adapter = testAdapter()
    expect((await resolver.find('customer', signal))?.version).not.toBe(found?.version)
  })

  it('loads paths', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'fourierft-server-'))
    try {
      await savePretrained(testAdapter({ scaling: 4 }), folder)
      const found = await functionResolver(() => folder).find('customer', signal)
      expect(scalings((await found?.read(signal)) as Adapter)).toBe(4)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('passes the name and the signal, and the errors of the function', async () => {
    const find = vi.fn(() => {
      throw new Error('the database is down')
    })
    await expect(functionResolver(find).find('customer', signal)).rejects.toThrow('the database is down')
    expect(find).toHaveBeenCalledWith('customer', signal)
  })

  it('rejects files beyond the limit', async () => {
    const resolver = functionResolver(() => testAdapter().toBytes(), { maxBytes: 100 })
    const found = await resolver.find('customer', signal)
    await expect(found?.read(signal)).rejects.toMatchObject({ code: 'FILE_TOO_LARGE' })
  })
})
