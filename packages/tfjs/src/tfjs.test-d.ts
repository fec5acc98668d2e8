/** Tests of the public types. The compiler checks them; they are never run. */
import type { Adapter } from '@fourierft/core'
import type { Tensor, Variable } from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { expectTypeOf, test } from 'vitest'
import { AdamW, type Adapters, attach, fourierLinear } from './index.js'

declare const model: LayersModel
declare const adapters: Adapters

test('attach returns the methods', () => {
  expectTypeOf(attach(model)).toEqualTypeOf<Adapters>()
  expectTypeOf(adapters.getAdapter).returns.resolves.toEqualTypeOf<Adapter>()
  expectTypeOf(adapters.trainableVariables).toEqualTypeOf<Variable[]>()
  expectTypeOf(adapters.setAdapter).parameter(0).toEqualTypeOf<string | readonly string[]>()
  // @ts-expect-error options have PEFT's names
  adapters.addAdapter('mine', { frequencies: 3 })
})

test('fourierLinear and AdamW have the types of TensorFlow.js', () => {
  expectTypeOf(fourierLinear).returns.toEqualTypeOf<Tensor>()
  // @ts-expect-error unknown strategy
  adapters.strategy = 'fast'
  expectTypeOf(AdamW).instance.toHaveProperty('learningRate').toEqualTypeOf<number>()
})
