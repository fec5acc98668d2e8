import { describe, expect, test } from 'vitest'
import { classes, contextOf, logits, numbersOf, tokens } from '../__fixtures__/context.js'
import vectors from '../__fixtures__/vectors.json' with { type: 'json' }
import { RowTokenizer } from '../row-tokenizer.js'
import { textClassification } from './text-classification.js'

const LABELS = classes('bad', 'neutral', 'good')
const bert = () =>
  contextOf('bert', {
    pipeline: 'text-classification',
    inputs: tokens('input_ids', 'attention_mask', 'token_type_ids'),
    outputs: logits(3),
    labels: LABELS,
  })

test('feeds are those of the pipeline, and labels are classes', async () => {
  const context = await bert()
  const rows = [
    { text: 'a good film', label: 'good' },
    { text: 'the soup was cold, nobody came', label: 0 },
  ]
  const encoder = textClassification.encoder(context, rows)
  const { feeds, labels } = await encoder.collate(await encoder.encode(rows))
  const expected = context.tokenizer?.(
    rows.map(({ text }) => text),
    { padding: true, truncation: true },
  )
  expect(Object.keys(feeds)).toEqual(['input_ids', 'attention_mask', 'token_type_ids'])
  for (const [name, tensor] of Object.entries(expected ?? {}))
    expect(numbersOf(feeds[name])).toEqual(numbersOf(tensor))
  expect(numbersOf(labels)).toEqual({ type: 'int64', dims: [2], data: [2, 0] })
  expect(encoder.loss.output).toBe('logits')
})

test('pairs have segments; RoBERTa has none, and padding of its own', async () => {
  const row = { text: 'a boat', text_pair: 'the stone bridge', label: 'good' }
  const rows = [row, { text: 'a', text_pair: 'b', label: 'bad' }]
  const context = await bert()
  const encoder = textClassification.encoder(context, rows)
  const examples = await encoder.encode(rows)
  const { feeds } = await encoder.collate(examples)
  const [a, b] = [row.text, row.text_pair].map((text) => context.tokenizer?.encode(text) ?? [])
  const types = numbersOf(feeds.token_type_ids)
  expect(types.data.slice(0, a.length + b.length - 1)).toEqual([
    ...a.map(() => 0),
    ...b.slice(1).map(() => 1),
  ])
  expect(types.data.slice(types.dims[1])).toContain(1)

  const roberta = await contextOf('roberta', {
    pipeline: 'text-classification',
    inputs: tokens('input_ids', 'attention_mask').map((input) => ({ ...input, type: 'int32' })),
    outputs: logits(3),
    labels: LABELS,
  })
  const other = textClassification.encoder(roberta, rows)
  const second = (await other.collate(await other.encode(rows))).feeds
  const ids = numbersOf(second.input_ids)
  expect(ids.type).toBe('int32')
  expect(ids.data.at(-1)).toBe(1)
  expect(ids.data.filter((id) => id === 2)).toHaveLength(6)
  expect(numbersOf(second.attention_mask).data).toEqual(ids.data.map((id) => (id === 1 ? 0 : 1)))
})

test('several labels and numbers are float32 of the shape of the logits', async () => {
  const context = await bert()
  const several = { ...LABELS, problemType: 'multi_label_classification' as const }
  const encoder = textClassification.encoder({ ...context, labels: several }, [])
  const examples = await encoder.encode([
    { text: 'a', label: ['good', 'bad'] },
    { text: 'b', label: [] },
  ])
  expect(numbersOf((await encoder.collate(examples)).labels)).toEqual({
    type: 'float32',
    dims: [2, 3],
    data: [1, 0, 1, 0, 0, 0],
  })
  const regression = textClassification.encoder(
    { ...context, labels: { problemType: 'regression', names: ['LABEL_0'], isNew: true } },
    [],
  )
  const numbers = await regression.encode([
    { text: 'a', label: 0.25 },
    { text: 'b', label: '-3' },
  ])
  expect(numbersOf((await regression.collate(numbers)).labels)).toEqual({
    type: 'float32',
    dims: [2, 1],
    data: [0.25, -3],
  })
  expect([encoder, regression].map(({ metric }) => Object.keys(metric()?.result(0) ?? {})[0])).toEqual([
    'accuracy',
    'spearman',
  ])
})

