/** Names that mean the same module, names that do not, and the names in a map. */
import { describe, expect, test } from 'vitest'
import { type Counted, countCalls, largestSplit } from '../__fixtures__/count-calls.js'
import { type NamedModelOptions, namedModel, nodeOf } from '../__fixtures__/named-model.js'
import { createModel } from '../model/create-model.js'
import { DataType } from '../model/schema.js'
import type { LinearLayer } from './linear-layer.js'
import { findLinearLayers } from './linear-layers.js'
import { matchLayers } from './match-layers.js'
import type { ModuleMap } from './module-map.js'
import { findPackedLayers } from './packed-layers.js'

/** Returns for each module of an adapter the matching layer of a file with the layers `inFile`, or the reason why there is none. */
function matches(
  modules: readonly string[],
  inFile: readonly string[],
  options: NamedModelOptions & { map?: ModuleMap } = {},
) {
  const layers = findLinearLayers(namedModel(inFile.map(nodeOf), options))
  const { matched, unmatched } = matchLayers(layers, modules, options.map && { map: options.map })
  return {
    ...Object.fromEntries(unmatched.map(({ module, reason }) => [module, reason])),
    ...Object.fromEntries(Array.from(matched, ([module, layer]) => [module, layer.module])),
  }
}

const NONE = 'no layer has this name'

describe('a part of a model', () => {
  const bare = ['block.0.layer.0.SelfAttention.q']
  const [encoder, decoder] = ['encoder', 'decoder'].map((part) => `${part}.${bare[0]}`) as [string, string]

  test('that the file does not contain does not match', () => {
    const ofEncoder = { inputs: ['input_ids', 'attention_mask'] }
    const ofDecoder = { inputs: ['input_ids', 'encoder_hidden_states', 'past_key_values.0.key'] }
    expect(matches([encoder], bare, ofEncoder)).toEqual({ [encoder]: bare[0] })
    expect(matches([decoder], bare, ofEncoder)).toEqual({ [decoder]: NONE })
    expect(matches([encoder], bare, ofDecoder)).toEqual({ [encoder]: NONE })
    expect(matches([decoder], bare, ofDecoder)).toEqual({ [decoder]: bare[0] })
    // The same holds after PEFT's prefix, and if other modules match.
    expect(matches([`base_model.model.${decoder}`, encoder], bare, ofEncoder)).toMatchObject({
      [`base_model.model.${decoder}`]: NONE,
    })
  })

  test.each([
    ['text_model', ['input_ids', 'attention_mask'], ['pixel_values']],
    ['vision_model', ['pixel_values'], ['input_ids']],
    ['visionModel', ['pixel_values'], ['input_ids', 'pixel_values']],
    ['audio_encoder', ['input_features'], ['pixel_values']],
    ['text_decoder', ['input_ids', 'encoder_hidden_states'], ['input_ids']],
  ])('%s matches a file with the inputs of that part only', (part, inputs, others) => {
    const module = `${part}.layers.0.fc1`
    expect(matches([module], ['layers.0.fc1'], { inputs })).toEqual({ [module]: 'layers.0.fc1' })
    expect(matches([module], ['layers.0.fc1'], { inputs: others })).toEqual({ [module]: NONE })
  })

  test('that was exported separately has names that start inside the part', () => {
    const inputs = ['input_ids', 'attention_mask']
    const [encoder, decoder] = ['encoder', 'decoder'].map(
      (part) => `model.${part}.layers.0.self_attn.q_proj`,
    ) as [string, string]
    const bare = 'layers.0.self_attn.q_proj'
    expect(matches([encoder], [bare], { inputs })).toEqual({ [encoder]: bare })
    expect(matches([encoder, decoder], [bare], { inputs })).toEqual({ [encoder]: bare, [decoder]: NONE })
    expect(matches([encoder, decoder], [bare], { inputs: ['input_ids', 'encoder_attention_mask'] })).toEqual({
      [encoder]: NONE,
      [decoder]: bare,
    })
    // The language model of a vision-language model may have both prefixes.
    const inner = `language_model.${encoder}`
    expect(matches([inner], [bare], { inputs })).toEqual({ [inner]: bare })
    expect(matches([`vision_tower.${encoder}`], [bare], { inputs })).toEqual({
      [`vision_tower.${encoder}`]: NONE,
    })
    // A name of one part does not match a name of another part.
    expect(matches([encoder], ['decoder.layers.0.self_attn.q_proj'], { inputs })).toEqual({ [encoder]: NONE })
    // Whisper, from the builder of onnxruntime-genai.
    const builder = 'model.layers.0.attn.q_proj'
    expect(matches([encoder], [builder], { inputs: ['audio_features'] })).toEqual({ [encoder]: builder })
    const steps = ['input_ids', 'past_key_self_0', 'past_key_cross_0']
    expect(matches([encoder, decoder], [builder], { inputs: steps })).toEqual({
      [encoder]: NONE,
      [decoder]: builder,
    })
  })

  test('that has a twin with the same inputs does not match; the name of a wrapper may be left out', () => {
    for (const part of ['question_encoder', 'ctx_encoder', 'teacher', 'vision_tower'])
      expect(
        matches([`${part}.layer.0.q`], ['layer.0.q'], { inputs: ['input_ids', 'pixel_values'] }),
      ).toEqual({
        [`${part}.layer.0.q`]: NONE,
      })
    for (const root of ['bert', 'model', 'transformer', 'deit', 'encode_text2'])
      expect(matches([`${root}.layer.0.q`], ['layer.0.q'], { inputs: ['x'] })).toMatchObject(
        root === 'encode_text2' ? { [`${root}.layer.0.q`]: NONE } : { [`${root}.layer.0.q`]: 'layer.0.q' },
      )
  })
})

