/** Which feeds can be joined, and that joining and dividing gives back what each run had. */
import { type InferenceSession, Tensor } from 'onnxruntime-common'
import { describe, expect, test } from 'vitest'
import { type MakeTensor, planJoin, RunJoiner } from './join-runs.js'

const input = (
  name: string,
  shape: (string | number)[],
  type: Tensor.Type = 'int64',
): InferenceSession.ValueMetadata => ({ name, isTensor: true, type, shape })

const BERT = [
  input('input_ids', ['batch_size', 'sequence_length']),
  input('attention_mask', ['batch_size', 'sequence_length']),
]
const DECODER = [
  input('input_ids', ['batch_size', 'sequence_length']),
  input('attention_mask', ['batch_size', 'past_sequence_length + sequence_length']),
  input('past_key_values.0.key', ['batch_size', 2, 'past_sequence_length', 3], 'float32'),
]

const makeTensor: MakeTensor = (type, data, dims) => new Tensor(type as 'float32', data as never, dims)
const ids = (...rows: number[][]) =>
  new Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length])
const ones = (rows: number, length: number) =>
  ids(...Array.from({ length: rows }, () => new Array(length).fill(1)))
const numbers = (tensor: unknown) => Array.from((tensor as Tensor).data as ArrayLike<number | bigint>, Number)

describe('planJoin', () => {
  test('encoders are padded on the right, with the token of the padding', () => {
    const plan = planJoin(BERT, 7)
    expect(plan?.paddings).toEqual([
      {
        side: 'right',
        axes: new Map([
          ['input_ids', 1],
          ['attention_mask', 1],
        ]),
        lengthInput: 'attention_mask',
        values: { input_ids: 7n },
        maxShare: 0.1,
      },
    ])
  })

  test('decoders are padded in the cache and the mask', () => {
    expect(planJoin(DECODER, 0)?.paddings.map(({ side, axes }) => [side, [...axes.keys()]])).toEqual([
      ['left', ['attention_mask', 'past_key_values.0.key']],
      ['right', ['attention_mask', 'past_key_values.0.key']],
    ])
  })

  test('without a mask, and in decoders that read an encoder, lengths are not padded', () => {
    expect(planJoin([BERT[0]], 0)?.paddings).toEqual([])
    expect(
      planJoin([...DECODER, input('encoder_hidden_states', ['batch_size', 'n', 8], 'float32')], 0)?.paddings,
    ).toEqual([])
  })

  test.each([
    ['a fixed batch', [input('pixel_values', [1, 3, 8, 8], 'float32')]],
    ['an axis of another name', [...BERT, input('past', ['batch_size x num_heads', 4], 'float32')]],
  ])('%s cannot be joined', (_, inputs) => {
    expect(planJoin(inputs, 0)).toBeUndefined()
  })
})

describe('RunJoiner', () => {
  const [padding] = planJoin(BERT, 9)?.paddings ?? []
  const encoder = new RunJoiner(
    { batched: new Set(['input_ids', 'attention_mask']), padding, outputAxes: new Map([['hidden', [1]]]) },
    makeTensor,
  )
  const runs = [
    { input_ids: ids([1, 2], [3, 4]), attention_mask: ones(2, 2) },
    { input_ids: ids([5, 6, 7]), attention_mask: ones(1, 3) },
  ]

  test('pads on the right', () => {
    const joined = encoder.join(runs)
    expect((joined.input_ids as Tensor).dims).toEqual([3, 3])
    expect(numbers(joined.input_ids)).toEqual([1, 2, 9, 3, 4, 9, 5, 6, 7])
    expect(numbers(joined.attention_mask)).toEqual([1, 1, 0, 1, 1, 0, 1, 1, 1])
  })

  test('gives each run its rows, at its length, in memory of its own', () => {
    const hidden = new Tensor(
      'float32',
      Float32Array.from({ length: 18 }, (_, i) => i),
      [3, 3, 2],
    )
    const logits = new Tensor('float32', Float32Array.of(0, 1, 2, 3, 4, 5), [3, 2])
    const [first, second] = encoder.divide({ hidden, logits }, runs)
    expect((first.hidden as Tensor).dims).toEqual([2, 2, 2])
    expect(numbers(first.hidden)).toEqual([0, 1, 2, 3, 6, 7, 8, 9])
    expect(numbers(first.logits)).toEqual([0, 1, 2, 3])
    expect((second.hidden as Tensor).dims).toEqual([1, 3, 2])
    expect(numbers(second.hidden)).toEqual([12, 13, 14, 15, 16, 17])
    expect(((second.logits as Tensor).data as Float32Array).buffer.byteLength).toBe(8)
  })

  test('rejects outputs without the batch', () => {
    const loss = new Tensor('float32', Float32Array.of(1), [1])
    expect(() => encoder.divide({ loss }, runs)).toThrow('output loss: expected 3 rows')
  })

  test.each(['left', 'right'] as const)('pads a cache on the %s', (side) => {
    const chosen = planJoin(DECODER, 0)?.paddings.find((candidate) => candidate.side === side)
    const joiner = new RunJoiner(
      {
        batched: new Set(DECODER.map(({ name }) => name)),
        padding: chosen,
        outputAxes: new Map([['present', [2]]]),
      },
      makeTensor,
    )
    const run = (past: number) => ({
      input_ids: ids([4]),
      attention_mask: ones(1, past + 1),
      'past_key_values.0.key': new Tensor('float32', new Float32Array(6 * past).fill(past), [1, 2, past, 3]),
    })
    const [short, long] = [run(1), run(3)]
    expect(joiner.keyOf(short)).toBe(joiner.keyOf(long))
    const joined = joiner.join([short, long])
    expect(numbers(joined.attention_mask)).toEqual(
      side === 'left' ? [0, 0, 1, 1, 1, 1, 1, 1] : [1, 1, 0, 0, 1, 1, 1, 1],
    )
    const head = side === 'left' ? [0, 0, 0, 0, 0, 0, 1, 1, 1] : [1, 1, 1, 0, 0, 0, 0, 0, 0]
    expect(numbers(joined['past_key_values.0.key']).slice(0, 9)).toEqual(head)
    const present = new Tensor(
      'float32',
      Float32Array.from({ length: 16 }, (_, i) => i),
      [2, 2, 4, 1],
    )
    const [first] = joiner.divide({ present }, [short, long])
    expect((first.present as Tensor).dims).toEqual([1, 2, 2, 1])
    expect(numbers(first.present)).toEqual(side === 'left' ? [2, 3, 6, 7] : [0, 1, 4, 5])
  })

  test('joins no runs whose other inputs have other values', () => {
    const branch = (value: number) => ({
      ...runs[1],
      use_cache_branch: new Tensor('bool', Uint8Array.of(value), [1]),
    })
    expect(encoder.keyOf(branch(0))).not.toBe(encoder.keyOf(branch(1)))
    expect(encoder.keyOf(branch(1))).toBe(encoder.keyOf(branch(1)))
  })
})
