/**
 * The names of q, k and v that ONNX Runtime's optimizer fused to `com.microsoft` `Attention`: their nodes are gone, but the product behind it is
 * the attention's own, and the output keeps the scope that PyTorch gave it. Where both tell, they have to agree.
 */
import type { LinearLayer } from './linear-layer.js'
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
  const [product] = readers
  const module = product?.module
  if (module === undefined || readers.length !== 1) return undefined
  const scope = scopeOf(output)
  const names = FAMILIES.flatMap((family) => {
    const block = beforeEnd(module, family.output)
    const own = `${block}${family.scope}`
    return block === undefined || (scope ?? own) !== own ? [] : [family.parts.map((part) => `${own}.${part}`)]
  })
  const [[q, k, v] = [], ...others] = names
  return q && k && v && others.length === 0 ? [q, k, v] : undefined
}

function beforeEnd(name: string, end: string): string | undefined {
  return name === end || name.endsWith(`.${end}`) ? name.slice(0, -end.length) : undefined
}
