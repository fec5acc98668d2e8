/** softmax(scale · q kᵀ + mask) v for several heads: what all operators for attention compute. */
import { DataType } from '../../model/schema.js'
import { LOWEST, type Unfolding } from './unfolding.js'

export interface ScaledDotProduct {
  /** `[batch, heads, queries, size]`, in the type of the node. */
  readonly query: string
  /** `[batch, kvHeads, keys, size]` */
  readonly key: string
  /** `[batch, kvHeads, keys, valueSize]` */
  readonly value: string
  /** If fewer heads have keys and values than queries: a group of `heads / kvHeads` query heads shares one. */
  readonly groups?: { readonly heads: number; readonly kvHeads: number } | undefined
  /** Default: 1/√size. */
  readonly scale?: number | undefined
  /** The size of a head, if it is known. */
  readonly size?: number | undefined
  /** The scores s become softcap · tanh(s / softcap); 0 leaves them as they are. */
  readonly softcap?: number
  /** Added to the scores, float32; broadcast to `[batch, heads, queries, keys]`. */
  readonly mask?: string | undefined
  /** One more score for each head that has no value, broadcast to `[batch, heads, queries, 1]`, float32. */
  readonly sink?: string | undefined
}

/** @returns `[batch, heads, queries, valueSize]`, float32 */
export function scaledDotProduct(unfolding: Unfolding, call: ScaledDotProduct): string {
  const { groups, softcap = 0, mask, sink } = call
  const { op, add, multiply } = unfolding
  const scaled = multiply(unfolding.float32(call.query), scaleOf(unfolding, call))
  const transposedKey = unfolding.transpose(unfolding.float32(call.key), [0, 1, 3, 2])
  // The queries of a group are the rows of one product, so that no key is repeated.
  const joined = (value: string) => (groups ? unfolding.reshape(value, [0, groups.kvHeads, -1, 0]) : value)
  const separated = (value: string) => (groups ? unfolding.reshape(value, [0, groups.heads, -1, 0]) : value)

  let scores = separated(op('MatMul', [joined(scaled), transposedKey]))
  if (softcap > 0) {
    const bounded = op('Tanh', [multiply(scores, unfolding.number(1 / softcap))])
    scores = multiply(bounded, unfolding.number(softcap))
  }
  if (mask !== undefined) scores = add(scores, mask)
  const weights = sink === undefined ? softmax(unfolding, scores) : softmaxWithSink(unfolding, scores, sink)
  return separated(op('MatMul', [joined(weights), unfolding.float32(call.value)]))
}

function scaleOf(unfolding: Unfolding, { scale, size, query }: ScaledDotProduct): string {
  if (scale !== undefined) return unfolding.number(scale)
  if (size !== undefined) return unfolding.number(1 / Math.sqrt(size))
  const runtimeSize = unfolding.cast(unfolding.runtimeSize(query, 3), DataType.float)
  return unfolding.op('Reciprocal', [unfolding.op('Sqrt', [runtimeSize])])
}

function softmax({ op }: Unfolding, scores: string): string {
  return op('Softmax', [scores], { axis: { int: -1 } })
}

function softmaxWithSink(unfolding: Unfolding, scores: string, sink: string): string {
  const shape = unfolding.op('Shape', [scores])
  const first = unfolding.slice(shape, unfolding.integers([0]), unfolding.integers([3]), 0)
  const sinkShape = unfolding.concat([first, unfolding.integers([1])], 0)
  const all = unfolding.concat([scores, unfolding.op('Expand', [sink, sinkShape])], 3)
  return unfolding.slice(softmax(unfolding, all), unfolding.integers([0]), unfolding.integers([-1]), 3)
}

/** `[batch, tokens, heads · size]` → `[batch, tokens, heads, size]` */
export function splitHeads(unfolding: Unfolding, value: string, heads: number): string {
  return unfolding.reshape(value, [0, 0, heads, -1])
}

/** `[batch, tokens, heads, size]` ↔ `[batch, heads, tokens, size]` */
export function swapTokensAndHeads(unfolding: Unfolding, value: string): string {
  return unfolding.transpose(value, [0, 2, 1, 3])
}

/** `[batch, heads, tokens, size]` → `[batch, tokens, heads · size]` */
export function joinHeads(unfolding: Unfolding, value: string): string {
  return unfolding.reshape(swapTokensAndHeads(unfolding, value), [0, 0, -1])
}

/** The keys or values of a cache and the new ones after them, `[batch, heads, tokens, size]`. A cache that is missing or empty adds nothing. */
export function withPast(unfolding: Unfolding, past: string, value: string): string {
  return past === '' || unfolding.sizeOf(past, 2) === 0 ? value : unfolding.concat([past, value], 2)
}

/** The addend that removes the scores at which a condition holds; the others get `rest`, or 0. */
export function maskWhere(unfolding: Unfolding, condition: string, rest?: string): string {
  return unfolding.op('Where', [condition, unfolding.number(LOWEST), rest ?? unfolding.number(0)])
}
