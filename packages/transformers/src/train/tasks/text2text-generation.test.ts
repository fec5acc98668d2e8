import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { contextOf, logits, numbersOf, ortOfTransformers, tokens } from '../__fixtures__/context.js'
import { text2textGeneration } from './text2text-generation.js'

const FIXTURES = fileURLToPath(new URL('../../../test/__fixtures__', import.meta.url))
const INPUTS = ['input_ids', 'attention_mask', 'decoder_input_ids', 'decoder_attention_mask']
const contextFor = (name: string) =>
  contextOf(name, {
    pipeline: 'summarization',
    inputs: tokens(...INPUTS),
    outputs: logits('decoder_sequence_length', 160),
  })

const rows = [
  { text: 'the rain was long', target: 'she reads' },
  { text: 'two children', target: 'a letter at the window' },
]

test.each([
  ['t5', 0, 0],
  ['bart', 2, 1],
])('%s: the decoder reads the token before each token that it predicts', async (name, start, pad) => {
  const context = await contextFor(name)
  const encoder = text2textGeneration.encoder(context, rows)
  const { feeds, labels } = await encoder.collate(await encoder.encode(rows))
  const [short, long] = rows.map(({ target }) => context.tokenizer?.encode(target) ?? [])
  const padding = (value: number) => new Array(long.length - short.length).fill(value)
  expect(numbersOf(labels)).toEqual({
    type: 'int64',
    dims: [2, long.length],
    data: [...short, ...padding(-100), ...long],
  })
  expect(numbersOf(feeds.decoder_input_ids).data).toEqual([
    ...[start, ...short.slice(0, -1), ...padding(pad)],
    ...[start, ...long.slice(0, -1)],
  ])
  expect(numbersOf(feeds.decoder_attention_mask).data).toEqual([
    ...[...short.map(() => 1), ...padding(0)],
    ...long.map(() => 1),
  ])
  const expected = context.tokenizer?.(
    rows.map(({ text }) => text),
    { padding: true },
  )
  expect(numbersOf(feeds.input_ids)).toEqual(numbersOf(expected?.input_ids))
})

test.each(['t5', 'bart'])(
  '%s: encoder and decoder give the logits of PyTorch for these feeds',
  async (name) => {
    const { InferenceSession } = ortOfTransformers()
    const [encoder, decoder] = await Promise.all(
      ['encoder_model', 'decoder_model_merged'].map((file) =>
        InferenceSession.create(`${FIXTURES}/${name}/onnx/${file}.onnx`),
      ),
    )
    // In a graph of both, only the names of the decoder's tokens differ.
    const inputs = [...encoder.inputMetadata, ...decoder.inputMetadata]
      .filter(({ name }) => name !== 'encoder_hidden_states')
      .map((input) => input as unknown as ReturnType<typeof tokens>[number])
    const context = {
      ...(await contextFor(name)),
      inputs: [...inputs, ...tokens('decoder_input_ids')],
    }
    const [vector] = JSON.parse(readFileSync(`${FIXTURES}/${name}/vectors.json`, 'utf8')).cases
    // The first token with which the vectors were made.
    Object.assign(context.model.config, { decoder_start_token_id: vector.decoderInputIds[0] })
    const text = text2textGeneration.encoder(context, [])
    const [example] = await text.encode([{ text: vector.text, target: 'a' }])
    const { feeds } = await text.collate([
      // The tokens of which the vectors have the logits.
      { ...example, target: Int32Array.from([...vector.decoderInputIds.slice(1), 1]) },
      { ...example, ids: example.ids.subarray(0, 4), target: Int32Array.from([1]) },
    ])
    expect(numbersOf(feeds.decoder_input_ids).data.slice(0, vector.decoderInputIds.length)).toEqual(
      vector.decoderInputIds,
    )
    const { input_ids, attention_mask, decoder_input_ids, ...rest } = feeds
    const { last_hidden_state } = await encoder.run({ input_ids, attention_mask })
    const { logits } = await decoder.run({
      ...rest,
      input_ids: decoder_input_ids,
      encoder_hidden_states: last_hidden_state,
    })
    const expected = vector.base.logits.flat()
    const received = numbersOf(logits).data.slice(0, expected.length)
    const largest = Math.max(...expected.map(Math.abs))
    for (const [i, value] of received.entries())
      expect(Math.abs(value - expected[i])).toBeLessThan(1e-4 * largest)
    await Promise.all([encoder.release(), decoder.release()])
  },
)

test('texts begin with the prefix of the pipeline', async () => {
  const context = await contextFor('t5')
  Object.assign(context.model.config, { task_specific_params: { summarization: { prefix: 'she reads: ' } } })
  const encoder = text2textGeneration.encoder(context, [])
  const [example] = await encoder.encode([{ text: 'a letter', target: 'a' }])
  expect(Array.from(example.ids)).toEqual(context.tokenizer?.encode('she reads: a letter'))
})

test('models without a first token of the decoder, and rows without a target, are rejected', async () => {
  const context = await contextFor('t5')
  Object.assign(context.model.config, { decoder_start_token_id: undefined })
  expect(() => text2textGeneration.encoder(context, [])).toThrow(/decoder_start_token_id/)
  expect(() => text2textGeneration.check({ text: 'a' }, 6)).toThrow(/row 6 .*target/)
})
