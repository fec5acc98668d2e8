/** q, k and v of a fused attention have names if the file identifies them. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createModel } from '../model/create-model.js'
import { readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { matchLayers } from './match-layers.js'
import { findPackedLayers } from './packed-layers.js'

test('a BERT that ONNX Runtime’s optimizer fused needs no map', () => {
  const bytes = readFileSync(new URL('../__fixtures__/bert-fused.onnx', import.meta.url))
  const layers = findPackedLayers(readModel(new Uint8Array(bytes)))
  const modules = [0, 1].flatMap((i) =>
    ['query', 'key', 'value'].map((name) => `bert.encoder.layer.${i}.attention.self.${name}`),
  )
  const { matched } = matchLayers(layers, modules)
  for (const { outFeatures, inFeatures } of matched.values())
    expect([outFeatures, inFeatures]).toEqual([16, 16])
  expect(Array.from(matched, ([name, { node, part }]) => [name, `${node.name}:${part?.name}`])).toEqual(
    modules.map((name, i) => [name, `Attention_${i < 3 ? 0 : 1}:${'qkv'[i % 3]}`]),
  )
})

/** Returns the names of q, k and v of an attention whose output a product reads. */
function partsOf(output: string, product: string | undefined, weight = 'qkv_weight') {
  const value = (name: string) => ({ name, dataType: DataType.float, dims: ['batch', 'tokens', 4] })
  const initializer = (name: string, dims: number[]) => ({
    name,
    dims,
    dataType: DataType.float,
    data: new Uint8Array(4 * dims.reduce((a, b) => a * b)),
  })
  const model = createModel(
    {
      name: 'main',
      inputs: [value('x')],
      outputs: [value(product === undefined ? output : 'y')],
      initializers: [initializer(weight, [4, 12]), initializer('b', [12]), initializer('w', [4, 4])],
      nodes: [
        {
          name: 'Attention_0',
          opType: 'Attention',
          domain: 'com.microsoft',
          inputs: ['x', weight, 'b'],
          outputs: [output],
          attributes: { num_heads: { int: 2 } },
        },
        ...(product === undefined
          ? []
          : [{ name: product, opType: 'MatMul', inputs: [output, 'w'], outputs: ['y'] }]),
      ],
    },
    { opset: 17 },
  )
  return findPackedLayers(model).map(({ module }) => module)
}

const NAMELESS = [undefined, undefined, undefined]

test.each([
  [
    '/l.0/attention/self/Reshape_3',
    '/l.0/attention/output/dense',
    'l.0.attention.self',
    ['query', 'key', 'value'],
  ],
  [
    '/l.0/attention/attention/Reshape_3',
    '/l.0/attention/output/dense',
    'l.0.attention.attention',
    ['query', 'key', 'value'],
  ],
  [
    '/layers.0/self_attn/Reshape_3',
    '/layers.0/self_attn/out_proj',
    'layers.0.self_attn',
    ['q_proj', 'k_proj', 'v_proj'],
  ],
  [
    '/layer.0/attention/Reshape_3',
    '/layer.0/attention/out_lin',
    'layer.0.attention',
    ['q_lin', 'k_lin', 'v_lin'],
  ],
  [
    '/layer.0/attention/attn/Reshape_3',
    '/layer.0/attention/attn/o',
    'layer.0.attention.attn',
    ['q', 'k', 'v'],
  ],
])('names the parts of %s before %s', (output, product, module, names) => {
  expect(partsOf(`${output}_output_0`, `${product}/MatMul`)).toEqual(names.map((name) => `${module}.${name}`))
})

test.each([
  ['no product reads the output', '/l.0/attention/self/Reshape_3_output_0', undefined],
  [
    'the product belongs to another block',
    '/l.0/attention/self/Reshape_3_output_0',
    '/l.1/attention/output/dense/MatMul',
  ],
  ['the product is of another module', '/l.0/attention/self/Reshape_3_output_0', '/l.0/mlp/fc1/MatMul'],
  [
    'the output has no scope, and two families have such a product',
    'a',
    '/l.0/attention/output/dense/MatMul',
  ],
  ['the scope is unknown', '/l.0/attn/Reshape_3_output_0', '/l.0/attn/c_proj/MatMul'],
])('there are no names if %s', (_, output, product) => {
  expect(partsOf(output, product)).toEqual(NAMELESS)
})

test('a product of a single family is enough if the output has no scope', () => {
  expect(partsOf('attention_output', '/layers.0/self_attn/out_proj/MatMul')).toEqual(
    ['q_proj', 'k_proj', 'v_proj'].map((name) => `layers.0.self_attn.${name}`),
  )
})

test('the weight names of onnxruntime-genai’s builder name the parts', () => {
  expect(partsOf('y0', undefined, 'model.layers.0.attn.qkv_proj.weight')).toEqual(
    ['q', 'k', 'v'].map((name) => `model.layers.0.attn.${name}_proj`),
  )
  expect(partsOf('y0', undefined, 'h.0.attn.c_attn.weight')).toEqual(NAMELESS)
})
