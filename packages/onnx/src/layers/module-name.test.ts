/** Names of modules, as exporters, builders and optimizers write them into files. */
import { expect, test } from 'vitest'
import { namedModel } from '../__fixtures__/named-model.js'
import { findLinearLayers } from './linear-layers.js'

const nameOf = (layer: Parameters<typeof namedModel>[0][number]) =>
  findLinearLayers(namedModel([layer])).map(({ module }) => module)

test.each([
  // PyTorch's first exporter; containers that are called (nn.Sequential) repeat their names.
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
  // Not the module's own product.
  ['/a/q/MatMul_1', undefined],
  ['MatMul', undefined],
  ['/MatMul', undefined],
])('%s', (name, module) => {
  expect(nameOf({ name })).toEqual([module])
})

test('the newer exporter’s scopes, and the weight’s name', () => {
  const scopes = (text: string) => ({ name: 'node_1', metadata: { 'pkg.torch.onnx.name_scopes': text } })
  expect(nameOf(scopes("['', 'bert', 'bert.layer.0', 'linear_3']"))).toEqual(['bert.layer.0'])
  for (const text of ['', "'", "''", "'a'", "['a]", "['', 'linear_3']"])
    expect(nameOf(scopes(text))).toEqual([undefined])
  expect(nameOf({ weight: 'bert.layer.0.weight' })).toEqual(['bert.layer.0'])
})

test('a name of megabytes is not a module’s, and takes the time of reading it', () => {
  const long = { name: `/${'a/'.repeat(5e6)}MatMul` }
  const quotes = { metadata: { 'pkg.torch.onnx.name_scopes': "'".repeat(5e6) } }
  const list = { metadata: { 'pkg.torch.onnx.name_scopes': `'${'x'.repeat(5e6)}', 'linear'` } }
  const weight = { weight: `${'.weight'.repeat(1e6)}.weight` }
  const start = performance.now()
  for (const layer of [long, quotes, list, weight]) expect(nameOf(layer)).toEqual([undefined])
  // Splitting one of them takes a second alone.
  expect(performance.now() - start).toBeLessThan(1500)
})
