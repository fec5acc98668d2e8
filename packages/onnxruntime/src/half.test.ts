/** Adapters have the same effect in float16 models, and in models of 4-bit weights with float16 activations, as in float32 models. */
import { readFileSync } from 'node:fs'
import { type Adapter, createAdapter, createConfig, decodeFloats, type Shape } from '@fourierft/core'
import { findLinearLayers, readModel } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { createSession } from './create-session.js'

const url = (name: string) => new URL(`../../onnx/src/__fixtures__/${name}.onnx`, import.meta.url)

/** Returns adapters for the layers of the float32 file. The other file has the same names. */
function adaptersFor(name: string): Adapter[] {
  const layers = findLinearLayers(readModel(new Uint8Array(readFileSync(url(name)))))
  const shapes: Record<string, Shape> = {}
  for (const { module, outFeatures, inFeatures } of layers)
    if (module !== undefined) shapes[module] = [outFeatures, inFeatures]
  const config = createConfig({ nFrequency: 24, scaling: 40, initWeights: false })
  return [1, 2].map((initialSeed) => createAdapter(config, shapes, { initialSeed }))
}

function feedsOf(metadata: readonly ort.InferenceSession.ValueMetadata[]): Record<string, ort.Tensor> {
  return Object.fromEntries(
    metadata.map((input) => {
      const dims = input.isTensor
        ? input.shape.map((size, i) => (typeof size === 'number' ? size : [2, 8][i]))
        : []
      const length = dims.reduce<number>((product, size) => product * (size ?? 1), 1)
      const value = (i: number) => (input.name === 'mask' ? (i < 13 ? 1 : 0) : (3 * i) % 20)
      const ids = BigInt64Array.from({ length }, (_, i) => BigInt(value(i)))
      return [input.name, new ort.Tensor('int64', ids, dims)]
    }),
  )
}

function floats(tensor: ort.Tensor | undefined): Float32Array {
  const data = tensor?.data
  if (!ArrayBuffer.isView(data)) throw new Error('expected numbers')
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  return Float32Array.from(decodeFloats({ dtype: tensor?.type === 'float16' ? 'F16' : 'F32', bytes }))
}

const outputOf = async (session: Pick<ort.InferenceSession, 'run' | 'inputMetadata'>) =>
  (await session.run(feedsOf(session.inputMetadata))).y

function difference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length)
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return b.reduce((most, value, i) => Math.max(most, Math.abs(value - a[i])), 0) / largest
}

/**
 * Two blocks with about ten values each that are rounded to half precision (2⁻¹¹). LayerNorm and residuals keep the size of the errors; the
 * rounding of the weights doubles them.
 */
const LIMIT = 2 * 2 * 10 * 2 ** -11

/** Hides ONNX Runtime's warnings about its optimisations. */
const QUIET = { logSeverityLevel: 3 } as const

describe.each([true, false])('native %s', (native) => {
  test.each([
    ['bert-half', 'bert-plain'],
    ['llama-q4f16', 'llama-q4'],
  ])('%s agrees with %s in float32', async (half, float32) => {
    const [a, b] = adaptersFor(float32) as [Adapter, Adapter]
    const plain = await ort.InferenceSession.create(url(half).pathname, QUIET)
    const inHalf = await createSession(url(half), { ...QUIET, native, adapters: { a, b } })
    const inFloat32 = await createSession(url(float32), { ...QUIET, native, adapters: { a, b } })
    const base = await outputOf(plain)
    expect(base?.type).toBe('float16')
    for (const name of ['a', 'b']) {
      inHalf.setAdapter(name)
      inFloat32.setAdapter(name)
      const received = floats(await outputOf(inHalf))
      const expected = floats(await outputOf(inFloat32))
      expect(difference(floats(base), expected)).toBeGreaterThan(2 * LIMIT)
      expect(difference(received, expected)).toBeLessThan(LIMIT)
    }
    inHalf.disableAdapters()
    // ONNX Runtime's CPU provider computes float16 in float32 and rounds only between some operators; a branch adds such a rounding.
    expect(difference(floats(await outputOf(inHalf)), floats(base))).toBeLessThan(LIMIT)
    await Promise.all([plain.release(), inHalf.release(), inFloat32.release()])
  })
})
