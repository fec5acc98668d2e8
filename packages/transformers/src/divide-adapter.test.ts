/** The shares of an adapter, under the names that their parts have. */
import { Adapter, createConfig, savedTensor } from '@fourierft/core'
import { expect, test } from 'vitest'
import { divideAdapter } from './divide-adapter.js'

test('a whole weight takes its new name, also where the old one stands in the prefix too', () => {
  const tensor = { dtype: 'F32', shape: [1, 1], bytes: new Uint8Array(4) } as const
  const savedTensors = new Map([
    [savedTensor('model', 'weight'), tensor],
    [savedTensor('model', 'bias'), tensor],
  ])
  const adapter = new Adapter({ config: createConfig({}), modules: new Map(), savedTensors })
  const share = divideAdapter(adapter, () => ({ part: 'encoder', name: 'head' })).get('encoder')
  expect([...(share?.savedTensors.keys() ?? [])]).toEqual([
    'base_model.model.head.weight',
    'base_model.model.head.bias',
  ])
})

test('weights of the base model go to every part: each compares those that it has', () => {
  const tensor = { dtype: 'F32', shape: [1, 1], bytes: new Uint8Array(4) } as const
  const savedTensors = new Map(['a', 'b'].map((module) => [savedTensor(module, 'weight'), tensor]))
  const baseTensors = new Map([['base_model.model.embed_tokens.weight', tensor]])
  const adapter = new Adapter({ config: createConfig({}), modules: new Map(), savedTensors, baseTensors })
  const shares = divideAdapter(adapter, (module) => ({ part: module, name: module }))
  expect(Array.from(shares.values(), (share) => share.baseTensors)).toEqual([baseTensors, baseTensors])
})
