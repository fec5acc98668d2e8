/** Feeds: the tensors that transformers.js gives a session for a batch of token ids, in the types that the session declares. */
import { FourierFTError } from '@fourierft/core'
import type { TrainingBatch } from '@fourierft/onnxruntime'
import type { PreTrainedModel } from '@huggingface/transformers'
import { Tensor } from 'onnxruntime-common'
import type { Example, TaskContext, ValueMetadata } from './task.js'

/** A sequence of token ids. */
export interface TokenExample extends Example {
  readonly ids: Int32Array
  /** The segment of each token, for tokenizers that have segments. */
  readonly types?: Int32Array
}

/** Rows of one length, one after the other: `[rows, columns]`. */
export interface Grid {
  readonly rows: number
  readonly columns: number
  readonly values: Int32Array
}

/** Pads sequences to the longest. */
export function padded(
  sequences: readonly ArrayLike<number>[],
  value: number,
  side: 'left' | 'right' = 'right',
): Grid {
  const columns = sequences.reduce((most, { length }) => Math.max(most, length), 0)
  const values = new Int32Array(sequences.length * columns).fill(value)
  for (const [row, sequence] of sequences.entries())
    values.set(sequence, row * columns + (side === 'right' ? 0 : columns - sequence.length))
  return { rows: sequences.length, columns, values }
}

export interface TokenFeeds {
  readonly ids: Grid
  /** 1 for tokens, 0 for padding. */
  readonly mask: Grid
  readonly types?: Grid
}

/** The token ids, the mask and the segments of examples. */
export function padTokens(
  examples: readonly TokenExample[],
  padId: number,
  side: 'left' | 'right' = 'right',
): TokenFeeds {
  const segments = examples.flatMap(({ types }) => (types ? [types] : []))
  return {
    ids: padded(
      examples.map(({ ids }) => ids),
      padId,
      side,
    ),
    mask: padded(
      examples.map(({ ids }) => new Int32Array(ids.length).fill(1)),
      0,
      side,
    ),
    ...(segments.length === examples.length && { types: padded(segments, 0, side) }),
  }
}

/** Models whose positions begin with 1, as in transformers.js. */
const POSITIONS_FROM_ONE = new Set(['paligemma', 'gemma3_text', 'gemma3'])

/**
 * The feeds of all inputs of a session. Besides the given grids, it makes what transformers.js makes: segments of zeros, positions, an empty
 * cache of keys and values, and the inputs that choose what the decoder computes.
 *
 * @param grids the values of inputs by their names, `[rows, columns]` each
 * @throws {FourierFTError} `UNSUPPORTED` for an input that no row of this task has
 */
export function feedsOf(
  { inputs, model }: Pick<TaskContext, 'inputs' | 'model'>,
  grids: Readonly<Record<string, Grid | undefined>>,
): TrainingBatch['feeds'] {
  const rows = Object.values(grids).find((grid) => grid !== undefined)?.rows ?? 0
  return Object.fromEntries(inputs.map((input) => [input.name, feedOf(input, { grids, rows, model })]))
}

function feedOf(
  input: ValueMetadata,
  {
    grids,
    rows,
    model,
  }: { grids: Readonly<Record<string, Grid | undefined>>; rows: number; model: PreTrainedModel },
): Tensor {
  const { name } = input
  const grid = grids[name]
  if (grid) return gridTensor(input, grid)
  const { input_ids: ids, attention_mask: mask } = grids
  if (name === 'token_type_ids' && ids)
    return gridTensor(input, { ...ids, values: new Int32Array(ids.values.length) })
  if (name === 'position_ids' && mask)
    return gridTensor(input, positionsOf(mask, POSITIONS_FROM_ONE.has(model.config.model_type ?? '') ? 1 : 0))
  if (name.startsWith('past_')) return emptyCache(input, rows, model)
  if (name === 'use_cache_branch') return new Tensor('bool', [false], [1])
  // 0 keeps the logits of all positions.
  if (name === 'num_logits_to_keep') return integers(input, [0], [])
  throw new FourierFTError('UNSUPPORTED', `the model has the input ${name}, which this task cannot give it`, {
    received: name,
  })
}

/** The number of tokens before each token; 1 for padding, as in transformers.js. */
function positionsOf({ rows, columns, values }: Grid, first: number): Grid {
  const positions = new Int32Array(values.length)
  for (let row = 0; row < rows; row++) {
    let position = first
    for (let i = row * columns; i < (row + 1) * columns; i++) positions[i] = values[i] === 0 ? 1 : position++
  }
  return { rows, columns, values: positions }
}

/** Keys and values of no tokens. States of a fixed size are zeros. */
function emptyCache(input: ValueMetadata, rows: number, model: PreTrainedModel): Tensor {
  const { normalized_config: normalized } = model.config as {
    normalized_config?: { num_heads?: unknown }
  }
  const heads = Number(normalized?.num_heads)
  const dims = input.shape.map((size) => {
    if (typeof size === 'number') return size
    if (size === 'batch_size') return rows
    return size === 'batch_size x num_heads' && Number.isFinite(heads) ? rows * heads : 0
  })
  const length = dims.reduce((product, size) => product * size, 1)
  if (input.type === 'float32') return new Tensor('float32', new Float32Array(length), dims)
  if (input.type === 'float16') return new Tensor('float16', new Uint16Array(length), dims)
  return integers(input, new Int32Array(length), dims)
}

function gridTensor(input: ValueMetadata, { rows, columns, values }: Grid): Tensor {
  return integers(input, values, [rows, columns])
}

/** @throws {FourierFTError} `UNSUPPORTED` for another type than integers */
function integers({ name, type }: ValueMetadata, values: ArrayLike<number>, dims: readonly number[]): Tensor {
  if (type === 'int64') return int64(values, dims)
  if (type === 'int32') return new Tensor('int32', Int32Array.from(values), dims)
  if (type === 'bool') return new Tensor('bool', Uint8Array.from(values), dims)
  if (type === 'float32') return new Tensor('float32', Float32Array.from(values), dims)
  throw new FourierFTError('UNSUPPORTED', `the model's input ${name} has the type ${type}`, {
    expected: ['int64', 'int32', 'bool', 'float32'],
    received: type,
  })
}

/** An int64 tensor. */
export function int64(values: ArrayLike<number>, dims: readonly number[]): Tensor {
  const data = new BigInt64Array(values.length)
  for (let i = 0; i < values.length; i++) data[i] = BigInt(values[i])
  return new Tensor('int64', data, dims)
}

/** A float32 tensor. */
export function float32(values: ArrayLike<number>, dims: readonly number[]): Tensor {
  return new Tensor('float32', Float32Array.from(values), dims)
}
