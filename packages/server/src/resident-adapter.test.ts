import { Adapter, encodeFloats, savedTensor } from '@fourierft/core'
import { describe, expect, it } from 'vitest'
import { inDtype, matched, testAdapter } from './__fixtures__/adapters.js'
import { Layouts, type MatchedShares, ResidentAdapter } from './resident-adapter.js'

const part = { name: 'model' }
const head = {
  shape: [3, 8] as const,
  weight: Float32Array.from({ length: 24 }, (_, i) => i / 7),
  bias: Float32Array.of(0.1, -0.2, 0.3),
}

function resident(adapter: Adapter | MatchedShares<typeof part>, layouts = new Layouts<typeof part>()) {
  const shares = 'shares' in adapter ? adapter : matched('customer', adapter, part)
  return new ResidentAdapter('customer', shares, layouts)
}

describe('ResidentAdapter', () => {
  it.each(['F32', 'F16', 'BF16'] as const)('gives the layers and heads of a file in %s', async (dtype) => {
    const adapter = await inDtype(testAdapter({ head }), dtype)
    const expected = matched('customer', adapter, part)
    const share = resident(expected).shares.get(part)
    const { source: _, ...wanted } = expected.shares.get(part) ?? { source: undefined }
    expect(share).toEqual(wanted)
    for (const [key, layer] of share?.layers ?? [])
      expect(layer.entries).toBe(expected.shares.get(part)?.layers.get(key)?.entries)
  })

  it('takes 2 bytes for each number of a 16-bit file, and 4 for others', async () => {
    const adapter = testAdapter({ layers: 12, shape: [768, 768], nFrequency: 1000 })
    const byteLength = async (dtype: 'F32' | 'F16' | 'BF16') =>
      resident(await inDtype(adapter, dtype)).layout.byteLength
    expect(await byteLength('F32')).toBe(24 * 1000 * 4)
    expect(await byteLength('F16')).toBe(24 * 1000 * 2)
    expect(await byteLength('BF16')).toBe(24 * 1000 * 2)
  })

  it('keeps a head in the dtype of the file, and counts it', async () => {
    const adapter = await inDtype(testAdapter({ head }), 'F16')
    const { layout, bytes } = resident(adapter)
    expect(adapter.savedTensors.get(savedTensor('classifier', 'weight'))?.dtype).toBe('F32')
    // 4 modules with 6 coefficients of 2 bytes, then 24 + 3 numbers of 4 bytes.
    expect(layout.byteLength).toBe(4 * 6 * 2 + 27 * 4)
    expect(bytes).toBeGreaterThan(layout.byteLength)
  })

  it('keeps a head in 16 bits as it is', async () => {
    const adapter = testAdapter({ head })
    const tensors = new Map(
      Array.from(adapter.savedTensors, ([name, { shape, bytes }]) => {
        const floats = new Float32Array(bytes.slice().buffer)
        return [name, { dtype: 'BF16' as const, shape, bytes: encodeFloats(floats, 'BF16') }]
      }),
    )
    const { config, modules, metadata } = adapter
    const halved = matched(
      'customer',
      new Adapter({ config, modules, metadata, savedTensors: tensors }),
      part,
    )
    const { layout, shares } = resident(halved)
    expect(layout.byteLength).toBe(4 * 6 * 4 + 27 * 2)
    expect(shares.get(part)?.replacedModules).toEqual(halved.shares.get(part)?.replacedModules)
  })

  it('places numbers of different dtypes beside each other', async () => {
    const halves = await inDtype(testAdapter({ nFrequency: 5 }), 'F16')
    const floats = testAdapter({ nFrequency: 5, initialSeed: 1 })
    const [first, ...others] = [...halves.modules]
    const modules = new Map([first as (typeof others)[0], ...[...floats.modules].slice(1)])
    const mixed = matched('customer', new Adapter({ config: halves.config, modules }), part)
    expect(resident(mixed).shares.get(part)?.layers).toEqual(mixed.shares.get(part)?.layers)
  })

  it('shares one layout between adapters with equal entries and targets', async () => {
    const layouts = new Layouts<typeof part>()
    const layoutOf = async (adapter: Adapter) => resident(await inDtype(adapter, 'F32'), layouts).layout
    const layout = await layoutOf(testAdapter())
    expect(await layoutOf(testAdapter({ initialSeed: 1 }))).toBe(layout)
    expect(await layoutOf(testAdapter({ initialSeed: 2, scaling: 3 }))).toBe(layout)
    expect(await layoutOf(testAdapter({ randomLocSeed: 1 }))).not.toBe(layout)
    expect(await layoutOf(testAdapter({ layers: 1 }))).not.toBe(layout)
    expect(await layoutOf(testAdapter({ head }))).not.toBe(layout)
    const half = await inDtype(testAdapter(), 'F16')
    expect(resident(half, layouts).layout).not.toBe(layout)
  })

  it('keeps the scaling of each adapter', async () => {
    const layouts = new Layouts<typeof part>()
    const scalingOf = (scaling: number) => {
      const { shares } = resident(testAdapter({ scaling }), layouts)
      return Array.from(shares.get(part)?.layers.values() ?? [], (layer) => layer.scaling)
    }
    expect(scalingOf(3)).toEqual([3, 3, 3, 3])
    expect(scalingOf(-0.5)).toEqual([-0.5, -0.5, -0.5, -0.5])
  })

  it('gives the same objects as long as someone holds them', async () => {
    const adapter = resident(await inDtype(testAdapter(), 'F16'))
    const { shares } = adapter
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(adapter.shares).toBe(shares)
  })

  it('does not keep the memory of the adapter that it was made from', async () => {
    const source = testAdapter({ head })
    const adapter = matched('customer', source, part)
    const { shares } = resident(adapter)
    const before = structuredClone(shares.get(part)?.replacedModules)
    for (const { bytes } of source.savedTensors.values()) bytes.fill(0)
    for (const { coefficients } of source.modules.values()) coefficients.fill(0)
    expect(shares.get(part)?.replacedModules).toEqual(before)
    for (const layer of shares.get(part)?.layers.values() ?? [])
      expect(layer.coefficients.some((c) => c !== 0)).toBe(true)
  })

  it('has the labels of the adapter', () => {
    const labels = { names: ['no', 'yes'] }
    expect(resident(matched('customer', testAdapter(), part, { labels })).labels).toBe(labels)
  })
})
