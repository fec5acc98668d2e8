/**
 * Makes transformers with random weights as ONNX models in the layout of transformers.js; the cost of a call depends only on the sizes. The encoder has
 * no positions. The decoder has its keys and values as inputs and outputs. Both have pre-norm blocks of the usual operators.
 */
import { createModel, DataType, type NewNode, type NewTensor, type NewValue } from '@fourierft/onnx'
import { noise } from './layer-chain.js'

export interface TransformerSize {
  readonly layers: number
  readonly width: number
  readonly heads: number
  readonly vocabulary: number
  /** The number of positions of a decoder. */
  readonly positions: number
}

const OPSET = 17
/** The width of the feed-forward network as a multiple of the model's width. */
const EXPANSION = 4
/** The value added to the scores of masked tokens. */
const HIDDEN = -1e4

/**
 * Makes a model from `input_ids` and `attention_mask` to `last_hidden_state`. A decoder also has the inputs `position_ids` and
 * `past_key_values.i.key|value`, and the outputs `logits` and `present.i.key|value`.
 *
 * @returns the parts of the file, in order
 */
export function randomTransformer(kind: 'encoder' | 'decoder', size: TransformerSize): Uint8Array[] {
  const { layers, width, vocabulary } = size
  const graph = new Graph()
  const isDecoder = kind === 'decoder'
  graph.input('input_ids', DataType.int64, ['batch_size', 'sequence_length'])
  graph.input('attention_mask', DataType.int64, ['batch_size', 'total_length'])
  const words = graph.node('words', 'Gather', [
    graph.weight('word_embeddings', [vocabulary, width]),
    'input_ids',
  ])
  let hidden = words
  if (isDecoder) {
    graph.input('position_ids', DataType.int64, ['batch_size', 'sequence_length'])
    const table = graph.weight('position_embeddings', [size.positions, width])
    hidden = graph.node('embeddings', 'Add', [
      words,
      graph.node('positions', 'Gather', [table, 'position_ids']),
    ])
  }
  const mask = isDecoder ? causalMask(graph) : paddingMask(graph)
  for (let i = 0; i < layers; i++) hidden = block(graph, i, hidden, mask, size, isDecoder)
  if (isDecoder) {
    const normal = layerNorm(graph, '/norm', hidden, width)
    graph.outputs.push({
      name: graph.node('logits', 'MatMul', [normal, graph.weight('head', [width, vocabulary])]),
      dataType: DataType.float,
      dims: ['batch_size', 'sequence_length', vocabulary],
    })
  } else
    graph.outputs.push({
      name: layerNorm(graph, 'last_hidden_state', hidden, width),
      dataType: DataType.float,
      dims: ['batch_size', 'sequence_length', width],
    })
  return graph.toParts()
}

function block(
  graph: Graph,
  i: number,
  hidden: string,
  mask: string,
  { width, heads }: TransformerSize,
  isDecoder: boolean,
): string {
  const scoped = (name: string) => `/layers.${i}/${name}`
  const size = width / heads
  const linear = (name: string, x: string, inputs: number, outputs: number) =>
    graph.node(scoped(`${name}/Add`), 'Add', [
      graph.node(scoped(`${name}/MatMul`), 'MatMul', [
        x,
        graph.weight(`${scoped(name)}.weight`, [inputs, outputs]),
      ]),
      graph.weight(`layers.${i}.${name.replaceAll('/', '.')}.bias`, [outputs]),
    ])
  const normal = layerNorm(graph, scoped('attention/norm'), hidden, width)
  const split = graph.integers('split', [0, 0, heads, size])
  const byHead = (name: string) =>
    graph.node(
      scoped(`attention/${name}/Transpose`),
      'Transpose',
      [
        graph.node(scoped(`attention/${name}/Reshape`), 'Reshape', [
          linear(`attention/${name}`, normal, width, width),
          split,
        ]),
      ],
      { perm: { ints: [0, 2, 1, 3] } },
    )
  const cached = (name: 'key' | 'value') => {
    const current = byHead(name)
    if (!isDecoder) return current
    const dims = (length: string) => ['batch_size', heads, length, size]
    const past = graph.input(`past_key_values.${i}.${name}`, DataType.float, dims('past_length'))
    const present = graph.node(`present.${i}.${name}`, 'Concat', [past, current], { axis: { int: 2 } })
    graph.outputs.push({ name: present, dataType: DataType.float, dims: dims('total_length') })
    return present
  }
  const query = byHead('query')
  const keys = graph.node(scoped('attention/keys'), 'Transpose', [cached('key')], {
    perm: { ints: [0, 1, 3, 2] },
  })
  const scaled = graph.node(scoped('attention/Div'), 'Div', [
    graph.node(scoped('attention/scores'), 'MatMul', [query, keys]),
    graph.float('root', Math.sqrt(size)),
  ])
  const weights = graph.node(
    scoped('attention/Softmax'),
    'Softmax',
    [graph.node(scoped('attention/masked'), 'Add', [scaled, mask])],
    { axis: { int: -1 } },
  )
  const context = graph.node(
    scoped('attention/context'),
    'Transpose',
    [graph.node(scoped('attention/values'), 'MatMul', [weights, cached('value')])],
    { perm: { ints: [0, 2, 1, 3] } },
  )
  const merged = graph.node(scoped('attention/Reshape'), 'Reshape', [
    context,
    graph.integers('merge', [0, 0, width]),
  ])
  const attended = graph.node(scoped('attention/residual'), 'Add', [
    linear('attention/output', merged, width, width),
    hidden,
  ])
  const inner = linear(
    'mlp/up',
    layerNorm(graph, scoped('mlp/norm'), attended, width),
    width,
    EXPANSION * width,
  )
  return graph.node(scoped('mlp/residual'), 'Add', [
    linear('mlp/down', gelu(graph, scoped('mlp/gelu'), inner), EXPANSION * width, width),
    attended,
  ])
}

