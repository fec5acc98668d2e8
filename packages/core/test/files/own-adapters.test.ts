/** Files of the first version of the format: they load, and the same adapters are still written to the same bytes. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { type Adapter, createAdapter, createConfig, explicitEntries, loadAdapter } from '../../src/index.js'

const SHAPES = { 'layers.0.query': [16, 12], 'layers.0.value': [8, 12], 'layers.1.query': [16, 12] } as const
const targetModules = ['query', 'value']

/** The adapter in each folder of `__fixtures__/own`, which `savePretrained` wrote. */
const ADAPTERS: Record<string, () => Adapter> = {
  uniform: () =>
    createAdapter(
      createConfig({ nFrequency: 10, nFrequencyPattern: { '1.query': 4 }, targetModules }),
      SHAPES,
    ),
  'band-pass': () =>
    createAdapter(createConfig({ nFrequency: 10, targetModules }), SHAPES, {
      initialSeed: 1,
      entries: { sampler: 'bandpass', seed: 2n ** 60n, centerFrequency: 3, bandwidth: 200 },
    }),
  explicit: () =>
    createAdapter(createConfig({ nFrequency: 3, targetModules, scaling: 0.1 }), SHAPES, {
      entries: (shape) => explicitEntries({ shape, rows: [0, 7, 3], columns: [11, 0, 5] }),
    }),
}

describe.each(Object.entries(ADAPTERS))('%s', (name, make) => {
  const directory = fileURLToPath(new URL(`__fixtures__/own/${name}`, import.meta.url))
  const files = {
    config: new Uint8Array(readFileSync(`${directory}/adapter_config.json`)),
    model: new Uint8Array(readFileSync(`${directory}/adapter_model.safetensors`)),
  }

  it('loads', async () => {
    const adapter = await loadAdapter(directory)
    expect(adapter.layers()).toEqual(make().layers())
    expect(adapter.toBytes()).toEqual(files)
  })

  it('is written to the same bytes', () => {
    expect(make().toBytes()).toEqual(files)
  })
})

it('modules can have the names of members of a prototype', async () => {
  const shapes = { constructor: [6, 5], 'block.prototype': [4, 3], toString: [3, 3] } as const
  const config = createConfig({ nFrequency: 4, targetModules: Object.keys(shapes), initWeights: false })
  const adapter = createAdapter(config, shapes)
  const loaded = await loadAdapter(adapter.toBytes())
  for (const name of Object.keys(shapes)) expect(loaded.layer(name)).toEqual(adapter.layer(name))
  expect([...loaded.modules.keys()].sort()).toEqual(Object.keys(shapes).sort())
})
