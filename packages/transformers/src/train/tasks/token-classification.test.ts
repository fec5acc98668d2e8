import { expect, test } from 'vitest'
import { classes, contextOf, logits, numbersOf, tokens } from '../__fixtures__/context.js'
import vectors from '../__fixtures__/vectors.json' with { type: 'json' }
import { tokenClassification } from './token-classification.js'

const LABELS = classes('O', 'NOUN', 'VERB')
const contextFor = (name: string, maxLength = 64) =>
  contextOf(name, {
    pipeline: 'token-classification',
    inputs: tokens('input_ids', 'attention_mask'),
    outputs: logits('sequence_length', 3),
    labels: LABELS,
    maxLength,
  })

test('the first token of each word has its label: tokens and words are those of Hugging Face', async () => {
  const { tokens, ids, wordIds } = vectors.words
  const labels = ['O', 'NOUN', 'VERB', 0, 'VERB']
  const encoder = tokenClassification.encoder(await contextFor('bert'), [])
  const [example] = await encoder.encode([{ tokens, labels }])
  expect(Array.from(example.ids)).toEqual(ids)
  const numbers = [0, 1, 2, 0, 2]
  expect(Array.from(example.targets)).toEqual(
    wordIds.map((word, i) => (word === null || word === wordIds[i - 1] ? -100 : numbers[word])),
  )
})

test.each(['roberta', 't5'])('%s: words have the tokens that they have in a text', async (name) => {
  const context = await contextFor(name)
  const words = ['she', 'reads', 'a', 'letter']
  const encoder = tokenClassification.encoder(context, [])
  const [example] = await encoder.encode([{ tokens: words, labels: ['O', 'VERB', 'O', 'NOUN'] }])
  expect(Array.from(example.ids)).toEqual(context.tokenizer?.encode(words.join(' ')))
  expect(Array.from(example.targets).filter((target) => target !== -100)).toEqual([0, 2, 0, 1])
})

test('long rows are cut and keep their special tokens; padding does not count', async () => {
  const encoder = tokenClassification.encoder(await contextFor('roberta', 7), [])
  const tokens = ['she', 'reads', 'a', 'letter', 'at', 'the', 'window']
  const rows = [
    { tokens, labels: tokens.map(() => 'NOUN') },
    { tokens: ['the'], labels: ['O'] },
  ]
  const examples = await encoder.encode(rows)
  expect(examples[0]).toMatchObject({ length: 7 })
  expect(examples[0].cut).toBeGreaterThan(0)
  expect([examples[0].ids[0], examples[0].ids[6]]).toEqual([0, 2])
  const { feeds, labels } = await encoder.collate(examples)
  expect(numbersOf(labels)).toMatchObject({ type: 'int64', dims: [2, 7] })
  const mask = numbersOf(feeds.attention_mask).data
  expect(numbersOf(labels).data.every((label, i) => label === -100 || mask[i] === 1)).toBe(true)
})

test('labels are those of the model, or new ones', () => {
  const rows = [{ tokens: ['a', 'b'], labels: ['X', 'O'] }]
  expect(tokenClassification.labelsOf?.(rows, { names: LABELS.names })).toMatchObject({
    names: ['O', 'X'],
    isNew: true,
  })
})

test.each([
  [{ labels: ['O'] }, 'tokens'],
  [{ tokens: 'the mill', labels: 'O O' }, 'tokens'],
  [{ tokens: [], labels: [] }, 'tokens'],
  [{ tokens: ['a', 3], labels: ['O', 'O'] }, 'tokens[1]'],
  [{ tokens: ['a', 'b'], labels: ['O', null] }, 'labels[1]'],
  [{ tokens: ['a', 'b'], labels: ['O'] }, 'labels'],
])('%j is rejected', (row, option) => {
  expect(() => tokenClassification.check(row, 5)).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION', details: expect.objectContaining({ row: 5, option }) }),
  )
})

test('labels that the training does not have, and words without tokens, are rejected', async () => {
  const encoder = tokenClassification.encoder(await contextFor('bert'), [])
  await expect(encoder.encode([{ tokens: ['a', 'b'], labels: ['O', 'ADJ'] }])).rejects.toMatchObject({
    details: { row: 0, option: 'labels[1]', received: 'ADJ' },
  })
  await expect(encoder.encode([{ tokens: [' '], labels: ['O'] }])).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringMatching(/no tokens/),
  })
})
