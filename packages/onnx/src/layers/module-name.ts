/**
 * The name that PyTorch gave a linear layer, as far as an exported file still tells it: from the node, then from PyTorch's own notes,
 * the weight, and the bias if nothing else reads it (exporters merge equal biases). Never a guess: undefined where the file is silent.
 */
import type { LinearLayer } from './linear-layer.js'

/** What quantisers and builders hang on a node's name, and the operator at its end. */
const OPERATOR = /^(?:MatMul|Gemm|Gemm_MatMul)(?:NBits|_quant|_Q4|_Q8|_Bnb4)?$/
const WEIGHT = /^(.+)\.weight(?:_quantized|_Q4|_Q8|_Bnb4|_transposed)?$/
/** Numbered by the exporter, not named by anybody. */
const NUMBERED = /^onnx::/
/** No module has a longer name: a text of megabytes is not read as one. */
export const MAX_LENGTH = 1024

export function moduleNameOf({
  graph: {
    index: { consumers },
  },
  node,
  weight,
  outputNode,
}: Omit<LinearLayer, 'module'>): string | undefined {
  return fromPath(node.name) ?? fromScopes(node.metadata) ?? moduleOfWeight(weight) ?? fromBias()

  function fromBias(): string | undefined {
    const adders = consumers.get(outputNode.outputs[0] ?? '') ?? []
    const readers = node.opType === 'Gemm' ? [node] : adders.filter(({ opType }) => opType === 'Add')
    if (readers.length !== 1) return undefined
    const [bias] = (readers[0]?.inputs ?? []).filter(
      (name) => name.length <= MAX_LENGTH && name.endsWith('.bias'),
    )
    return bias !== undefined && consumers.get(bias)?.length === 1
      ? bias.slice(0, -'.bias'.length)
      : undefined
  }
}

/** `bert.encoder.layer.0.output.dense.weight`; undefined: the exporter numbered the weight. */
export function moduleOfWeight(weight: string): string | undefined {
  return weight.length > MAX_LENGTH || NUMBERED.test(weight) ? undefined : WEIGHT.exec(weight)?.[1]
}

/** The module within which PyTorch's first exporter met a value or a node: `/bert/encoder/layer.0/attention/self/Reshape_3_output_0`. */
export function scopeOf(name: string): string | undefined {
  const end = name.lastIndexOf('/')
  return name.startsWith('/') && end > 0 && name.length <= MAX_LENGTH
    ? withoutContainers(name.slice(1, end).split('/'))
    : undefined
}

/** `/bert/encoder/layer.0/output/dense/MatMul`; a second product of one module (`MatMul_1`) has no name of its own. */
function fromPath(name: string): string | undefined {
  const product = name.endsWith(FUSED) ? name.slice(0, -FUSED.length) : name
  return OPERATOR.test(product.slice(product.lastIndexOf('/') + 1)) ? scopeOf(product) : undefined
}

/** A product and its bias, of which ONNX Runtime's optimizer has made one Gemm. */
const FUSED = '/MatMulAddFusion'

/**
 * A container that is called itself (`nn.Sequential`) comes before its modules, which repeat its name: `/stages/stages.0/blocks/blocks.0/mlp`
 * is `stages.0.blocks.0.mlp`.
 */
function withoutContainers(segments: readonly string[]): string {
  return segments
    .filter((segment, i) => {
      const next = segments[i + 1] ?? ''
      return !(next.startsWith(`${segment}.`) && NUMBERS.test(next.slice(segment.length)))
    })
    .join('.')
}

/** `.0`, `.0.2`, and `.0_1` where the module is called once more. */
const NUMBERS = /^(?:\.\d+)+(?:_\d+)?$/

/** The exporter of PyTorch 2.5 and later: `['', 'bert', …, 'bert.encoder.layer.0.output.dense', 'linear_3']`. */
function fromScopes(metadata: ReadonlyMap<string, string>): string | undefined {
  const scopes = metadata.get('pkg.torch.onnx.name_scopes') ?? ''
  // The last text but one, found from the end: a list of megabytes is not taken apart.
  let [start, end] = [scopes.length, 0]
  for (let texts = 0; texts < 2; texts++) {
    end = start > 0 ? scopes.lastIndexOf("'", start - 1) : -1
    start = end > 0 ? scopes.lastIndexOf("'", end - 1) : -1
    if (start < 0) return undefined
  }
  const module = scopes.slice(start + 1, end)
  return module !== '' && module.length <= MAX_LENGTH ? module : undefined
}
