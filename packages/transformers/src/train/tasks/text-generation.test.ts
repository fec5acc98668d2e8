import { fileURLToPath } from 'node:url'
import type { PreTrainedTokenizer } from '@huggingface/transformers'
import { describe, expect, test } from 'vitest'
import { contextOf, logits, numbersOf, ortOfTransformers, tokens, value } from '../__fixtures__/context.js'
import type { TaskContext } from '../task.js'
import { type TextGenerationRow, textGeneration } from './text-generation.js'

const OUTPUTS = logits('sequence_length', 160)
const contextFor = (name: string, options: Partial<TaskContext> = {}) =>
  contextOf(name, {
    pipeline: 'text-generation',
    inputs: tokens('input_ids', 'attention_mask', 'position_ids'),
    outputs: OUTPUTS,
    ...options,
  })

async function batchOf(context: TaskContext, rows: readonly TextGenerationRow[]) {
  const encoder = textGeneration.encoder(context, rows)
  const examples = await encoder.encode(rows)
  const { feeds, labels } = await encoder.collate(examples)
  const { dims, data } = numbersOf(labels)
  const split = (values: number[]) =>
    Array.from({ length: dims[0] }, (_, row) => values.slice(row * dims[1], (row + 1) * dims[1]))
  return { examples, feeds, ids: split(numbersOf(feeds.input_ids).data), labels: split(data) }
}

/** What the model learns: the tokens at the positions that count. */
const learned = (tokenizer: PreTrainedTokenizer | undefined, labels: readonly number[]) =>
  tokenizer?.decode(labels.filter((id) => id !== -100))

describe('texts', () => {
  test('each token predicts the next one, the last one the end; padding does not count', async () => {
    const context = await contextFor('gpt2')
    const texts = ['the rain was long', 'she reads a letter at the window']
    const { ids, labels, feeds } = await batchOf(
      context,
      texts.map((text) => ({ text })),
    )
    const [short, long] = texts.map((text) => [...(context.tokenizer?.encode(text) ?? []), 0])
    expect(ids[1]).toEqual(long)
    expect(labels[1]).toEqual([...long.slice(1), -100])
    expect(labels[0]).toEqual([...short.slice(1), ...new Array(long.length - short.length + 1).fill(-100)])
    const mask = numbersOf(feeds.attention_mask).data.slice(0, long.length)
    expect(mask).toEqual(long.map((_, i) => (i < short.length ? 1 : 0)))
    const positions = numbersOf(feeds.position_ids).data.slice(0, long.length)
    expect(positions).toEqual(long.map((_, i) => (i < short.length ? i : 1)))
  })

  test('begin with the special token of the tokenizer', async () => {
    const { ids } = await batchOf(await contextFor('llama'), [{ text: 'the rain' }])
    expect([ids[0][0], ids[0].at(-1)]).toEqual([1, 2])
  })

  test('long ones are cut and counted, or all are joined and divided into blocks', async () => {
    const rows = ['the rain was long', 'she reads a letter at the window'].map((text) => ({ text }))
    const whole = (await batchOf(await contextFor('gpt2'), rows)).examples
    const all = whole.flatMap(({ ids }) => Array.from(ids))
    const cut = (await batchOf(await contextFor('gpt2', { maxLength: 9 }), rows)).examples
    expect(cut.map(({ length }) => length)).toEqual([7, 9])
    expect(cut.map(({ cut }) => cut)).toEqual([0, whole[1].length - 9])
    const blocks = (await batchOf(await contextFor('gpt2', { maxLength: 9, packing: true }), rows)).examples
    expect(blocks.flatMap(({ ids }) => Array.from(ids))).toEqual(all)
    expect(blocks.slice(0, -1).every(({ length }) => length === 9)).toBe(true)
  })
})

test('of prompts with completions, only the completion and the end are learned', async () => {
  for (const model of ['gpt2', 'llama']) {
    const context = await contextFor(model)
    const rows = [{ prompt: 'she reads a letter', completion: ' at the window' }]
    const { ids, labels } = await batchOf(context, rows)
    expect(learned(context.tokenizer, labels[0])?.trim()).toMatch(/^at the window(<.*>)?$/)
    const prompt = context.tokenizer?.encode(rows[0].prompt) ?? []
    expect(ids[0].slice(0, prompt.length)).toEqual(prompt)
    expect(labels[0].slice(0, prompt.length - 1)).toEqual(new Array(prompt.length - 1).fill(-100))
    expect(labels[0][prompt.length - 1]).toBe(ids[0][prompt.length])
  }
})

