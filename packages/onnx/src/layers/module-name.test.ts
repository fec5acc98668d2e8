/** The names of modules that exporters, builders and optimizers write into files. */
import { expect, test } from 'vitest'
import { largestSplit } from '../__fixtures__/count-calls.js'
import { namedModel } from '../__fixtures__/named-model.js'
import { findLinearLayers } from './linear-layers.js'

const nameOf = (layer: Parameters<typeof namedModel>[0][number]) =>
  findLinearLayers(namedModel([layer])).map(({ module }) => module)

test.each([
  // PyTorch's first exporter. Modules repeat the name of their container if the model calls it (nn.Sequential).
  ['/bert/encoder/layer.0/output/dense/MatMul', 'bert.encoder.layer.0.output.dense'],
  ['/stages/stages.0/blocks/blocks.0/mlp/fc1/MatMul', 'stages.0.blocks.0.mlp.fc1'],
  ['/stages/stages.0/stages.0.2/stages.0.2.0/MatMul', 'stages.0.2.0'],
  ['/stages/stages.0/stages.0.0_1/MatMul', 'stages.0.0_1'],
  ['/0/MatMul', '0'],
  ['/a/ab.0/MatMul', 'a.ab.0'],
  ['/a/a.b/MatMul', 'a.a.b'],
  // ONNX Runtime's optimizer and quantisers, and onnxruntime-genai's builder.
  ['/encoder/layer.0/intermediate/dense/MatMul/MatMulAddFusion', 'encoder.layer.0.intermediate.dense'],
  ['/model/layers.0/attn/q_proj/MatMulNBits', 'model.layers.0.attn.q_proj'],
  ['/model/layers.0/attn/q_proj/MatMul_Q4', 'model.layers.0.attn.q_proj'],
  // A second product of a module, and products without a module.
  ['/a/q/MatMul_1', undefined],
  ['MatMul', undefined],
  ['/MatMul', undefined],
])('gives the module of the node %s', (name, module) => {
  expect(nameOf({ name })).toEqual([module])
})

test('a name from the scopes of the newer exporter, and from the weight', () => {
  const scopes = (text: string) => ({ name: 'node_1', metadata: { 'pkg.torch.onnx.name_scopes': text } })
  expect(nameOf(scopes("['', 'bert', 'bert.layer.0', 'linear_3']"))).toEqual(['bert.layer.0'])
  for (const text of ['', "'", "''", "'a'", "['a]", "['', 'linear_3']"])
    expect(nameOf(scopes(text))).toEqual([undefined])
  expect(nameOf({ weight: 'bert.layer.0.weight' })).toEqual(['bert.layer.0'])
})

test('a name of megabytes is not that of a module, and is not split', () => {
  const long = { name: `/${'a/'.repeat(5e6)}MatMul` }
  const quotes = { metadata: { 'pkg.torch.onnx.name_scopes': "'".repeat(5e6) } }
  const list = { metadata: { 'pkg.torch.onnx.name_scopes': `'${'x'.repeat(5e6)}', 'linear'` } }
  const weight = { weight: `${'.weight'.repeat(1e6)}.weight` }
  const models = [long, quotes, list, weight].map((layer) => namedModel([layer]))
  const pieces = largestSplit(() => {
    for (const model of models)
      expect(findLinearLayers(model).map(({ module }) => module)).toEqual([undefined])
  })
  // Splitting the names gives millions of pieces.
  expect(pieces).toBeLessThan(1000)
})
