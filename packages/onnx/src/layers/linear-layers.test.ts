/** The linear layers of real exports, and their names, which are those of PyTorch. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { encodeGraph } from '../model/encode.js'
import { readModel } from '../model/model.js'
import { DataType, Model } from '../model/schema.js'
import { field, message } from '../model/wire-message.js'
import { findLinearLayers } from './linear-layers.js'
import { matchLayers } from './match-layers.js'

function layersOf(name: string) {
  const bytes = readFileSync(new URL(`../__fixtures__/${name}.onnx`, import.meta.url))
  return findLinearLayers(readModel(bytes, { file: `${name}.onnx` }))
}

/** Modules of each architecture in PyTorch, with [out, in]; the hidden size is 16, the intermediate size 32. */
const BERT: Record<string, [number, number]> = Object.fromEntries(
  [0, 1].flatMap((i) => [
    ...['attention.self.query', 'attention.self.key', 'attention.self.value', 'attention.output.dense'].map(
      (name): [string, [number, number]] => [`bert.encoder.layer.${i}.${name}`, [16, 16]],
    ),
    [`bert.encoder.layer.${i}.intermediate.dense`, [32, 16]] as [string, [number, number]],
    [`bert.encoder.layer.${i}.output.dense`, [16, 32]] as [string, [number, number]],
  ]),
)
const GPT2: Record<string, [number, number]> = Object.fromEntries(
  [0, 1].flatMap((i): [string, [number, number]][] => [
    [`transformer.h.${i}.attn.c_attn`, [48, 16]],
    [`transformer.h.${i}.attn.c_proj`, [16, 16]],
    [`transformer.h.${i}.mlp.c_fc`, [64, 16]],
    [`transformer.h.${i}.mlp.c_proj`, [16, 64]],
  ]),
)
const LLAMA: Record<string, [number, number]> = Object.fromEntries(
  [0, 1].flatMap((i): [string, [number, number]][] => [
    [`model.layers.${i}.self_attn.q_proj`, [16, 16]],
    [`model.layers.${i}.self_attn.k_proj`, [8, 16]],
    [`model.layers.${i}.self_attn.v_proj`, [8, 16]],
    [`model.layers.${i}.self_attn.o_proj`, [16, 16]],
    [`model.layers.${i}.mlp.gate_proj`, [32, 16]],
    [`model.layers.${i}.mlp.down_proj`, [16, 32]],
  ]),
)
const VIT: Record<string, [number, number]> = {
  'layers.0.attention.q_proj': [16, 16],
  'layers.1.attention.o_proj': [16, 16],
  'layers.0.mlp.fc1': [32, 16],
  'layers.1.mlp.fc2': [16, 32],
}
const T5: Record<string, [number, number]> = {
  'encoder.block.0.layer.0.SelfAttention.q': [16, 16],
  'encoder.block.1.layer.1.DenseReluDense.wi': [32, 16],
  'encoder.block.1.layer.1.DenseReluDense.wo': [16, 32],
}

describe.each([
  ['bert-torchscript', BERT],
  ['bert-dynamo', BERT],
  ['bert-q8', BERT],
  ['bert-q4', BERT],
  ['bert-qdq', BERT],
  ['gpt2-torchscript', GPT2],
  ['gpt2-dynamo', GPT2],
  ['gpt2-q8', GPT2],
  ['gpt2-q4', GPT2],
  ['llama-torchscript', LLAMA],
  ['llama-dynamo', LLAMA],
  ['llama-q8', LLAMA],
  ['llama-q4', LLAMA],
  ['vit-torchscript', VIT],
  ['vit-dynamo', VIT],
  ['t5-encoder-torchscript', T5],
])('%s', (name, modules) => {
  test('finds every module, each in another layer', () => {
    const { matched, unmatched } = matchLayers(layersOf(name), Object.keys(modules))
    expect(unmatched).toEqual([])
    expect(new Set(matched.values()).size).toBe(Object.keys(modules).length)
    for (const [module, layer] of matched) {
      expect(layer.module).toBe(`model.${module}`)
      expect([layer.outFeatures, layer.inFeatures]).toEqual(modules[module])
    }
  })

  test('finds the names of PEFT files', () => {
    const prefixed = Object.keys(modules).map((key) => `base_model.model.${key}`)
    expect(matchLayers(layersOf(name), prefixed).unmatched).toEqual([])
  })
})

test('the branch of a quantised layer reads and changes float values', () => {
  const query = layersOf('bert-q8').find(({ module }) => module?.endsWith('layer.1.attention.self.query'))
  expect(query?.input).toBe('/model/bert/encoder/layer.0/output/LayerNorm/LayerNormalization_output_0')
  expect(query?.outputNode.outputs).toEqual([
    '/model/bert/encoder/layer.1/attention/self/query/MatMul_output_0',
  ])
})

test('lists modules without a layer with the nearest names; a map gives them a layer', () => {
  const layers = layersOf('bert-torchscript')
  const { matched, unmatched } = matchLayers(layers, ['bert.encoder.layer.0.attention.self.querry'])
  expect(matched.size).toBe(0)
  expect(unmatched.map(({ reason }) => reason)).toEqual(['no layer has this name'])
  expect(unmatched[0]?.candidates).toContain('model.bert.encoder.layer.0.attention.self.query')
  const map = { 'a.b': '/model/bert/encoder/layer.0/attention/self/query/MatMul' }
  expect(matchLayers(layers, ['a.b'], { map }).unmatched).toEqual([])
})

