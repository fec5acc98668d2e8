/** Whole layers of sequence models in one operator: attention, embedding, recurrence. */
import type { KnownValue, OperatorCall, OperatorTable } from '../known-value.js'
import { Size } from '../size.js'

export const SEQUENCE_LAYERS: OperatorTable = [
  ['Attention', attention],
  ['MultiHeadAttention', multiHeadAttention],
  ['DecoderMaskedMultiHeadAttention', multiHeadAttention],
  ['GroupQueryAttention', multiHeadAttention],
  ['EmbedLayerNormalization', embedding],
  ['LSTM', recurrent],
  ['GRU', recurrent],
  ['RNN', recurrent],
]

/** The inputs of `com.microsoft`'s operator are the tokens and the packed weight; those of ONNX's operator are query, key and value. */
function attention(call: OperatorCall): readonly KnownValue[] {
  const { node, inputs, sizes } = call
  const [x, w, v] = inputs
  if (!x?.dims) return []
  if (node.domain === '') {
    // With three dims the heads are side by side in the last one; with four the third is the sequence.
    const width = node.attribute('kv_num_heads')?.int
    const [query, value] = [x.dims.at(-1), v?.dims?.at(-1)]
    if (!query || !value) return []
    const isSame = query.size.equals(value.size) || width === undefined
    return [
      { dims: [...x.dims.slice(0, -1), isSame ? value : { size: sizes.computed('heads', query.size) }] },
    ]
  }
  const packed = w?.dims?.at(-1)?.size
  const hidden = node.attribute('qkv_hidden_sizes')?.ints ?? []
  const width = hidden.length === 3 ? Size.of(Number(hidden[2])) : packed?.dividedBy(Size.of(3))
  return [{ dims: [...x.dims.slice(0, 2), width ? { size: width } : { size: sizes.computed('heads') }] }]
}

/** The output is `[batch, tokens, heads · size]`, whether the query is packed or not. */
function multiHeadAttention({ node, inputs, sizes }: OperatorCall): readonly KnownValue[] {
  const [query, , value] = inputs
  if (!query?.dims || query.dims.length < 3) return []
  const width =
    value?.dims?.length === 3 ? value.dims.at(-1) : { size: sizes.computed(`heads ${node.outputs[0]}`) }
  const isGrouped = node.opType === 'GroupQueryAttention'
  const features = isGrouped && value?.dims ? query.dims[2] : width
  return features ? [{ dims: [...query.dims.slice(0, 2), features] }] : []
}

function embedding({ inputs: [ids, , words] }: OperatorCall): readonly KnownValue[] {
  const width = words?.dims?.at(-1)
  const batch = ids?.dims?.[0]
  if (!ids?.dims || !width || !batch) return []
  const sum = { dims: [...ids.dims, width] }
  return [sum, { dims: [batch] }, sum]
}

function recurrent({ node, inputs: [x, , r], sizes }: OperatorCall): readonly KnownValue[] {
  const hidden = r?.dims?.at(-1)
  const [tokens, batch] = x?.dims ?? []
  if (!hidden || !tokens || !batch || node.attribute('layout')?.int) return []
  const directions = sizes.number(node.attribute('direction')?.string === 'bidirectional' ? 2 : 1)
  const last = { dims: [directions, batch, hidden] }
  return [{ dims: [tokens, directions, batch, hidden] }, last, last]
}
