/** `Attention` and `MultiHeadAttention` of `com.microsoft`. @see ONNX Runtime's docs/ContribOperators.md */
import { DataType } from '../../model/schema.js'
import {
  joinHeads,
  maskWhere,
  scaledDotProduct,
  splitHeads,
  swapTokensAndHeads,
  withPast,
} from './scaled-dot-product.js'
import type { Unfolding } from './unfolding.js'

/** The products of q, k and v with x are in the node. */
export function unfoldAttention(unfolding: Unfolding): void {
  unfolding.checkForm({
    attributes:
      'do_rotary mask_filter_value num_heads past_present_share_buffer qkv_hidden_sizes rotary_embedding_dim scale unidirectional',
    inputs: 'input weights bias mask_index past attention_bias',
  })
  const [x, weights, bias, mask, past, attentionBias] = inputsOf(unfolding)
  if (unfolding.integer('do_rotary') !== 0) throw unfolding.unsupported('rotates q and k itself (do_rotary)')
  if (unfolding.integer('past_present_share_buffer') !== 0)
    throw unfolding.unsupported('keeps past and present in one buffer (past_present_share_buffer)')
  const heads = unfolding.headCount('num_heads')
  const product = unfolding.op('MatMul', [x, weights])
  const packed = bias === '' ? product : unfolding.add(product, bias)
  const sizes = hiddenSizes(unfolding, weights)
  const [query, key, value] = unfolding
    .split(packed, sizes, 2)
    .map((part) => swapTokensAndHeads(unfolding, splitHeads(unfolding, part, heads))) as [
    string,
    string,
    string,
  ]
  const isEmpty = past === '' || unfolding.sizeOf(past, 3) === 0
  const pasts = [0, 1].map((i) =>
    isEmpty ? '' : unfolding.op('Gather', [past, unfolding.integers([i], [])], { axis: { int: 0 } }),
  )
  const [allKeys, allValues] = [key, value].map((part, i) => withPast(unfolding, pasts[i], part))
  attend(unfolding, {
    query,
    key: allKeys,
    value: allValues,
    size: sizes[0] / heads,
    mask,
    attentionBias,
    past: pasts[0],
    hasStarts: true,
    tokens: [unfolding.sizeKey(x, 1), isEmpty ? unfolding.sizeKey(x, 1) : undefined],
  })
  if (unfolding.output(1) === '') return
  const stacked = [allKeys, allValues].map((part) => unfolding.unsqueeze(part, [0]))
  unfolding.result(1, unfolding.concat(stacked, 0))
}

/** The features of q, k and v, which are side by side in the product. */
function hiddenSizes(unfolding: Unfolding, weights: string): [number, number, number] {
  const sizes = Array.from(unfolding.node.attribute('qkv_hidden_sizes')?.ints ?? [], Number)
  if (sizes.length === 3) return sizes as [number, number, number]
  const width = unfolding.sizeOf(weights, 1)
  if (width === undefined) throw unfolding.unsupported('has weights of a width that the file does not show')
  return [width / 3, width / 3, width / 3]
}

/** Queries, keys and values are separate inputs; their bias is in the node. */
export function unfoldMultiHeadAttention(unfolding: Unfolding): void {
  unfolding.checkForm({
    attributes: 'mask_filter_value num_heads scale unidirectional',
    inputs: 'query key value bias key_padding_mask attention_bias past_key past_value',
  })
  const [query, key, value, bias, mask, attentionBias] = inputsOf(unfolding)
  const [pastKey, pastValue] = [6, 7].map((i) => unfolding.input(i))
  const heads = unfolding.headCount('num_heads')
  if (key === '' || value === '')
    throw unfolding.unsupported('has packed queries, keys and values (its input "key" or "value" is missing)')
  if (unfolding.output(3) !== '') throw unfolding.unsupported('gives its scores as an output (qk)')
  const isSeparate = unfolding.rankOf(key) === 4

  const [q, k, v] = biased(unfolding, [query, key, value], bias, isSeparate)
  const separate = (part: string) => swapTokensAndHeads(unfolding, splitHeads(unfolding, part, heads))
  // Keys and values with four dims come from another layer's cache.
  const [newKeys, newValues] = isSeparate ? [key, value] : [separate(k), separate(v)]
  const isEmpty = pastKey === '' || unfolding.sizeOf(pastKey, 2) === 0
  const keys = withPast(unfolding, pastKey, newKeys)
  const values = withPast(unfolding, pastValue, newValues)
  const width = unfolding.sizeOf(query, 2)
  attend(unfolding, {
    query: separate(q),
    key: keys,
    value: values,
    size: width === undefined ? undefined : width / heads,
    mask,
    attentionBias,
    past: isEmpty ? '' : pastKey,
    hasStarts: false,
    tokens: [unfolding.sizeKey(query, 1), isEmpty ? unfolding.sizeKey(key, isSeparate ? 2 : 1) : undefined],
  })
  unfolding.result(1, keys)
  unfolding.result(2, values)
}

