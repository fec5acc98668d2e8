/** What the types promise to users: checked by the compiler, never run. */
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

test('ΔW comes in the array that is given, and in float32 otherwise', () => {
  expectTypeOf(delta(layer)).toEqualTypeOf<Float32Array>()
  expectTypeOf(delta(layer, new Float64Array(1))).toEqualTypeOf<Float64Array<ArrayBuffer>>()
})

test('adapters come from every kind of source', () => {
  expectTypeOf(loadAdapter).returns.resolves.toEqualTypeOf<Adapter>()
  expectTypeOf(loadAdapter).parameter(0).extract<string>().toEqualTypeOf<string>()
  expectTypeOf<URL>().toExtend<Parameters<typeof loadAdapter>[0]>()
  expectTypeOf<FileList[number][]>().toExtend<Parameters<typeof loadAdapter>[0]>()
  expectTypeOf<{ config: Uint8Array; model: Uint8Array }>().toExtend<Parameters<typeof loadAdapter>[0]>()
})

test('seeds are numbers or bigints; strategies are a closed set', () => {
  uniformEntries({ shape: [2, 3], n: 1, seed: 2n ** 63n })
  // @ts-expect-error a seed is no string
  uniformEntries({ shape: [2, 3], n: 1, seed: '1' })
  // @ts-expect-error merging is not a way to apply one call
  addForward([layer], new Float32Array(1), new Float32Array(1), { strategy: 'merge' })
  // @ts-expect-error options have PEFT's names
  createConfig({ nFrequencies: 3 })
})

test('what is read stays as it is', () => {
  // @ts-expect-error read-only
  layer.scaling = 1
  expectTypeOf<FourierFTError['code']>().toEqualTypeOf<ErrorCode>()
  expectTypeOf(coreBackend()).toExtend<Backend>()
  expectTypeOf(Adapter).toBeConstructibleWith({ config: createConfig({}), modules: new Map() })
})
