/**
 * The names of q, k and v that ONNX Runtime's optimizer has fused into `com.microsoft` `Attention`. Their nodes are gone, but the product
 * after the attention keeps its name, and the attention's output keeps PyTorch's scope. If the file contains both, they must agree.
 */
import type { LinearLayer } from './linear-layer.js'
import { scopeOf } from './module-name.js'

interface Family {
  /** The scope of the attention's output within a block. */
  readonly scope: string
  /** The module that reads the attention's output. */
  readonly output: string
  readonly parts: readonly [q: string, k: string, v: string]
}

const PROJECTIONS = ['q_proj', 'k_proj', 'v_proj'] as const
const QUERIES = ['query', 'key', 'value'] as const

/** The names in transformers: BERT and similar models; ViT; BART, CLIP, LLaMA; DistilBERT; MPNet; ViT since transformers 5. */
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
 * Returns the names of the modules that the attention contains.
 *
 * @param output the attention's output
 * @param readers the layers that read it
 * @returns undefined if the names are not certain
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
    const expected = `${block}${family.scope}`
    return block === undefined || (scope ?? expected) !== expected
      ? []
      : [family.parts.map((part) => `${expected}.${part}`)]
  })
  const [[q, k, v] = [], ...others] = names
  return q && k && v && others.length === 0 ? [q, k, v] : undefined
}

/** Returns `name` without `end`; undefined if it does not end with it. */
function beforeEnd(name: string, end: string): string | undefined {
  return name === end || name.endsWith(`.${end}`) ? name.slice(0, -end.length) : undefined
}
