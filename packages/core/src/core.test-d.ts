/** Tests of the public types. The compiler checks them; they never run. */
import { expectTypeOf, test } from 'vitest'
import { type Backend, coreBackend } from './conformance/index.js'
import {
  Adapter,
  addForward,
  createConfig,
  delta,
  type ErrorCode,
  type FourierFTError,
  type Layer,
  loadAdapter,
  uniformEntries,
} from './index.js'

declare const layer: Layer

test('delta returns the type of its output array, or Float32Array without one', () => {
  expectTypeOf(delta(layer)).toEqualTypeOf<Float32Array>()
  expectTypeOf(delta(layer, new Float64Array(1))).toEqualTypeOf<Float64Array<ArrayBuffer>>()
})

test('loadAdapter accepts every kind of source', () => {
  expectTypeOf(loadAdapter).returns.resolves.toEqualTypeOf<Adapter>()
  expectTypeOf(loadAdapter).parameter(0).extract<string>().toEqualTypeOf<string>()
  expectTypeOf<URL>().toExtend<Parameters<typeof loadAdapter>[0]>()
  expectTypeOf<FileList[number][]>().toExtend<Parameters<typeof loadAdapter>[0]>()
  expectTypeOf<{ config: Uint8Array; model: Uint8Array }>().toExtend<Parameters<typeof loadAdapter>[0]>()
})

test('seeds are numbers or bigints; strategies and options have fixed names', () => {
  uniformEntries({ shape: [2, 3], n: 1, seed: 2n ** 63n })
  // @ts-expect-error a seed is not a string
  uniformEntries({ shape: [2, 3], n: 1, seed: '1' })
  // @ts-expect-error a single call cannot merge
  addForward([layer], new Float32Array(1), new Float32Array(1), { strategy: 'merge' })
  // @ts-expect-error options have PEFT's names
  createConfig({ nFrequencies: 3 })
})

test('layers are read-only', () => {
  // @ts-expect-error read-only
  layer.scaling = 1
  expectTypeOf<FourierFTError['code']>().toEqualTypeOf<ErrorCode>()
  expectTypeOf(coreBackend()).toExtend<Backend>()
  expectTypeOf(Adapter).toBeConstructibleWith({ config: createConfig({}), modules: new Map() })
})
