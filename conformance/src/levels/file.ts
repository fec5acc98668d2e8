/** Level 2: an adapter that a backend reads, attaches and saves keeps its bytes. The comparison is exact. */
import { type AdapterBytes, createAdapter, createConfig } from '@fourierft/core'
import type { Level } from '../level.js'

export const fileLevel: Level = {
  level: 2,
  title: 'file',
  async run({ backend, vectors, check, skip }) {
    if (backend.roundTrip === undefined) {
      skip('round trip', 'the backend has no roundTrip; core reads and writes the files')
      return
    }
    const roundTrip = async (files: AdapterBytes) => {
      const copy = { config: files.config.slice(), model: files.model.slice() }
      const written = await backend.roundTrip?.(copy)
      if (written === undefined) throw new Error('roundTrip returned undefined')
      return differingBytes(written.config, files.config) + differingBytes(written.model, files.model)
    }
    for (const { name, files } of vectors.adapters) await check(`PEFT's ${name}`, 0, () => roundTrip(files))
    for (const [name, make] of CORE_FILES) await check(name, 0, async () => roundTrip(make()))
  },
}

const SHAPES = { 'block.0.key': [24, 20], 'block.0.query': [24, 20], 'block.1.query': [16, 30] } as const

/** Files that `core` writes: PEFT can load the first one; the second one stores its entries. */
const CORE_FILES: readonly (readonly [string, () => AdapterBytes])[] = [
  ["core's, uniform entries", () => createAdapter(config(), SHAPES).toBytes()],
  [
    "core's, band-pass entries",
    () =>
      createAdapter(config(), SHAPES, {
        entries: { sampler: 'bandpass', seed: 5, centerFrequency: 4, bandwidth: 10 },
      }).toBytes(),
  ],
  ["core's, BF16", () => createAdapter(config(), SHAPES).toBytes({ dtype: 'BF16' })],
]

function config() {
  return createConfig({ nFrequency: 17, scaling: 120, randomLocSeed: 42, initWeights: false })
}

function differingBytes(actual: Uint8Array, expected: Uint8Array): number {
  let count = Math.abs(actual.length - expected.length)
  for (let i = 0; i < Math.min(actual.length, expected.length); i++) if (actual[i] !== expected[i]) count++
  return count
}
