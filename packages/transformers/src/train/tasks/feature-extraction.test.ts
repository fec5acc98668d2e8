import { expect, test } from 'vitest'
import { contextOf, numbersOf, tokens, value } from '../__fixtures__/context.js'
import { featureExtraction } from './feature-extraction.js'

const contextFor = (
  outputs = [value('last_hidden_state', ['batch_size', 'sequence_length', 32], 'float32')],
) =>
  contextOf('roberta', {
    pipeline: 'feature-extraction',
    inputs: tokens('input_ids', 'attention_mask'),
    outputs,
  })
const rows = [
  { text: 'the rain was long', text_pair: 'she reads', score: 0.25 },
  { text: 'a letter', text_pair: 'a grey cat along the wall', score: -0.5 },
]
const withoutScores = rows.map(({ text, text_pair }) => ({ text, text_pair }))

test('the first half of a batch has the first texts, the second half the others', async () => {
  const context = await contextFor()
  const encoder = featureExtraction.encoder(context, rows)
  const { feeds, labels } = await encoder.collate(await encoder.encode(rows))
  const texts = [rows[0].text, rows[1].text, rows[0].text_pair, rows[1].text_pair]
  const expected = context.tokenizer?.(texts, { padding: true })
  for (const name of ['input_ids', 'attention_mask'] as const)
    expect(numbersOf(feeds[name])).toEqual(numbersOf(expected?.[name]))
  expect(numbersOf(labels)).toEqual({ type: 'float32', dims: [2], data: [0.25, -0.5] })
  expect(encoder.loss.inputs).toEqual(['attention_mask'])
  expect(encoder.metric()).toBeDefined()
})

test('without scores, the loss has no labels and no metric', async () => {
  const encoder = featureExtraction.encoder(await contextFor(), withoutScores)
  const { labels } = await encoder.collate(await encoder.encode(withoutScores))
  expect([labels, encoder.loss.labels, encoder.metric()]).toEqual([undefined, undefined, undefined])
})

test('the output is that of the pipeline, or one that is pooled already', async () => {
  const tokenOutput = value('token_embeddings', ['batch_size', 'sequence_length', 32], 'float32')
  const pooled = value('sentence_embedding', ['batch_size', 32], 'float32')
  const outputOf = async (...outputs: (typeof pooled)[]) =>
    featureExtraction.encoder(await contextFor(outputs), rows).loss
  expect((await outputOf(pooled, tokenOutput)).output).toBe('token_embeddings')
  const loss = await outputOf(pooled)
  expect([loss.output, loss.inputs]).toEqual(['sentence_embedding', undefined])
  expect((await outputOf(value('461', ['a', 384], 'float32'))).output).toBe('461')
  const logits = [value('logits', [1, 2], 'float32'), value('other', [1], 'float32')]
  await expect(outputOf(...logits)).rejects.toMatchObject({ code: 'UNSUPPORTED' })
})

test('rows with and without scores, and scores that are not cosines, are rejected', async () => {
  const mixed = [rows[0], withoutScores[1]]
  const encoder = featureExtraction.encoder(await contextFor(), mixed)
  await expect(encoder.encode(mixed)).rejects.toMatchObject({ details: { row: 1, option: 'score' } })
  for (const [row, option] of [
    [{ text: 'a', text_pair: 'b', score: 4 }, 'score'],
    [{ text: 'a', text_pair: 'b', score: 'high' }, 'score'],
    [{ text: 'a', score: 1 }, 'text_pair'],
  ] as const)
    expect(() => featureExtraction.check(row, 3)).toThrow(
      expect.objectContaining({ details: expect.objectContaining({ row: 3, option }) }),
    )
  expect(featureExtraction.check({ text: 'a', text_pair: 'b', score: '0.5' }, 0).score).toBe(0.5)
})