/** Adds x · (1 + erf(x/√2)) / 2 in the operators that exporters write. */
function gelu(graph: Graph, name: string, x: string): string {
  const erf = graph.node(`${name}/Erf`, 'Erf', [
    graph.node(`${name}/Div`, 'Div', [x, graph.float('√2', Math.SQRT2)]),
  ])
  const sum = graph.node(`${name}/Add`, 'Add', [erf, graph.float('one', 1)])
  return graph.node(`${name}/half`, 'Mul', [
    graph.node(`${name}/Mul`, 'Mul', [x, sum]),
    graph.float('half', 0.5),
  ])
}

function layerNorm(graph: Graph, name: string, x: string, width: number): string {
  const [scale, bias] = [`${name}.weight`, `${name}.bias`].map((weight) => graph.weight(weight, [width]))
  return graph.node(name, 'LayerNormalization', [x, scale, bias], { axis: { int: -1 } })
}

/** Adds the mask of the padding, `[batch, 1, 1, total]`, which is added to the scores. */
function paddingMask(graph: Graph): string {
  const seen = graph.node('seen', 'Cast', ['attention_mask'], { to: { int: DataType.float } })
  const hidden = graph.node('not seen', 'Sub', [graph.float('one', 1), seen])
  const added = graph.node('padding', 'Mul', [hidden, graph.float('hidden', HIDDEN)])
  return graph.node('padding mask', 'Unsqueeze', [added, graph.integers('mask axes', [1, 2])])
}

/** Adds the mask of the padding and, for each token, of all later tokens: `[batch, 1, sequence, total]`. */
function causalMask(graph: Graph): string {
  const total = graph.node('total', 'Gather', [
    graph.node('mask shape', 'Shape', ['attention_mask']),
    graph.integer('1', 1),
  ])
  const positions = graph.node('all positions', 'Range', [
    graph.integer('0', 0),
    total,
    graph.integer('1', 1),
  ])
  const current = graph.node('current position', 'Unsqueeze', [
    'position_ids',
    graph.integers('causal axes', [1, 3]),
  ])
  const isBefore = graph.node('before', 'LessOrEqual', [positions, current])
  const causal = graph.node('causal', 'Where', [
    isBefore,
    graph.float('zero', 0),
    graph.float('hidden', HIDDEN),
  ])
  return graph.node('mask', 'Add', [causal, paddingMask(graph)])
}

class Graph {
  readonly outputs: NewValue[] = []
  readonly #nodes: NewNode[] = []
  readonly #inputs: NewValue[] = []
  readonly #initializers = new Map<string, NewTensor>()

  /** Adds a node with one output of the same name. */
  node(
    name: string,
    opType: string,
    inputs: readonly string[],
    attributes: NewNode['attributes'] = {},
  ): string {
    this.#nodes.push({ name, opType, inputs, outputs: [name], attributes })
    return name
  }

  input(name: string, dataType: number, dims: readonly (number | string)[]): string {
    this.#inputs.push({ name, dataType, dims })
    return name
  }

  /** Adds a random weight, scaled so that a product keeps the size of its rows. */
  weight(name: string, dims: readonly number[]): string {
    const length = dims.reduce((product, dim) => product * dim, 1)
    return this.#constant(name, dims, DataType.float, noise(length, Math.sqrt(3 / dims[0])))
  }

  float(name: string, value: number): string {
    return this.#constant(name, [], DataType.float, Float32Array.of(value))
  }

  integer(name: string, value: number): string {
    return this.#constant(name, [], DataType.int64, BigInt64Array.of(BigInt(value)))
  }

  integers(name: string, values: readonly number[]): string {
    return this.#constant(name, [values.length], DataType.int64, BigInt64Array.from(values, BigInt))
  }

  toParts(): Uint8Array[] {
    const graph = {
      name: 'transformer',
      nodes: this.#nodes,
      inputs: this.#inputs,
      outputs: this.outputs,
      initializers: [...this.#initializers.values()],
    }
    return createModel(graph, { opset: OPSET }).toParts()
  }

  /** Adds a constant, unless there is one with this name. */
  #constant(
    name: string,
    dims: readonly number[],
    dataType: number,
    data: Float32Array | BigInt64Array,
  ): string {
    if (!this.#initializers.has(name))
      this.#initializers.set(name, { name, dims, dataType, data: new Uint8Array(data.buffer) })
    return name
  }
}
