/** `GroupQueryAttention` of `com.microsoft`. @see ONNX Runtime's docs/ContribOperators.md */
import { DataType } from '../../model/schema.js'
import { partOf, rotate, tableOf } from './rotary-embedding.js'
import {
  joinHeads,
  scaledDotProduct,
  splitHeads,
  swapTokensAndHeads,
  withPast,
} from './scaled-dot-product.js'
import { LOWEST, type Unfolding } from './unfolding.js'

const ATTRIBUTES =
  'do_rotary k_quant_type kv_cache_bit_width kv_num_heads local_window_size num_heads qk_output rotary_interleaved scale smooth_softmax softcap v_quant_type'

const INPUTS =
  'query key value past_key past_value seqlens_k total_sequence_length cos_cache sin_cache position_ids attention_bias head_sink'

/** The indices of the inputs that are read. */
const Input = {
  query: 0,
  key: 1,
  value: 2,
  pastKey: 3,
  pastValue: 4,
  seqlensK: 5,
  cosCache: 7,
  sinCache: 8,
  positionIds: 9,
  attentionBias: 10,
  headSink: 11,
} as const

export function unfoldGroupQueryAttention(unfolding: Unfolding): void {
  rejectUnsupported(unfolding)
  const [query, key, value] = [Input.query, Input.key, Input.value].map((i) => unfolding.input(i)) as [
    string,
    string,
    string,
  ]
  const [pastKey, pastValue] = [unfolding.input(Input.pastKey), unfolding.input(Input.pastValue)]
  const [heads, kvHeads] = [unfolding.headCount('num_heads'), unfolding.headCount('kv_num_heads')]
  const isPacked = key === ''
  const width = unfolding.sizeOf(query, 2)
  const size = width === undefined ? undefined : width / (isPacked ? heads + 2 * kvHeads : heads)
  const tokens = unfolding.sizeKey(query, 1)

  const separate = isPacked
    ? unfolding.split(splitHeads(unfolding, query, heads + 2 * kvHeads), [heads, kvHeads, kvHeads], 2)
    : [query, key, value].map((part, i) => splitHeads(unfolding, part, i === 0 ? heads : kvHeads))
  const [q, k, v] = separate as [string, string, string]
  const [rotatedQuery, rotatedKey] =
    unfolding.integer('do_rotary') === 0 ? [q, k] : rotated(unfolding, [q, k], size, tokens)
  const keys = withPast(unfolding, pastKey, swapTokensAndHeads(unfolding, rotatedKey))
  const values = withPast(unfolding, pastValue, swapTokensAndHeads(unfolding, v))
  const queries = swapTokensAndHeads(unfolding, rotatedQuery)
  const scale = unfolding.float('scale')
  const result = scaledDotProduct(unfolding, {
    query: queries,
    key: keys,
    value: values,
    groups: heads === kvHeads ? undefined : { heads, kvHeads },
    size,
    scale: scale === 0 ? undefined : scale,
    softcap: unfolding.float('softcap'),
    mask: maskOf(unfolding, queries, keys, tokens),
    sink: sinkOf(unfolding),
  })
  unfolding.result(0, joinHeads(unfolding, result), true)
  unfolding.result(1, keys)
  unfolding.result(2, values)
}

function rejectUnsupported(unfolding: Unfolding): void {
  unfolding.checkForm({ attributes: ATTRIBUTES, inputs: INPUTS })
  for (const name of ['k_quant_type', 'v_quant_type']) {
    const type = unfolding.node.attribute(name)?.string ?? 'NONE'
    if (type !== 'NONE') throw unfolding.unsupported(`has a quantised cache (${name} is ${type})`)
  }
  if (unfolding.input(Input.seqlensK) === '') throw unfolding.unsupported('has no seqlens_k')
  if (unfolding.output(3) !== '') throw unfolding.unsupported('gives its scores as an output (output_qk)')
}

