/**
 * Rotary position embeddings: x = (a, b) becomes (a cos − b sin, b cos + a sin), with an angle for each position and each pair of features.
 *
 * @see https://arxiv.org/abs/2104.09864
 */
import { DataType } from '../../model/schema.js'
import type { Unfolding } from './unfolding.js'

export interface Rotation {
  /** Four dims, the last of them the size of a head. */
  readonly x: string
  /** The tables at the positions: four dims, of which the first three broadcast to those of `x` and the last is half of the rotated features. */
  readonly cos: string
  readonly sin: string
  /** Whether the partners of a pair are neighbours; else they are half of the rotated features apart. */
  readonly isInterleaved: boolean
  /** The number of rotated features and of those after them, which stay as they are; undefined: all are rotated. */
  readonly partial?: readonly [rotated: number, rest: number] | undefined
}

/** @returns `x` after the rotation */
export function rotate(unfolding: Unfolding, { x, cos, sin, isInterleaved, partial }: Rotation): string {
  const { add, subtract, multiply } = unfolding
  const [rotated, rest] = partial ? unfolding.split(x, partial, 3) : [x]
  const axis = isInterleaved ? 4 : 3
  const pairs = unfolding.reshape(rotated, isInterleaved ? [0, 0, 0, -1, 2] : [0, 0, 0, 2, -1])
  const [a, b] = unfolding.split(pairs, [1, 1], axis) as [string, string]
  const [c, s] = [cos, sin].map((table) => unfolding.unsqueeze(table, [axis])) as [string, string]
  const turned = unfolding.concat(
    [subtract(multiply(a, c), multiply(b, s)), add(multiply(b, c), multiply(a, s))],
    axis,
  )
  const result = unfolding.reshape(turned, [0, 0, 0, -1])
  return rest === undefined ? result : unfolding.concat([result, rest], 3)
}

/** `RotaryEmbedding` of `com.microsoft`. ONNX Runtime's kernel for processors ignores its scale. */
export function unfoldMicrosoftRotaryEmbedding(unfolding: Unfolding): void {
  unfolding.checkForm({
    attributes: 'interleaved is_packed_batching num_heads rotary_embedding_dim scale',
    inputs: 'input position_ids cos_cache sin_cache',
  })
  const [x, positions, cos, sin] = inputsOf(unfolding)
  const tokenAxis = tokenAxisOf(unfolding, x)
  // A single position is that of the first token; else each token has its own.
  const isOffset = unfolding.rankOf(positions) < 2
  const rowsOf = (table: string) => {
    const offset = () => unfolding.reshape(unfolding.cast(positions, DataType.int64), [1])
    const count = () => unfolding.range(unfolding.runtimeSize(x, tokenAxis))
    const all = isOffset ? unfolding.add(count(), offset()) : positions
    return unfolding.op('Gather', [table, all], { axis: { int: 0 } })
  }
  const tokens = isOffset ? unfolding.sizeKey(x, tokenAxis) : ''
  const half = unfolding.sizeOf(cos, 1)
  unfoldRotation(unfolding, {
    tables: [cos, sin].map((table) =>
      unfolding.share(['rotary', tokenAxis, positions, table, tokens], () =>
        tableOf(unfolding, rowsOf(table), tokenAxis, !isOffset),
      ),
    ),
    // Without heads and without a rotated part, the tables show the size of a head.
    size: half === undefined ? undefined : 2 * half,
  })
}

/** ONNX's own `RotaryEmbedding`. Without positions, the tables have a row for each token. */
export function unfoldRotaryEmbedding(unfolding: Unfolding): void {
  unfolding.checkForm({
    attributes: 'interleaved num_heads rotary_embedding_dim',
    inputs: 'X cos_cache sin_cache position_ids',
  })
  const [x, cos, sin, positions] = inputsOf(unfolding)
  const tokenAxis = tokenAxisOf(unfolding, x)
  const rowsOf = (table: string) =>
    positions === '' ? table : unfolding.op('Gather', [table, positions], { axis: { int: 0 } })
  unfoldRotation(unfolding, {
    tables: [cos, sin].map((table) =>
      unfolding.share(['rotary', tokenAxis, positions, table], () =>
        tableOf(unfolding, rowsOf(table), tokenAxis, true),
      ),
    ),
    size: undefined,
  })
}

interface RotationTables {
  /** The cosines and the sines. */
  readonly tables: readonly string[]
  /** The size of a head, if the tables show it. */
  readonly size: number | undefined
}

function unfoldRotation(unfolding: Unfolding, { tables: [cos = '', sin = ''], size }: RotationTables): void {
  const x = unfolding.input(0)
  const heads = unfolding.integer('num_heads')
  const rotated = unfolding.integer('rotary_embedding_dim')
  const isInterleaved = unfolding.integer('interleaved') !== 0
  const width = unfolding.sizeOf(x, -1)
  if (unfolding.rankOf(x) === 4) {
    const partial = rotated === 0 ? undefined : partOf(unfolding, rotated, width)
    unfolding.result(0, rotate(unfolding, { x, cos, sin, isInterleaved, partial }))
    return
  }
  if (heads === 0 && (size === undefined || rotated > 0))
    throw unfolding.unsupported('does not show how many heads there are (num_heads)')
  const separate = unfolding.reshape(x, heads > 0 ? [0, 0, heads, -1] : [0, 0, -1, size ?? 0])
  const partial = rotated === 0 ? undefined : partOf(unfolding, rotated, width && width / heads)
  const result = rotate(unfolding, { x: separate, cos, sin, isInterleaved, partial })
  unfolding.result(0, unfolding.reshape(result, [0, 0, -1]))
}

function inputsOf(unfolding: Unfolding) {
  return [0, 1, 2, 3].map((i) => unfolding.input(i)) as [string, string, string, string]
}

/** x is `[batch, heads, tokens, size]` or `[batch, tokens, features]`. */
function tokenAxisOf(unfolding: Unfolding, x: string): number {
  return unfolding.rankOf(x) === 4 ? 2 : 1
}

/** Rows of a table, `[batch, tokens, half]` or `[tokens, half]`, with axes of 1 for the heads and for a batch that is missing. */
export function tableOf(unfolding: Unfolding, rows: string, tokenAxis: number, hasBatch: boolean): string {
  const headAxis = tokenAxis === 2 ? 1 : 2
  return unfolding.unsqueeze(rows, hasBatch ? [headAxis] : [0, headAxis])
}

/** The sizes of the rotated and of the other features; undefined if all are rotated. @throws {FourierFTError} `UNSUPPORTED` if one is unknown */
export function partOf(
  unfolding: Unfolding,
  rotated: number | undefined,
  size: number | undefined,
): readonly [number, number] | undefined {
  if (rotated === undefined || size === undefined)
    throw unfolding.unsupported('rotates a part of each head, of a size that the file does not show')
  return rotated === size ? undefined : [rotated, size - rotated]
}
