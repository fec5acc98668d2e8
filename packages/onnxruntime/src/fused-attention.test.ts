/** Sessions of a model whose attention ONNX Runtime's optimizer has fused. The modules have names from the surrounding nodes or from `moduleNames`. */
import { createAdapter, createConfig } from '@fourierft/core'
import * as ort from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { createSession } from './create-session.js'

const url = (name: string) => new URL(`../../onnx/src/__fixtures__/${name}.onnx`, import.meta.url)
const MODULES = [0, 1].flatMap((block) =>
  ['query', 'value'].map((name) => `bert.encoder.layer.${block}.attention.self.${name}`),
)
const MODULE_NAMES = Object.fromEntries(
  ['query', 'value'].map((name) => [
    `bert.encoder.layer.*.attention.self.${name}`,
    `Attention_*:${name.charAt(0)}`,
  ]),
)

const integers = (valueAt: (i: number) => number) =>
  new ort.Tensor(
    'int64',
    BigInt64Array.from({ length: 16 }, (_, i) => BigInt(valueAt(i))),
    [2, 8],
  )
const feeds = { x: integers((i) => (3 * i) % 20), mask: integers((i) => (i < 13 ? 1 : 0)) }

const outputOf = async (session: Pick<ort.InferenceSession, 'run'>, options = {}) =>
  (await session.run(feeds, options)).y?.data as Float32Array

function difference(a: Float32Array, b: Float32Array): number {
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return b.reduce((most, value, i) => Math.max(most, Math.abs(value - a[i])), 0) / largest
}

/** Two layers, computed in two orders. Each is a sum of at most 32 products and 2·24 terms of the branch, a softmax and LayerNorms. */
const LIMIT = 8 * (32 + 2 * 24) * 2 ** -24

test.each([{ native: true }, { native: false }, { native: false, moduleNames: { ...MODULE_NAMES } }])(
  '%o: gives the outputs of the model before the fusion, also with an adapter for each row and merged',
  async ({ native, ...options }) => {
    const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
    const shapes = Object.fromEntries(MODULES.map((module) => [module, [16, 16] as const]))
    const [a, b] = [1, 2].map((initialSeed) => createAdapter(config, shapes, { initialSeed }))
    if (!a || !b) throw new Error('expected two adapters')
    const fused = await createSession(url('bert-fused'), { native, ...options, adapters: { a, b } })
    const unfused = await createSession(url('bert-plain'), { native, adapters: { a, b } })
    const plain = await ort.InferenceSession.create(url('bert-fused').pathname)
    const base = await outputOf(plain)
    for (const name of ['a', 'b', 'a']) {
      fused.setAdapter(name)
      unfused.setAdapter(name)
      const received = await outputOf(fused)
      expect(difference(received, base)).toBeGreaterThan(1e-2)
      expect(difference(received, await outputOf(unfused))).toBeLessThan(LIMIT)
      await fused.mergeAdapter()
      expect(difference(await outputOf(fused), received)).toBeLessThan(LIMIT)
      fused.unmergeAdapter()
    }
    const adapters = ['b', null]
    expect(
      difference(await outputOf(fused, { adapters }), await outputOf(unfused, { adapters })),
    ).toBeLessThan(LIMIT)
    fused.disableAdapters()
    expect(await outputOf(fused)).toEqual(base)
    await Promise.all([fused.release(), unfused.release(), plain.release()])
  },
)
