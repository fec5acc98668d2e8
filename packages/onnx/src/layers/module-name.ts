/**
 * The name that PyTorch gave a linear layer, if it can be recovered from an exported file: from the node, else from the metadata that PyTorch writes,
 * the weight, or the bias if nothing else reads it (exporters merge equal biases). It is never a guess: undefined if the file does not contain it.
 */
import type { LinearLayer } from './linear-layer.js'

/** The last segment of a node's name: the operator, and the suffixes of quantisers and builders. */
const OPERATOR = /^(?:MatMul|Gemm|Gemm_MatMul)(?:NBits|_quant|_Q4|_Q8|_Bnb4)?$/
const WEIGHT = /^(.+)\.weight(?:_quantized|_Q4|_Q8|_Bnb4|_transposed)?$/
/** A name that the exporter has numbered. */
const NUMBERED = /^onnx::/
/** Longer strings are not names of modules. */
export const MAX_NAME_LENGTH = 1024

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
      (name) => name.length <= MAX_NAME_LENGTH && name.endsWith('.bias'),
    )
    return bias !== undefined && consumers.get(bias)?.length === 1
      ? bias.slice(0, -'.bias'.length)
      : undefined
  }
}

/** Returns the module of a weight such as `bert.encoder.layer.0.output.dense.weight`; undefined if the exporter has numbered the weight. */
export function moduleOfWeight(weight: string): string | undefined {
  return weight.length > MAX_NAME_LENGTH || NUMBERED.test(weight) ? undefined : WEIGHT.exec(weight)?.[1]
}

/** Returns the module in whose code PyTorch's TorchScript exporter found a value or a node, such as `/bert/encoder/layer.0/attention/self/Reshape_3`. */
export function scopeOf(name: string): string | undefined {
  const end = name.lastIndexOf('/')
  return name.startsWith('/') && end > 0 && name.length <= MAX_NAME_LENGTH
    ? withoutContainers(name.slice(1, end).split('/'))
    : undefined
}

/** Returns the module of a node such as `/bert/encoder/layer.0/output/dense/MatMul`. The second product of a module (`MatMul_1`) is not a module. */
function fromPath(name: string): string | undefined {
  const product = name.endsWith(FUSED) ? name.slice(0, -FUSED.length) : name
  return OPERATOR.test(product.slice(product.lastIndexOf('/') + 1)) ? scopeOf(product) : undefined
}

/** The suffix of a product and its bias that ONNX Runtime's optimizer has fused into one Gemm. */
const FUSED = '/MatMulAddFusion'

/**
 * Returns the path without the containers (`nn.Sequential`) whose names the next segment repeats: `/stages/stages.0/blocks/blocks.0/mlp` is
 * `stages.0.blocks.0.mlp`.
 */
function withoutContainers(segments: readonly string[]): string {
  return segments
    .filter((segment, i) => {
      const next = segments[i + 1] ?? ''
      return !(next.startsWith(`${segment}.`) && NUMBERS.test(next.slice(segment.length)))
    })
    .join('.')
}

/** `.0`, `.0.2`, and `.0_1` for a second call of the module. */
const NUMBERS = /^(?:\.\d+)+(?:_\d+)?$/

/** Returns the last module in the scopes that PyTorch 2.5 and later write: `['', 'bert', …, 'bert.encoder.layer.0.output.dense', 'linear_3']`. */
function fromScopes(metadata: ReadonlyMap<string, string>): string | undefined {
  const scopes = metadata.get('pkg.torch.onnx.name_scopes') ?? ''
  // Searches the second string from the end, so that a list of megabytes costs nothing.
  let [start, end] = [scopes.length, 0]
  for (let strings = 0; strings < 2; strings++) {
    end = start > 0 ? scopes.lastIndexOf("'", start - 1) : -1
    start = end > 0 ? scopes.lastIndexOf("'", end - 1) : -1
    if (start < 0) return undefined
  }
  const module = scopes.slice(start + 1, end)
  return module !== '' && module.length <= MAX_NAME_LENGTH ? module : undefined
}