describe('chats', () => {
  const TEMPLATE =
    "{% for m in messages %}{{ '<s>' + m.role + ':' + m.content + '</s>' }}{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"
  /** Writes only the last answer in full, as templates that remove reasoning do. */
  const SHORTENING =
    "{% for m in messages %}{{ '<s>' + m.role + ':' }}{% if m.role == 'assistant' and not loop.last %}{{ '...' }}{% else %}{{ m.content }}{% endif %}{{ '</s>' }}{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"
  const messages = [
    { role: 'user', content: 'the mill?' },
    { role: 'assistant', content: 'by the water' },
    { role: 'user', content: 'the train?' },
    { role: 'assistant', content: 'at nine' },
  ]
  const chatContext = async (template: string | null, options: Partial<TaskContext> = {}) => {
    const context = await contextFor('llama', options)
    Object.assign(context.tokenizer ?? {}, { chat_template: template })
    return context
  }

  test('are written by the template, and only the answers are learned', async () => {
    const context = await chatContext(TEMPLATE)
    const { ids, labels } = await batchOf(context, [{ messages }])
    expect(ids).toHaveLength(1)
    expect(ids[0]).toEqual(
      context.tokenizer?.apply_chat_template(messages, { return_tensor: false, return_dict: false }),
    )
    // The answers with their ends, in which the model learns to stop.
    expect(learned(context.tokenizer, labels[0])).toBe('by the water</s>at nine</s>')
  })

  test('are one sequence for each answer if the template writes earlier messages in another way', async () => {
    const context = await chatContext(SHORTENING)
    const { labels, ids } = await batchOf(context, [{ messages }])
    expect(labels.map((row) => learned(context.tokenizer, row))).toEqual(['by the water</s>', 'at nine</s>'])
    const prompt = context.tokenizer?.apply_chat_template(messages.slice(0, 3), {
      add_generation_prompt: true,
      return_tensor: false,
      return_dict: false,
    }) as number[]
    expect(ids[1].slice(0, prompt.length)).toEqual(prompt)
  })

  test('whose answers are cut off are rejected with the row', async () => {
    const context = await chatContext(TEMPLATE, { maxLength: 8 })
    const encoder = textGeneration.encoder(context, [])
    await expect(encoder.encode([{ text: 'a b' }, { messages }])).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      details: { row: 1 },
    })
  })

  test('a model without a template, or a template that rejects the messages', async () => {
    const without = textGeneration.encoder(await chatContext(null), [])
    await expect(without.encode([{ messages }])).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/no chat template; give rows of/),
    })
    const strict = await chatContext("{{ raise_exception('roles must alternate') }}")
    await expect(textGeneration.encoder(strict, []).encode([{ messages }])).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(/row 0 .*messages: .*roles must alternate/),
    })
  })
})

test.each([
  [{ text: '' }, 'text'],
  [{ prompt: 'a' }, 'completion'],
  [{ completion: 'a' }, 'prompt'],
  [{ messages: [] }, 'messages'],
  [{ messages: 'a' }, 'messages'],
  [{ messages: [{ role: 'assistant' }] }, 'messages[0]'],
  [{ messages: [{ role: 'user', content: 'a' }] }, 'messages'],
  [{ other: 'a' }, 'text'],
])('%j is rejected', (row, option) => {
  expect(() => textGeneration.check(row, 2)).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION', details: expect.objectContaining({ row: 2, option }) }),
  )
})

test('inputs that only decoders have: an empty cache of the declared type and shape', async () => {
  const context = await contextFor('gpt2', {
    inputs: [
      ...tokens('input_ids'),
      value('past_key_values.0.key', ['batch_size', 4, 'past_sequence_length', 8], 'float32'),
      value('past_key_values.0.value', ['batch_size', 4, 'past_sequence_length', 8], 'float16'),
      value('past_key_values.1.key', ['batch_size x num_heads', 8, 'past_sequence_length'], 'float32'),
      value('past_conv.0', ['batch_size', 3, 2], 'float32'),
      value('use_cache_branch', [1], 'bool'),
      value('num_logits_to_keep', []),
    ],
  })
  const rows = [{ text: 'the rain' }, { text: 'she reads' }]
  const { feeds } = await batchOf(context, rows)
  const { input_ids: _, ...rest } = feeds
  expect(Object.fromEntries(Object.entries(rest).map(([name, tensor]) => [name, numbersOf(tensor)]))).toEqual(
    {
      'past_key_values.0.key': { type: 'float32', dims: [2, 4, 0, 8], data: [] },
      'past_key_values.0.value': { type: 'float16', dims: [2, 4, 0, 8], data: [] },
      'past_key_values.1.key': { type: 'float32', dims: [8, 8, 0], data: [] },
      'past_conv.0': { type: 'float32', dims: [2, 3, 2], data: new Array(12).fill(0) },
      use_cache_branch: { type: 'bool', dims: [1], data: [0] },
      num_logits_to_keep: { type: 'int64', dims: [], data: [0] },
    },
  )
})

test.each(['gpt2', 'llama'])(
  '%s: a session runs the feeds, and its loss is that of the labels',
  async (name) => {
    const { InferenceSession } = ortOfTransformers()
    const path = fileURLToPath(new URL(`../../../test/__fixtures__/${name}/onnx/model.onnx`, import.meta.url))
    const session = await InferenceSession.create(path)
    const inputs = session.inputMetadata as unknown as TaskContext['inputs']
    const context = await contextFor(name, { inputs })
    const { feeds, labels } = await batchOf(context, [{ text: 'the rain was long' }, { text: 'she reads' }])
    const { logits } = await session.run(feeds)
    expect(logits.dims).toEqual([2, labels[0].length, 160])
    await session.release()
  },
)
