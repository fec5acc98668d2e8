/**
 * The names of q, k and v that ONNX Runtime's optimizer fused to `com.microsoft` `Attention`: their nodes are gone, but the output keeps the
 * scope that PyTorch gave it, and the product behind it is the attention's own. Both have to agree.
 */
import type { LinearLayer } from './linear-layers.js'
import { scopeOf } from './module-name.js'

interface Family {
  /** Where the attention's output was made, within a block. */
  readonly scope: string
  /** The product of the attention's output. */
  readonly output: string
  readonly parts: readonly [q: string, k: string, v: string]
}

const PROJECTIONS = ['q_proj', 'k_proj', 'v_proj'] as const
const QUERIES = ['query', 'key', 'value'] as const

/** As transformers names them: BERT and its kin; ViT; BART, CLIP, LLaMA; DistilBERT; MPNet; ViT since transformers 5. */
const FAMILIES: readonly Family[] = [
  { scope: 'attention.self', output: 'attention.output.dense', parts: QUERIES },
  { scope: 'attention.attention', output: 'attention.output.dense', parts: QUERIES },
  { scope: 'self_attn', output: 'self_attn.out_proj', parts: PROJECTIONS },
  { scope: 'self_attn', output: 'self_attn.o_proj', parts: PROJECTIONS },
  { scope: 'attention', output: 'attention.out_lin', parts: ['q_lin', 'k_lin', 'v_lin'] },
  { scope: 'attention.attn', output: 'attention.attn.o', parts: ['q', 'k', 'v'] },
  { scope: 'attention', output: 'attention.o_proj', parts: PROJECTIONS },
]

/**
 * @param output the value that the attention makes
 * @param readers the layers that read it
 */
export function attentionNames(
  output: string,
  readers: readonly LinearLayer[],
): readonly [q: string, k: string, v: string] | undefined {
  const scope = scopeOf(output)
  const [product] = readers
  if (scope === undefined || product?.module === undefined || readers.length !== 1) return undefined
  for (const family of FAMILIES) {
    const block = beforeEnd(scope, family.scope)
    if (block === undefined || beforeEnd(product.module, family.output) !== block) continue
    const [q, k, v] = family.parts
    return [`${scope}.${q}`, `${scope}.${k}`, `${scope}.${v}`]
  }
  return undefined
}

function beforeEnd(name: string, end: string): string | undefined {
  return name === end || name.endsWith(`.${end}`) ? name.slice(0, -end.length) : undefined
}