describe('vision-language models', () => {
  const now = 'model.language_model.layers.0.self_attn.q_proj'
  const before = 'language_model.model.layers.0.self_attn.q_proj'
  const separate = 'model.layers.0.self_attn.q_proj'
  const headless = 'language_model.layers.0.self_attn.q_proj'
  const idefics = 'model.text_model.layers.0.self_attn.q_proj'

  test.each([
    [now, before],
    [before, now],
    [now, separate],
    [before, separate],
    [separate, now],
    [separate, before],
    [headless, separate],
    [idefics, separate],
    [now, 'layers.0.self_attn.q_proj'],
  ])('%s matches %s in the file', (module, inFile) => {
    expect(matches([module], [inFile], { inputs: ['inputs_embeds'] })).toEqual({ [module]: inFile })
  })

  test('the language model does not match a vision tower with the same names', () => {
    expect(matches([now, before], [separate], { inputs: ['pixel_values'] })).toEqual({
      [now]: NONE,
      [before]: NONE,
    })
    const both = [now, 'model.vision_tower.layers.0.self_attn.q_proj']
    expect(matches(['vision_tower.layers.0.self_attn.q_proj', before], both)).toEqual({
      'vision_tower.layers.0.self_attn.q_proj': both[1],
      [before]: now,
    })
  })

  test('the head matches with and without the name of the language model', () => {
    expect(matches(['language_model.lm_head'], ['lm_head'])).toEqual({ 'language_model.lm_head': 'lm_head' })
    expect(matches(['lm_head'], ['language_model.lm_head'])).toEqual({ lm_head: 'language_model.lm_head' })
  })
})