test('another root is another module; a name without a root that fits two layers is ambiguous', () => {
  const [layer] = layersOf('vit-dynamo')
  if (!layer) throw new Error('the fixture has no layers')
  const layers = ['encoder', 'decoder'].map((root) => ({ ...layer, module: `${root}.x.q` }))
  expect(matchLayers(layers.slice(1), ['encoder.x.q']).unmatched[0]?.reason).toBe('no layer has this name')
  expect(matchLayers(layers, ['x.q']).unmatched[0]?.reason).toBe('several layers have this name')
  expect(matchLayers(layers, ['encoder.x.q']).matched.get('encoder.x.q')).toBe(layers[0])
})

test('finds modules after a prefix that all of them share, unless two prefixes fit', () => {
  const [layer] = layersOf('vit-dynamo')
  if (!layer) throw new Error('the fixture has no layers')
  const named = (...modules: string[]) => modules.map((module) => ({ ...layer, module }))
  const modules = ['base_model.model.layer.0.q', 'layer.1.q']
  const deep = named('m.n.0.layer.0.q', 'm.n.0.layer.1.q', 'm.n.0.layer.1.k')
  const namesOf = (all: typeof deep, wanted = modules, map = {}) =>
    Array.from(matchLayers(all, wanted, { map }).matched, ([module, found]) => [module, found.module])

  expect(namesOf(deep)).toEqual([
    ['base_model.model.layer.0.q', 'm.n.0.layer.0.q'],
    ['layer.1.q', 'm.n.0.layer.1.q'],
  ])
  // The prefix of a tower that has only one of the modules does not fit.
  expect(namesOf([...deep, ...named('t.u.layer.0.q')])).toEqual(namesOf(deep))
  expect(namesOf([...deep, ...named('t.u.layer.0.q', 't.u.layer.1.q')])).toEqual([])
  expect(namesOf([...deep, ...named('m.n.0.layer.1.q')]).map(([module]) => module)).toEqual([
    'base_model.model.layer.0.q',
  ])
  // A prefix must fit all modules, except those that the map leaves out.
  expect(namesOf(deep, [...modules, 'layer.2.q'])).toEqual([])
  expect(namesOf(deep, [...modules, 'pooler'], { pooler: null })).toEqual(namesOf(deep))
  // Two towers are ambiguous, and a name without a dot is not specific enough.
  const towers = named('text.e.layer.0.q', 'image.e.layer.0.q', 'image.e.pooler')
  const unmatched = (wanted: string) => matchLayers(towers, [wanted]).unmatched[0]
  expect(unmatched('layer.0.q')?.reason).toBe('several layers have this name')
  expect(unmatched('pooler')?.reason).toBe('no layer has this name')
  // A prefix ends at a dot.
  expect(namesOf(named('m.n.0_layer.0.q', 'm.n.0_layer.1.q'))).toEqual([])
  // Names without a prefix have priority.
  const shallow = named('layer.0.q', 'root.layer.1.q')
  expect(namesOf([...deep, ...shallow]).map(([, found]) => found)).toEqual(['layer.0.q', 'root.layer.1.q'])
})

test('lists modules whose node in the map is not a layer, with the nearest nodes', () => {
  const layers = layersOf('bert-torchscript')
  const map = { 'a.b': '/model/bert/encoder/layer.0/attention/self/querry/MatMul' }
  expect(matchLayers(layers, ['a.b'], { map }).unmatched).toEqual([
    {
      module: 'a.b',
      reason: 'the map names a node that is not one of the layers',
      candidates: expect.arrayContaining(['/model/bert/encoder/layer.0/attention/self/query/MatMul']),
    },
  ])
})

test('the input of a layer is the value before quantisation; transB transposes the weight', () => {
  const float = (name: string, dims: number[]) => ({
    name,
    dims,
    dataType: DataType.float,
    data: new Uint8Array(),
  })
  const graph = encodeGraph({
    name: 'main',
    nodes: [
      { opType: 'QuantizeLinear', inputs: ['x', 's'], outputs: ['xq'] },
      { opType: 'DequantizeLinear', inputs: ['xq', 's'], outputs: ['xd'] },
      { opType: 'DequantizeLinear', inputs: ['a.q.weight', 's'], outputs: ['wd'] },
      { opType: 'MatMul', inputs: ['xd', 'wd'], outputs: ['y'] },
      { opType: 'Gemm', inputs: ['y', 'a.k.weight'], outputs: ['z'], attributes: { transB: { int: 1 } } },
      { opType: 'MatMul', inputs: ['z', 'y'], outputs: ['no'] },
    ],
    outputs: [],
    initializers: [float('a.q.weight', [3, 5]), float('a.k.weight', [7, 5]), float('s', [])],
  })
  const parts: Uint8Array[] = []
  message(field(Model.irVersion, 8), field(Model.graph, graph)).writeTo(parts)
  const layers = findLinearLayers(readModel(new Uint8Array(Buffer.concat(parts))))
  expect(
    layers.map(({ module, input, outFeatures, inFeatures }) => [module, input, outFeatures, inFeatures]),
  ).toEqual([
    ['a.q', 'x', 5, 3],
    ['a.k', 'y', 7, 5],
  ])
})

test.each(['constructor', 'toString', 'valueOf', '__proto__', 'base_model.model.valueOf'])(
  'a module may be called %s',
  (module) => {
    const { matched, unmatched } = matchLayers([], [module])
    expect(matched.size).toBe(0)
    expect(unmatched).toEqual([{ module, reason: 'no layer has this name', candidates: [] }])
  },
)
