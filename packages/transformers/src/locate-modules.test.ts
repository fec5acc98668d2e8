/** The sessions of a model can contain layers whose names have the same end. Each module is found in the right session, or in none. */
import { createModel, DataType, findLinearLayers } from '@fourierft/onnx'
import { expect, test } from 'vitest'
import { locateModules } from './locate-modules.js'

/** Creates a session whose graph has linear layers with the names of these modules; an object adds inputs to the graph. */
function session(name: string, ...modulesAndInputs: (string | { readonly inputs: readonly string[] })[]) {
  const modules = modulesAndInputs.filter((item) => typeof item === 'string')
  const inputs = modulesAndInputs.flatMap((item) => (typeof item === 'string' ? [] : item.inputs))
  const data = new Uint8Array(16)
  const graph = {
    name: 'main_graph',
    inputs: ['x', ...inputs].map((name) => ({ name, dataType: DataType.float, dims: ['tokens', 2] })),
    outputs: modules.map((module) => ({ name: module, dataType: DataType.float, dims: ['tokens', 2] })),
    initializers: modules.map((module) => ({
      name: `w.${module}`,
      dims: [2, 2],
      dataType: DataType.float,
      data,
    })),
    nodes: modules.map((module) => ({
      name: `/${module.replace(/\.(?!\d)/g, '/')}/MatMul`,
      opType: 'MatMul',
      inputs: ['x', `w.${module}`],
      outputs: [module],
    })),
  }
  return { part: name, name, layers: findLinearLayers(createModel(graph, { opset: 17 })) }
}

const partsOf = (modules: string[], parts: ReturnType<typeof session>[], map = {}) =>
  Object.fromEntries(Array.from(locateModules(modules, parts, map), ([module, { part }]) => [module, part]))

const ENCODER = 'encoder.block.0.SelfAttention.q'
const DECODER = 'decoder.block.0.SelfAttention.q'

test('an equal name takes precedence over a name without its root', () => {
  const parts = [
    session('model', 'block.0.SelfAttention.q'),
    session('decoder_model_merged', DECODER, 'decoder.block.0.EncDecAttention.q'),
  ]
  expect(partsOf([DECODER, ENCODER, 'decoder.block.0.EncDecAttention.q'], parts)).toEqual({
    [DECODER]: 'decoder_model_merged',
    [ENCODER]: 'model',
    'decoder.block.0.EncDecAttention.q': 'decoder_model_merged',
  })
})

test('finds modules without their prefix in an encoder that was exported as a separate model', () => {
  const modules = [
    'model.encoder.layers.0.fc1',
    'model.decoder.layers.0.fc1',
    'model.decoder.layers.0.encoder_attn.q_proj',
  ]
  const decoder = session('decoder_model_merged', ...modules.slice(1))
  for (const name of ['model', 'encoder_model']) {
    const locations = locateModules(modules, [session(name, 'layers.0.fc1', 'layers.0.fc2'), decoder], {})
    expect([...locations.values()]).toEqual([
      { part: name, name: modules[0] },
      { part: 'decoder_model_merged', name: modules[1] },
      { part: 'decoder_model_merged', name: modules[2] },
    ])
  }
  const [fc1] = modules as [string]
  const vision = session('vision_encoder', 'layers.0.fc1')
  expect(partsOf(modules, [vision, session('encoder_model', 'layers.0.fc1'), decoder])).toEqual({
    [modules[0]]: 'encoder_model',
    [modules[1]]: 'decoder_model_merged',
    [modules[2]]: 'decoder_model_merged',
  })
  expect(
    partsOf(modules.slice(0, 1), [vision], { 'model.encoder.layers.*.fc1': '/layers.*/fc1/MatMul' }),
  ).toEqual({
    [modules[0]]: 'vision_encoder',
  })
  const named = [session('model', 'layers.0.fc1', 'layers.0.fc2'), decoder]
  expect(partsOf([fc1], named, { [fc1]: '/layers.0/fc2/MatMul' })).toEqual({ [fc1]: 'model' })
  expect(() => partsOf([fc1], named, { [fc1]: '/layers.9/fc1/MatMul' })).toThrow(
    /none of the model's sessions/,
  )
  const twice = ['encoder.encoder.layer.0.q', 'encoder.layer.0.k']
  const image = [session('model', 'encoder.layer.0.q', 'encoder.layer.0.k'), decoder]
  expect(partsOf(twice, image)).toEqual({ [twice[0]]: 'model', [twice[1]]: 'model' })
  expect(() => partsOf(modules.slice(0, 1), [session('vision_encoder', 'layers.0.fc1'), decoder])).toThrow(
    /nearest/,
  )
})

