/** An encoder and a decoder in one graph give what the two graphs give one after the other. */
import { readFileSync } from 'node:fs'
import { Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { createModel } from '../model/create-model.js'
import type { NewNode } from '../model/encode.js'
import { type OnnxModel, readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { joinModels } from './join-models.js'

type Feeds = Record<string, Tensor>

const exports = new URL('../../../transformers/test/__fixtures__/', import.meta.url)
const read = (name: string, file: string) =>
  readModel(new Uint8Array(readFileSync(new URL(`${name}/onnx/${file}.onnx`, exports))), { file })

async function run(model: OnnxModel, feeds: Feeds, fetches: readonly string[]) {
  const session = await createSession(model.toBytes())
  const results = await session.run(feeds, fetches)
  await session.release()
  return results
}

const ids = (rows: readonly (readonly number[])[]) =>
  new Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length])
const input_ids = ids([
  [5, 9, 14, 3, 1],
  [7, 8, 1, 0, 0],
])
const attention_mask = ids([
  [1, 1, 1, 1, 1],
  [1, 1, 1, 0, 0],
])
const decoder_input_ids = ids([
  [0, 7, 3],
  [0, 12, 4],
])

/** The feeds of an empty cache, as transformers.js makes them. */
function emptyCache({ graph }: OnnxModel): Feeds {
  const caches = graph.inputs.filter(({ name }) => name.startsWith('past_key_values'))
  const feeds = caches.map(({ name, dims = [] }) => {
    const [, heads, , width] = dims as number[]
    return [name, new Tensor('float32', [], [2, heads, 0, width])] as const
  })
  return { ...Object.fromEntries(feeds), use_cache_branch: new Tensor('bool', [false], [1]) }
}

test.each(['t5', 'bart'])('%s: the logits are those of the two sessions', async (name) => {
  const [encoder, decoder] = [read(name, 'encoder_model'), read(name, 'decoder_model_merged')]
  const cache = emptyCache(decoder)
  const { last_hidden_state } = await run(encoder, { input_ids, attention_mask }, ['last_hidden_state'])
  const expected = await run(
    decoder,
    {
      ...cache,
      input_ids: decoder_input_ids,
      encoder_attention_mask: attention_mask,
      encoder_hidden_states: last_hidden_state,
    },
    ['logits'],
  )
  const { model } = joinModels(encoder, decoder)
  expect(model.graph.inputs.map((value) => value.name)).toEqual([
    'input_ids',
    'attention_mask',
    'decoder_input_ids',
    ...Object.keys(cache),
  ])
  const joined = await run(model, { ...cache, input_ids, attention_mask, decoder_input_ids }, ['logits'])
  expect(joined.logits.data).toEqual(expected.logits.data)
})

/** y = tanh(Σx·w). Encoder and decoder have values, nodes and sizes of the same names. */
function part(inputs: Readonly<Record<string, string>>, output: readonly [string, string], opset = 17) {
  const value = ([name, size]: readonly [string, string]) => ({
    name,
    dataType: DataType.float,
    dims: ['batch', size, 4],
  })
  const weight = Float32Array.from({ length: 16 }, (_, i) => Math.sin(i + output[0].length))
  const nodes: NewNode[] = [
    { name: 'sum', opType: 'Sum', inputs: Object.keys(inputs), outputs: ['sum'] },
    { name: 'product', opType: 'MatMul', inputs: ['sum', 'w'], outputs: ['inner'] },
    { name: 'tanh', opType: 'Tanh', inputs: ['inner'], outputs: [output[0]] },
  ]
  const data = new Uint8Array(weight.buffer)
  const initializers = [{ name: 'w', dims: [4, 4], dataType: DataType.float, data }]
  return createModel(
    {
      name: 'part',
      nodes,
      inputs: Object.entries(inputs).map(value),
      outputs: [value(output)],
      initializers,
    },
    { opset, file: output[0] },
  )
}
const encoderPart = (opset?: number) =>
  part({ x: 'length', mask: 'length' }, ['last_hidden_state', 'length'], opset)
const decoderPart = (opset?: number) => {
  const inputs = { x: 'length', encoder_mask: 'source', encoder_hidden_states: 'source' }
  return part(inputs, ['y', 'length'], opset)
}

test.each([
  [17, 17],
  [12, 15],
])('values, nodes and sizes of the same names stay apart (opsets %i and %i)', async (first, second) => {
  const numbers = (phase: number) =>
    new Tensor(
      'float32',
      Float32Array.from({ length: 24 }, (_, i) => Math.sin(3 * i + phase)),
      [2, 3, 4],
    )
  const [x, decoder_x, mask] = [1, 2, 3].map(numbers)
  const { last_hidden_state } = await run(encoderPart(first), { x, mask }, ['last_hidden_state'])
  const expected = await run(
    decoderPart(second),
    { x: decoder_x, encoder_mask: mask, encoder_hidden_states: last_hidden_state },
    ['y'],
  )
  const { model, encoderNames, decoderNames } = joinModels(encoderPart(first), decoderPart(second))
  expect(Object.fromEntries(encoderNames)).toEqual({
    w: 'w.2',
    sum: 'sum.2',
    inner: 'inner.2',
    last_hidden_state: 'encoder_hidden_states',
  })
  expect(Object.fromEntries(decoderNames)).toEqual({ x: 'decoder_x', encoder_mask: 'mask' })
  expect(model.graph.inputs.map((value) => [value.name, value.dims?.[1]])).toEqual([
    ['x', 'source'],
    ['mask', 'source'],
    ['decoder_x', 'length'],
  ])
  const { y } = await run(model, { x, mask, decoder_x }, ['y'])
  expect(y.data).toEqual(expected.y.data)
})

test('models of opsets that cannot be brought to one are rejected', () => {
  expect(() => joinModels(encoderPart(12), decoderPart(17))).toThrow(
    expect.objectContaining({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/version 16 .* version 17/),
    }),
  )
})

test('models that are no encoder and decoder are rejected', () => {
  const option = { code: 'INVALID_OPTION' }
  expect(() => joinModels(decoderPart(), decoderPart())).toThrow(expect.objectContaining(option))
  expect(() => joinModels(encoderPart(), encoderPart())).toThrow(expect.objectContaining(option))
})
