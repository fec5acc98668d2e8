/**
 * The name that PyTorch gave a linear layer, as far as an exported file still tells it: from the node, then from PyTorch's own notes,
 * the weight, and the bias if nothing else reads it (exporters merge equal biases). Never a guess: undefined where the file is silent.
 */
import type { GraphIndex } from './graph-index.js'
import type { LinearLayer } from './linear-layers.js'

/** What quantisers hang on a node's name, and the operator at its end. */
const OPERATOR = /^(?:MatMul|Gemm|Gemm_MatMul)(?:_quant|_Q4|_Q8)?$/
const WEIGHT = /^(.+)\.weight(?:_quantized|_Q4|_Q8|_transposed)?$/
/** Numbered by the exporter, not named by anybody. */
const NUMBERED = /^onnx::/

export function moduleNameOf(
  { node, weight, outputNode }: Omit<LinearLayer, 'module'>,
  { consumers }: GraphIndex,
): string | undefined {
  return (
    fromPath(node.name) ??
    fromScopes(node.metadata) ??
    (NUMBERED.test(weight) ? undefined : WEIGHT.exec(weight)?.[1]) ??
    fromBias()
  )

  function fromBias(): string | undefined {
    const adders = consumers.get(outputNode.outputs[0] ?? '') ?? []
    const readers = node.opType === 'Gemm' ? [node] : adders.filter(({ opType }) => opType === 'Add')
    if (readers.length !== 1) return undefined
    const [bias] = (readers[0]?.inputs ?? []).filter((name) => name.endsWith('.bias'))
    return bias !== undefined && consumers.get(bias)?.length === 1
      ? bias.slice(0, -'.bias'.length)
      : undefined
  }
}

/** `/bert/encoder/layer.0/output/dense/MatMul`; a second product of one module (`MatMul_1`) has no name of its own. */
function fromPath(name: string): string | undefined {
  const segments = name.split('/')
  const operator = segments.pop() ?? ''
  if (segments.shift() !== '' || segments.length === 0 || !OPERATOR.test(operator)) return undefined
  return segments.join('.')
}

/** The exporter of PyTorch 2.5 and later: `['', 'bert', …, 'bert.encoder.layer.0.output.dense', 'linear_3']`. */
function fromScopes(metadata: ReadonlyMap<string, string>): string | undefined {
  const scopes = [...(metadata.get('pkg.torch.onnx.name_scopes') ?? '').matchAll(/'([^']*)'/g)]
  return scopes.at(-2)?.[1] || undefined
}