describe('onnxruntime-genai’s builder', () => {
  test.each([
    ['model.layers.0.self_attn.q_proj', 'model.layers.0.attn.q_proj'],
    ['model.layers.0.self_attn.qkv_proj', 'model.layers.0.attn.qkv_proj'],
    ['model.layers.0.self_attn.o_proj', 'model.layers.0.attn.o_proj'],
    ['model.layers.0.self_attn.dense', 'model.layers.0.attn.o_proj'],
    ['model.layers.0.self_attn.out_proj', 'model.layers.0.attn.o_proj'],
    ['model.layers.0.attention.wo', 'model.layers.0.attn.o_proj'],
    ['model.layers.0.feed_forward.w1', 'model.layers.0.mlp.gate_proj'],
    ['model.layers.0.feed_forward.w2', 'model.layers.0.mlp.down_proj'],
    ['model.layers.0.feed_forward.w3', 'model.layers.0.mlp.up_proj'],
    ['model.layers.0.block_sparse_moe.gate', 'model.layers.0.moe.gate'],
    ['model.layers.0.mlp.gate_proj', 'model.layers.0.mlp.gate_proj'],
    ['model.language_model.layers.0.self_attn.v_proj', 'model.layers.0.attn.v_proj'],
    ['language_model.model.layers.0.self_attn.v_proj', 'model.layers.0.attn.v_proj'],
    ['layers.0.self_attn.k_proj', 'model.layers.0.attn.k_proj'],
  ])('%s matches %s', (module, inFile) => {
    expect(matches([module], [inFile])).toEqual({ [module]: inFile })
  })

  test('its spellings apply to its files only; exact names have priority', () => {
    const module = 'model.layers.0.self_attn.o_proj'
    expect(matches([module], ['model.layers.0.attn.o_proj', module])).toEqual({ [module]: module })
    expect(matches([module], ['model.layers.0.self_attn.out_proj'])).toEqual({ [module]: NONE })
    // The builder splits this weight into two modules.
    expect(
      matches(
        ['model.layers.0.mlp.gate_up_proj'],
        ['model.layers.0.mlp.gate_proj', 'model.layers.0.mlp.up_proj'],
      ),
    ).toEqual({ 'model.layers.0.mlp.gate_up_proj': NONE })
  })
})

test('the first exporter writes the same name for a container and for a list inside a module of its name', () => {
  const node = '/layers/layers.0/MatMul'
  const layers = findLinearLayers(namedModel([node]))
  for (const module of ['layers.0', 'layers.layers.0', 'model.layers.layers.0'])
    expect(matchLayers(layers, [module]).matched.get(module)?.node.name).toBe(node)
})

