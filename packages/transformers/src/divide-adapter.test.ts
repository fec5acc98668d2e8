/** An adapter is divided into shares, whose modules have the names of their part. */
import { Adapter, createConfig, savedTensor } from '@fourierft/core'
import { expect, test } from 'vitest'
import { divideAdapter } from './divide-adapter.js'

test('renames a saved weight, even if the old name also occurs in the prefix of its tensor', () => {
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

test('copies the weights of the base model into every share', () => {
  const tensor = { dtype: 'F32', shape: [1, 1], bytes: new Uint8Array(4) } as const
  const savedTensors = new Map(['a', 'b'].map((module) => [savedTensor(module, 'weight'), tensor]))
  const baseTensors = new Map([['base_model.model.embed_tokens.weight', tensor]])
  const adapter = new Adapter({ config: createConfig({}), modules: new Map(), savedTensors, baseTensors })
  const shares = divideAdapter(adapter, (module) => ({ part: module, name: module }))
  expect(Array.from(shares.values(), (share) => share.baseTensors)).toEqual([baseTensors, baseTensors])
})