describe('texts that are too long are cut as Hugging Face cuts them', () => {
  test.each([...new Set(vectors.cutTexts.map(({ model }) => model))])('%s', async (model) => {
    const context = await contextOf(model, { pipeline: 'text-classification', inputs: [], outputs: [] })
    for (const { text, pair, length, ids, types, ...vector } of vectors.cutTexts) {
      if (vector.model !== model || (model === 'gpt2' && pair !== null)) continue
      const encoder = new RowTokenizer({ ...context, maxLength: length })
      const whole = new RowTokenizer({ ...context, maxLength: 1000 })
      const options = { pair: pair ?? undefined }
      const first = encoder.encode(text, options)
      // Later texts are cut by what the first one has shown about the tokenizer.
      const afterAnother = new RowTokenizer({ ...context, maxLength: length })
      expect(afterAnother.encode('rain and a window '.repeat(20)).cut).toBeGreaterThan(0)
      for (const example of [first, afterAnother.encode(text, options)]) {
        expect(Array.from(example.ids)).toEqual(ids)
        if (example.types) expect(Array.from(example.types)).toEqual(types)
        expect(example.length).toBe(ids.length)
        expect(example.cut).toBe(whole.encode(text, options).length - ids.length)
      }
    }
  })
})

test('a tokenizer that has no pairs is rejected with a pair', async () => {
  const context = await contextOf('gpt2', { pipeline: 'text-classification', inputs: [], outputs: [] })
  expect(() => new RowTokenizer(context).encode('a', { pair: 'b' })).toThrow(/cannot encode pairs/)
})

test('wrong rows are rejected with their position and field', () => {
  for (const [row, message] of [
    ['text', /^row 4 \(from 0\): expected an object/],
    [{ label: 'good' }, /^row 4 \(from 0\), text: the row has no text; it has label/],
    [{ text: ' ', label: 'good' }, /text: expected a text/],
    [{ text: 3, label: 'good' }, /text: expected a text; received 3/],
    [{ text: 'a', text_pair: 3, label: 'good' }, /text_pair: /],
    [{ text: 'a', lable: 'good' }, /label: the row has no label; it has text, lable/],
    [{ text: 'a', label: { name: 'good' } }, /label: expected the name of a class, or a number/],
  ] as const)
    expect(() => textClassification.check(row, 4)).toThrow(
      expect.objectContaining({
        code: 'INVALID_OPTION',
        message: expect.stringMatching(message),
        details: expect.objectContaining({ row: 4 }),
      }),
    )
  // An empty cell of a CSV file.
  expect(textClassification.check({ text: 'a', text_pair: '', label: 'x' }, 0)).toEqual({
    text: 'a',
    label: 'x',
  })
  const row = { text: 'a', text_pair: 'b', label: ['x', 2], other: 1 }
  expect(textClassification.check(row, 0)).toEqual({ text: 'a', text_pair: 'b', label: ['x', 2] })
})

test('a label that the training does not have is rejected with the row', async () => {
  const encoder = textClassification.encoder(await bert(), [])
  const rows = [
    { text: 'a', label: 'good' },
    { text: 'b', label: 'excellent' },
  ]
  await expect(encoder.encode(rows)).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    details: { row: 1, option: 'label', received: 'excellent' },
  })
})

test('models without the outputs, the inputs or the tokenizer of the task are rejected', async () => {
  const context = await bert()
  const outputs = [{ name: 'last_hidden_state', type: 'float32', shape: [] }]
  expect(() => textClassification.encoder({ ...context, outputs }, [])).toThrow(
    /no output logits; it has last_hidden_state/,
  )
  expect(() => textClassification.encoder({ ...context, tokenizer: undefined }, [])).toThrow(/no tokenizer/)
  const encoder = textClassification.encoder({ ...context, inputs: tokens('input_ids', 'bbox') }, [])
  const examples = await encoder.encode([{ text: 'a', label: 0 }])
  await expect(encoder.collate(examples)).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringMatching(/input bbox/),
  })
})
