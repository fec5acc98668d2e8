/** `core` in a real browser: the same bits as in other engines, adapters from `File` objects and from a URL. */
import { describe, expect, it, vi } from 'vitest'
import {
  type Adapter,
  createAdapter,
  createConfig,
  delta,
  loadAdapter,
  referenceDelta,
  type Shape,
  savePretrained,
} from '../../src/index.js'
import digests from '../engines/digests.json' with { type: 'json' }
import expected from '../files/__fixtures__/peft/plain/expected.json' with { type: 'json' }

/** The server's root is that of the repository. */
const FIXTURE = new URL('/packages/core/test/files/__fixtures__/peft/plain/', location.href)
const FILES = ['adapter_config.json', 'adapter_model.safetensors']

async function fixtureFiles(): Promise<File[]> {
  return Promise.all(
    FILES.map(async (name) => new File([await (await fetch(new URL(name, FIXTURE))).blob()], name)),
  )
}

function expectFixture(adapter: Adapter): void {
  expect([...adapter.modules.keys()].sort()).toEqual(Object.keys(expected).sort())
  for (const [name, { shape, rows, columns, coefficients }] of Object.entries(expected)) {
    const layer = adapter.layer(name, shape as unknown as Shape)
    expect([...layer.entries.rows]).toEqual(rows)
    expect([...layer.entries.columns]).toEqual(columns)
    expect([...layer.coefficients]).toEqual(coefficients)
    // Error limit of ΔW in float32: a transform of 16·12 numbers has log2(192) < 8 stages with about 4 roundings of 2⁻²⁴ each.
    const reference = referenceDelta(layer)
    const largest = reference.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    const errors = delta(layer).map((value, i) => Math.abs(value - (reference[i] ?? Number.NaN)))
    expect(Math.max(...errors)).toBeLessThanOrEqual(8 * 4 * 2 ** -24 * largest)
    expect(largest).toBeGreaterThan(0)
  }
}

it('runs in a browser', () => {
  expect(typeof document).toBe('object')
  expect(navigator.userAgent).toContain('Chrome/')
})

it('computes references, entries and bands with the same bits as other engines', async () => {
  const lines: string[] = []
  // The program prints its line with `print`, which would open a dialogue in a page.
  vi.stubGlobal('print', (line: string) => lines.push(line))
  await import('../engines/digest-program.js')
  vi.unstubAllGlobals()
  expect(JSON.parse(String(lines))).toEqual(digests)
})

describe('loadAdapter', () => {
  it('reads File objects, such as those of an <input type="file">', async () => {
    expectFixture(await loadAdapter(await fixtureFiles()))
  })

  it('reads a URL', async () => {
    expectFixture(await loadAdapter(FIXTURE))
    expectFixture(await loadAdapter(FIXTURE.href))
  })

  it('reads the bytes that toBytes writes', async () => {
    const files = (await loadAdapter(FIXTURE)).toBytes()
    expectFixture(await loadAdapter(files))
  })

  it('rejects missing files, and directories', async () => {
    const [config] = await fixtureFiles()
    await expect(loadAdapter([config])).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
    await expect(loadAdapter('./adapter')).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  })
})

it('cannot save to a directory', async () => {
  const adapter = createAdapter(createConfig({ nFrequency: 2, targetModules: ['layer'] }), { layer: [4, 4] })
  await expect(savePretrained(adapter, 'adapter')).rejects.toMatchObject({ code: 'UNSUPPORTED' })
})