/** q and k, `[batch, tokens, heads, size]`, after the rotation. */
function rotated(
  unfolding: Unfolding,
  parts: readonly [string, string],
  size: number | undefined,
  tokens: string | undefined,
): readonly [string, string] {
  const [cosCache, sinCache] = [unfolding.input(Input.cosCache), unfolding.input(Input.sinCache)]
  const identity = [unfolding.input(Input.positionIds), tokens, pastIdentity(unfolding)]
  const tables = [cosCache, sinCache].map((table) =>
    unfolding.share(['rotary', table, ...identity], () => {
      const rows = unfolding.op('Gather', [table, positionsOf(unfolding, parts[0])], { axis: { int: 0 } })
      return tableOf(unfolding, rows, 1, true)
    }),
  )
  const [cos, sin] = tables as [string, string]
  const half = unfolding.sizeOf(cosCache, 1)
  const partial = partOf(unfolding, half && 2 * half, size)
  const isInterleaved = unfolding.integer('rotary_interleaved') !== 0
  return parts.map((x) => rotate(unfolding, { x, cos, sin, isInterleaved, partial })) as [string, string]
}

/**
 * `[batch or 1, tokens]`. Without position_ids, positions count from the end of the cache. If there is no cache, ONNX Runtime's kernel for
 * processors reads the first number of position_ids only, and counts from there.
 */
function positionsOf(unfolding: Unfolding, query: string): string {
  const [pastKey, positions] = [unfolding.input(Input.pastKey), unfolding.input(Input.positionIds)]
  const hasPast = pastIdentity(unfolding) !== ''
  if (positions !== '' && hasPast) return positions
  const indices = unfolding.unsqueeze(unfolding.range(unfolding.runtimeSize(query, 1)), [0])
  if (positions === '') return hasPast ? unfolding.add(indices, unfolding.runtimeSize(pastKey, 2)) : indices
  const numbers = unfolding.reshape(unfolding.cast(positions, DataType.int64), [-1])
  const first = unfolding.op('Gather', [numbers, unfolding.integers([0], [])], { axis: { int: 0 } })
  return unfolding.add(indices, first)
}

/** `''` if the cache is missing or empty; undefined, which nothing equals, for others. */
function pastIdentity(unfolding: Unfolding): string | undefined {
  const past = unfolding.input(Input.pastKey)
  return past === '' || unfolding.sizeOf(past, 2) === 0 ? '' : unfolding.sizeKey(past, 2)
}

/**
 * The addend of the causal mask, of the local window and of attention_bias. A query sees the keys before an end: the one after its own
 * position, or `seqlens_k` + 1 if that is less, in the padding after a row. What a token of the padding gets in a local window is undefined:
 * it depends on the kernel.
 */
function maskOf(unfolding: Unfolding, queries: string, keys: string, tokens: string | undefined): string {
  const { op } = unfolding
  const window = unfolding.integer('local_window_size', -1)
  const [seqlens, bias] = [unfolding.input(Input.seqlensK), unfolding.input(Input.attentionBias)]
  const identity = [seqlens, bias, window, tokens, pastIdentity(unfolding)]
  return unfolding.share(['grouped', ...identity], () => {
    const one = unfolding.integers([1], [])
    const next = unfolding.add(unfolding.range(unfolding.runtimeSize(queries, 2)), one)
    const rows = unfolding.unsqueeze(next, [1])
    const afterOwn =
      pastIdentity(unfolding) === ''
        ? rows
        : unfolding.add(rows, unfolding.runtimeSize(unfolding.input(Input.pastKey), 2))
    const lengths = unfolding.reshape(unfolding.cast(seqlens, DataType.int64), [-1, 1, 1, 1])
    const ends = op('Min', [afterOwn, unfolding.add(lengths, one)])
    const all = unfolding.range(unfolding.runtimeSize(keys, 2))
    const isBefore = op('Less', [all, ends])
    const starts = window > 0 ? unfolding.subtract(ends, unfolding.integers([window], [])) : undefined
    const isSeen =
      starts === undefined ? isBefore : op('And', [isBefore, op('GreaterOrEqual', [all, starts])])
    const addend = bias === '' ? unfolding.number(0) : unfolding.float32(bias)
    return op('Where', [isSeen, addend, unfolding.number(LOWEST)])
  })
}

/** The score without a value: head_sink, or 0 for smooth_softmax. */
function sinkOf(unfolding: Unfolding): string | undefined {
  const sink = unfolding.input(Input.headSink)
  if (sink !== '') return unfolding.reshape(unfolding.float32(sink), [1, -1, 1, 1])
  return unfolding.integer('smooth_softmax') === 1 ? unfolding.number(0) : undefined
}