describe('a map', () => {
  test('names nodes by patterns, which must not contradict each other', () => {
    const inFile = [0, 1].map((i) => `layers.${i}.attn.qkv`)
    const modules = [0, 1].map((i) => `encoder.stage.${i}.qkv`)
    const map = { 'encoder.stage.*.qkv': '/layers.*/attn/qkv/MatMul' }
    expect(matches(modules, inFile, { map })).toEqual({
      [modules[0]]: inFile[0],
      [modules[1]]: inFile[1],
    })
    expect(() => matches(modules, inFile, { map: { ...map, '*.stage.1.qkv': '/layers.*/x' } })).toThrow(
      /another pattern also matches encoder\.stage\.1\.qkv/,
    )
    expect(matches(modules, inFile, { map: { ...map, 'encoder.stage.0.qkv': null } })).toEqual({
      [modules[1]]: inFile[1],
    })
  })

  /** Creates layers of two packed products without names; onnxsim writes such files. */
  function nameless() {
    const value = (name: string) => ({ name, dataType: DataType.float, dims: ['batch', 'tokens', 2] })
    const nodes = [0, 1].flatMap((i) => [
      { opType: 'MatMul', inputs: ['x', `onnx::MatMul_${i}`], outputs: [`p${i}`] },
      {
        opType: 'Split',
        inputs: [`p${i}`],
        outputs: [`q${i}`, `k${i}`, `v${i}`],
        attributes: { axis: { int: -1 }, split: { ints: [2, 2, 2] } },
      },
    ])
    const initializers = [0, 1].map((i) => ({
      name: `onnx::MatMul_${i}`,
      dims: [2, 6],
      dataType: DataType.float,
      data: new Uint8Array(48),
    }))
    const outputs = nodes.flatMap(({ opType, outputs }) => (opType === 'Split' ? outputs.map(value) : []))
    const graph = { name: 'main', inputs: [value('x')], outputs, initializers, nodes }
    const model = createModel(graph, { opset: 11 })
    return [...findLinearLayers(model), ...findPackedLayers(model)]
  }

  test('names nodes without a name by their output or weight', () => {
    const layers = nameless()
    for (const map of [
      { 'layers.*.q': 'p*:q' },
      { 'layers.*.q': 'onnx::MatMul_*:q' },
    ] satisfies ModuleMap[]) {
      const { matched } = matchLayers(layers, ['layers.0.q', 'layers.1.q'], { map })
      expect(Array.from(matched.values(), ({ node, part }) => [node.outputs[0], part?.name])).toEqual([
        ['p0', 'q'],
        ['p1', 'q'],
      ])
    }
    const { unmatched } = matchLayers(layers, ['layers.0.q'], { map: { 'layers.0.q': ':q' } })
    expect(unmatched).toEqual([
      {
        module: 'layers.0.q',
        reason: 'the map names a node that is not one of the layers',
        candidates: expect.arrayContaining(['p0:q', 'p1:q']),
      },
    ])
  })

  test('a weight of several products is ambiguous', () => {
    const layers = findLinearLayers(
      namedModel([
        { name: 'a', weight: 'w' },
        { name: 'b', weight: 'w' },
      ]),
    )
    const reasonOf = (node: string) =>
      matchLayers(layers, ['m'], { map: { m: node } }).unmatched.map(({ reason }) => reason)
    expect(reasonOf('w')).toEqual(['several layers have this name'])
  })
})

test('a module may have the name of a property of every object', () => {
  const modules = ['toString', 'constructor', 'a.valueOf', 'hasOwnProperty']
  expect(matches(modules, modules)).toEqual(Object.fromEntries(modules.map((module) => [module, module])))
  expect(matches(modules, ['a.q'])).toEqual(Object.fromEntries(modules.map((module) => [module, NONE])))
})

test('long names are compared without splitting them, and shortened in the candidates', () => {
  const long = 'x.'.repeat(3e6)
  const layers = findLinearLayers(namedModel([long, 'a']))
  const pieces = largestSplit(() => {
    const { unmatched } = matchLayers(layers, [`${long}y`, 'b'], { map: { b: 'c' } })
    for (const { candidates } of unmatched)
      for (const candidate of candidates) expect(candidate.length).toBeLessThan(300)
    expect(unmatched).toHaveLength(2)
  })
  // A list of all segments has three million.
  expect(pieces).toBeLessThan(1000)
})

test('matching twenty times as many modules takes twenty times as many steps', () => {
  const [template] = findLinearLayers(namedModel(['x'])) as [LinearLayer]
  const stringMethods = ['startsWith', 'endsWith', 'includes', 'indexOf', 'slice', 'split', 'replace']
  const stepsOf = (count: number) => {
    const names = Array.from({ length: count }, (_, i) => `model.layers.${i}.self_attn.q_proj`)
    const unknown = names.map((module) => `${module}x`)
    let reads = 0
    const layers = names.map((module) => ({
      ...template,
      get module() {
        reads++
        return `wrapper.inner.${module}`
      },
    }))
    const counted = stringMethods.map((method): Counted => [String.prototype, method])
    const calls = countCalls(counted, () => {
      // The prefix is found for all names, then for none.
      expect(matchLayers(layers, names).matched.size).toBe(count)
      expect(matchLayers(layers, unknown).unmatched).toHaveLength(count)
    })
    return reads + calls
  }
  const few = stepsOf(100)
  expect(few).toBeGreaterThan(400)
  // Comparing all pairs takes four hundred times as many.
  expect(stepsOf(2000) / few).toBeLessThan(21)
})