/** q, k and v plus their parts of the bias. */
function biased(
  unfolding: Unfolding,
  parts: readonly [string, string, string],
  bias: string,
  isOnlyQuery: boolean,
): readonly [string, string, string] {
  if (bias === '') return parts
  const [query, key, value] = parts
  const [hidden, valueHidden] = [unfolding.sizeOf(query, 2), isOnlyQuery ? 0 : unfolding.sizeOf(value, 2)]
  const total = unfolding.sizeOf(bias, 0)
  const features =
    hidden ?? (total === undefined || valueHidden === undefined ? undefined : (total - valueHidden) / 2)
  if (features === undefined)
    throw unfolding.unsupported('has a bias, and sizes of q and v that the file does not show')
  const end = unfolding.integers([2 ** 31 - 1])
  const [first, second] = [unfolding.integers([features]), unfolding.integers([2 * features])]
  const q = unfolding.add(query, unfolding.slice(bias, unfolding.integers([0]), first, 0))
  if (isOnlyQuery) return [q, key, value]
  return [
    q,
    unfolding.add(key, unfolding.slice(bias, first, second, 0)),
    unfolding.add(value, unfolding.slice(bias, second, end, 0)),
  ]
}

interface MaskedAttention {
  /** `[batch, heads, queries, size]` */
  readonly query: string
  /** `[batch, heads, keys, size]` */
  readonly key: string
  readonly value: string
  readonly size: number | undefined
  /** `mask_index` or `key_padding_mask`; `''` if there is none. */
  readonly mask: string
  readonly attentionBias: string
  /** The keys of the cache; `''` if it is empty. */
  readonly past: string
  /** Whether a mask with two numbers for each row has ends and then starts. */
  readonly hasStarts: boolean
  /** Texts that identify the numbers of queries and keys. */
  readonly tokens: readonly (string | undefined)[]
}

function attend(unfolding: Unfolding, call: MaskedAttention): void {
  const { query, key, value, size, attentionBias } = call
  const scale = unfolding.float('scale')
  const mask = maskOf(unfolding, call)
  const bias = attentionBias === '' ? undefined : unfolding.float32(attentionBias)
  const result = scaledDotProduct(unfolding, {
    query,
    key,
    value,
    size,
    scale: scale === 0 ? undefined : scale,
    mask: mask !== undefined && bias !== undefined ? unfolding.add(bias, mask) : (mask ?? bias),
  })
  unfolding.result(0, joinHeads(unfolding, result), true)
}

/** The addend of the padding mask and of `unidirectional`. */
function maskOf(unfolding: Unfolding, { query, key, mask, past, hasStarts, tokens }: MaskedAttention) {
  const filter = unfolding.float('mask_filter_value', -10000)
  const isCausal = unfolding.integer('unidirectional') !== 0
  // A mask of one column is the same for all keys.
  const hasMask = mask !== '' && !(unfolding.rankOf(mask) === 2 && unfolding.sizeOf(mask, 1) === 1)
  if (!hasMask && !isCausal) return undefined
  const identity = [...(hasMask ? [mask, String(hasStarts), filter] : ['']), tokens[1]]
  const padding = () => paddingMask(unfolding, { key, mask, filter, hasStarts })
  if (!isCausal) return unfolding.share(['padding', ...identity], padding)
  return unfolding.share(['unidirectional', ...identity, ...tokens, past === '' ? '' : undefined], () =>
    maskWhere(unfolding, isAfterQuery(unfolding, query, key, past), hasMask ? padding() : undefined),
  )
}

/**
 * Whether a key is after the query. As in ONNX Runtime, the last query sees all keys, also if there are more keys than queries.
 */
function isAfterQuery(unfolding: Unfolding, query: string, key: string, past: string): string {
  const { op } = unfolding
  const queryCount = unfolding.runtimeSize(query, 2)
  const keys = unfolding.range(unfolding.runtimeSize(key, 2))
  const rows = unfolding.unsqueeze(unfolding.range(queryCount), [1])
  const positions = past === '' ? rows : unfolding.add(rows, unfolding.runtimeSize(past, 2))
  const isNotLast = op('Less', [rows, unfolding.subtract(queryCount, unfolding.integers([1], []))])
  return op('And', [op('Greater', [keys, positions]), isNotLast])
}

interface PaddingMask {
  readonly key: string
  readonly mask: string
  readonly filter: number
  readonly hasStarts: boolean
}

/** The filter value at keys that a mask of any form leaves out, 0 at the others: `[batch, 1, 1 or queries, keys]`. */
function paddingMask(unfolding: Unfolding, { key, mask, filter, hasStarts }: PaddingMask): string {
  const { op } = unfolding
  const rank = unfolding.rankOf(mask)
  const whole = unfolding.cast(mask, DataType.int64)
  if (rank > 3) throw unfolding.unsupported(`has a mask of ${rank} dimensions`)
  let isKept: string
  if (rank > 1) {
    const isOne = op('Greater', [whole, unfolding.integers([0], [])])
    isKept = unfolding.unsqueeze(isOne, rank === 2 ? [1, 2] : [1])
  } else {
    // For each row the number of keys, and perhaps the index of the first one.
    const batch = unfolding.reshape(unfolding.runtimeSize(key, 0), [1])
    const keys = unfolding.range(unfolding.runtimeSize(key, 2))
    const column = (vector: string) => unfolding.reshape(vector, [-1, 1, 1, 1])
    const ends = unfolding.slice(whole, unfolding.integers([0]), batch, 0)
    isKept = op('Less', [keys, column(ends)])
    if (hasStarts) {
      const zeros = op('Expand', [unfolding.integers([0]), batch])
      const padded = unfolding.concat([whole, zeros], 0)
      const starts = unfolding.slice(padded, batch, unfolding.add(batch, batch), 0)
      isKept = op('And', [isKept, op('GreaterOrEqual', [keys, column(starts)])])
    }
  }
  return op('Where', [isKept, unfolding.number(0), unfolding.number(filter)])
}

function inputsOf(unfolding: Unfolding) {
  return [0, 1, 2, 3, 4, 5].map((i) => unfolding.input(i)) as [string, string, string, string, string, string]
}