test('a name with one more segment takes precedence over a name with a longer prefix, which is used if it is the only one', () => {
  const deep = session('model', 'm.n.layer.0.q', 'm.n.layer.1.q')
  const near = session('text_encoder', 'text.layer.0.q')
  expect(partsOf(['layer.0.q', 'layer.1.q'], [near, deep])).toEqual({
    'layer.0.q': 'text_encoder',
    'layer.1.q': 'model',
  })
})

test('the session’s name decides if the names of its layers have no root', () => {
  const parts = [
    session('model', 'block.0.SelfAttention.q'),
    session('decoder_model_merged', 'block.0.SelfAttention.q'),
  ]
  expect(partsOf([`base_model.model.${DECODER}`, ENCODER], parts)).toEqual({
    [`base_model.model.${DECODER}`]: 'decoder_model_merged',
    [ENCODER]: 'model',
  })
})

test('finds the modules of a part only in the session with the name of the part', () => {
  const language = 'model.language_model.layers.0.self_attn.q_proj'
  const vision = 'model.vision_tower.encoder.layers.0.self_attn.q_proj'
  const audio = 'audio_tower.layers.0.fc1'
  const parts = [
    session('embed_tokens'),
    session('vision_encoder', 'encoder.layers.0.self_attn.q_proj'),
    session('audio_encoder', 'layers.0.fc1'),
    session('decoder_model_merged', 'model.layers.0.self_attn.q_proj', 'model.layers.0.fc1'),
  ]
  expect(partsOf([vision, audio], parts)).toEqual({ [vision]: 'vision_encoder', [audio]: 'audio_encoder' })
  // The inputs show that this is the file of the language model.
  const inputs = ['inputs_embeds', 'attention_mask']
  const withInputs = [
    ...parts.slice(0, 3),
    session('decoder_model_merged', { inputs }, 'model.layers.0.self_attn.q_proj'),
  ]
  expect(partsOf([language, vision], withInputs)).toEqual({
    [language]: 'decoder_model_merged',
    [vision]: 'vision_encoder',
  })
  // The encoder inside the vision tower is not the encoder of the language model.
  const florence = [
    session('encoder_model', 'layers.0.fc1'),
    session('decoder_model_merged', 'decoder.layers.0.fc1'),
  ]
  const seq2seq = ['encoder', 'decoder'].map((part) => `language_model.model.${part}.layers.0.fc1`)
  expect(partsOf(seq2seq, florence)).toEqual({
    [seq2seq[0]]: 'encoder_model',
    [seq2seq[1]]: 'decoder_model_merged',
  })
  expect(() => partsOf(['vision_tower.encoder.layers.0.fc1'], florence)).toThrow(
    /none of the model's sessions/,
  )
  expect(() => partsOf([DECODER], [session('model', 'block.0.SelfAttention.q')])).toThrow(/none of/)
})

test('the error lists all missing modules, and suggests null only for modules that PyTorch never calls', () => {
  const parts = [session('model', 'encoder.layer.0.q')]
  const missing = ['encoder.layer.0.querry', 'encoder.layer.0.v']
  const errorOf = (modules: string[]) => {
    try {
      return partsOf(modules, parts)
    } catch (error) {
      return error
    }
  }
  expect(errorOf(['encoder.layer.0.q', ...missing])).toMatchObject({
    code: 'MODULE_NOT_FOUND',
    message: expect.stringMatching(/module encoder\.layer\.0\.querry.*\(1 further modules/s),
    details: { module: missing[0], received: missing },
  })
  expect(errorOf(['encoder.layer.0.q', ...missing])).toMatchObject({
    message: expect.not.stringMatching(/null/),
  })
})

test('the error of a missing or ambiguous module lists the nearest names or the sessions', () => {
  const parts = [session('vision_encoder', 'layers.0.q_proj'), session('audio_encoder', 'layers.0.q_proj')]
  expect(() => partsOf(['layers.0.q_porj'], parts)).toThrow(
    /vision_encoder, audio_encoder.*nearest names: layers\.0\.q_proj/,
  )
  expect(() => partsOf(['layers.0.q_proj'], parts)).toThrow(
    /several of the model's sessions contain it \(vision_encoder, audio_encoder\)/,
  )
})

test('finds a module by the name of its node', () => {
  const parts = [session('vision_encoder', 'a.q'), session('model', 'b.q')]
  expect(partsOf(['q_proj'], parts, { q_proj: '/b/q/MatMul' })).toEqual({ q_proj: 'model' })
})

test('does not look for modules that moduleNames maps to null, unless the adapter has them', () => {
  const parts = [session('model', 'encoder.layer.0.q'), session('decoder_model_merged', 'decoder.layer.0.q')]
  expect(partsOf(['encoder.layer.0.q'], parts, { 'pooler.dense': null })).toEqual({
    'encoder.layer.0.q': 'model',
  })
  expect(() => partsOf(['encoder.layer.0.q', 'pooler.dense'], parts)).toThrow(/pooler\.dense.*null/s)
})
