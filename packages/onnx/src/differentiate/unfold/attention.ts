/** ONNX's own `Attention`. @see https://onnx.ai/onnx/operators/onnx__Attention.html */
import { DataType } from '../../model/schema.js'
import {
  joinHeads,
  maskWhere,
  scaledDotProduct,
  splitHeads,
  swapTokensAndHeads,
  withPast,
} from './scaled-dot-product.js'
import { LOWEST, type Unfolding } from './unfolding.js'

/** Q, K and V have three or four dims. */
export function unfoldOnnxAttention(unfolding: Unfolding): void {
  unfolding.checkForm({
    attributes: 'is_causal kv_num_heads q_num_heads qk_matmul_output_mode scale softcap softmax_precision',
    inputs: 'Q K V attn_mask past_key past_value nonpad_kv_seqlen',
  })
  const [query, key, value, , pastKey, pastValue] = [0, 1, 2, 3, 4, 5].map((i) => unfolding.input(i))
  if (unfolding.output(3) !== '')
    throw unfolding.unsupported('gives its scores as an output (qk_matmul_output)')
  const hasHeads = unfolding.rankOf(query) === 4
  const groups = headsOf(unfolding, query, key, hasHeads)
  const separate = (part: string, heads: number) =>
    hasHeads ? part : swapTokensAndHeads(unfolding, splitHeads(unfolding, part, heads))
  const queries = separate(query, groups?.heads ?? 1)
  const keys = withPast(unfolding, pastKey, separate(key, groups?.kvHeads ?? 1))
  const values = withPast(unfolding, pastValue, separate(value, groups?.kvHeads ?? 1))
  const width = unfolding.sizeOf(query, -1)
  const isMasked = unfolding.input(3) !== '' || unfolding.input(6) !== ''
  const addend = maskOf(unfolding, { queries, keys, hasHeads })
  const result = scaledDotProduct(unfolding, {
    query: queries,
    key: keys,
    value: values,
    groups: groups?.heads === groups?.kvHeads ? undefined : groups,
    size: width === undefined || hasHeads ? width : width / (groups?.heads ?? 1),
    scale: unfolding.node.attribute('scale')?.float,
    softcap: unfolding.float('softcap'),
    mask: addend,
  })
  // A query that sees no key gets 0, not the mean of all values.
  const seen =
    isMasked && addend !== undefined ? unfolding.multiply(result, seesKeys(unfolding, addend)) : result
  unfolding.result(0, hasHeads ? seen : joinHeads(unfolding, seen), true)
  unfolding.result(1, keys)
  unfolding.result(2, values)
}

/** The numbers of heads; undefined if they are only known to be equal. */
function headsOf(unfolding: Unfolding, query: string, key: string, hasHeads: boolean) {
  const named = [unfolding.integer('q_num_heads'), unfolding.integer('kv_num_heads')] as const
  const [heads, kvHeads] = hasHeads
    ? [unfolding.sizeOf(query, 1) ?? named[0], unfolding.sizeOf(key, 1) ?? named[1]]
    : named
  if (heads > 0 && kvHeads > 0) return { heads, kvHeads }
  if (hasHeads && unfolding.hasEqualSizes(query, key, 1)) return undefined
  throw unfolding.unsupported('does not show how many heads there are (q_num_heads, kv_num_heads)')
}

interface MaskedHeads {
  readonly queries: string
  readonly keys: string
  readonly hasHeads: boolean
}

/** The addend of `attn_mask`, `is_causal` and `nonpad_kv_seqlen`. */
function maskOf(unfolding: Unfolding, { queries, keys, hasHeads }: MaskedHeads): string | undefined {
  const { op } = unfolding
  const [mask, pastKey, lengths] = [3, 4, 6].map((i) => unfolding.input(i)) as [string, string, string]
  const isCausal = unfolding.integer('is_causal') !== 0
  if (mask === '' && lengths === '' && !isCausal) return undefined
  const hasPast = pastKey !== '' && unfolding.sizeOf(pastKey, 2) !== 0
  const sizes = [0, 1].map((i) => unfolding.sizeKey(unfolding.input(i), hasHeads ? 2 : 1))
  const identity = [mask, lengths, Number(isCausal), ...sizes, hasPast ? undefined : '']
  return unfolding.share(['attention', ...identity], () => {
    const all = () => unfolding.range(unfolding.runtimeSize(keys, 2))
    let addend = mask === '' ? undefined : additive(unfolding, mask)
    const ends = lengths === '' ? undefined : unfolding.reshape(lengths, [-1, 1, 1, 1])
    if (isCausal) {
      const queryCount = unfolding.runtimeSize(queries, 2)
      const rows = unfolding.unsqueeze(unfolding.range(queryCount), [1])
      // The queries are the last tokens before the end of their row, or follow the cache.
      const start = ends === undefined ? undefined : unfolding.subtract(ends, queryCount)
      const before = start ?? (hasPast ? unfolding.runtimeSize(pastKey, 2) : undefined)
      const positions = before === undefined ? rows : unfolding.add(rows, before)
      addend = maskWhere(unfolding, op('Greater', [all(), positions]), addend)
    }
    if (ends !== undefined) addend = maskWhere(unfolding, op('GreaterOrEqual', [all(), ends]), addend)
    return addend ?? unfolding.number(0)
  })
}

/** A mask of Booleans keeps scores, a mask of numbers is added to them; −∞ counts as the lowest number. */
function additive(unfolding: Unfolding, mask: string): string {
  if (unfolding.isBoolean(mask))
    return unfolding.op('Where', [mask, unfolding.number(0), unfolding.number(LOWEST)])
  return unfolding.op('Max', [unfolding.float32(mask), unfolding.number(LOWEST)])
}

/** 1 for a query that sees a key, 0 for the others: an addend for the scores with one number in its last axis. */
function seesKeys(unfolding: Unfolding, addend: string): string {
  return unfolding.share(['sees keys', addend], () => {
    const highest = unfolding.op('ReduceMax', [addend, unfolding.integers([-1])], { keepdims: { int: 1 } })
    return unfolding.cast(unfolding.op('Greater', [highest, unfolding.number(LOWEST)]), DataType.float)
  })
}
