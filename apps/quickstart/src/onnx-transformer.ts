/**
 * The vision transformer as an ONNX model in float32. It has the names that PyTorch's exporter gives to Hugging Face's ViT, so that the modules
 * of adapters are found without a map and transformers.js recognises a ViT. `onnx-files.ts` writes its folder.
 */
import {
  createModel,
  DataType,
  type NewAttribute,
  type NewNode,
  type NewTensor,
  type OnnxModel,
} from '@fourierft/onnx'
import { type Checkpoint, weightNamed } from './checkpoint.js'

/** The first operator set with `LayerNormalization`. */
const opset = 17

/** transformers.js' names of the input `[batch_size, 1, size, size]`, −1…1, and of the output `[batch_size, labels]`. */
export const [pixelValues, logits] = ['pixel_values', 'logits']

/** @throws if a tensor is missing in the checkpoint */
export function onnxTransformer(checkpoint: Checkpoint): OnnxModel {
  const { config } = checkpoint
  const { image_size: size, patch_size: patch, num_attention_heads: heads } = config
  const graph = new ExportedGraph(checkpoint)

  let x = embeddings(graph, patch)
  for (let index = 0; index < config.num_hidden_layers; index++) {
    const block = `vit.encoder.layer.${index}`
    const mixed = attention(
      graph,
      `${block}.attention.attention`,
      heads,
      graph.norm(`${block}.layernorm_before`, x),
    )
    x = graph.add(block, 'Add', [graph.linear(`${block}.attention.output.dense`, mixed), x])
    const inner = graph.linear(`${block}.intermediate.dense`, graph.norm(`${block}.layernorm_after`, x))
    const active = gelu(graph, `${block}.intermediate.intermediate_act_fn`, inner)
    x = graph.add(`${block}.output`, 'Add', [graph.linear(`${block}.output.dense`, active), x])
  }
  const classToken = graph.add('', 'Gather', [graph.norm('vit.layernorm', x), graph.integer('', 0)], {
    axis: { int: 1 },
  })
  const weights = ['weight', 'bias'].map((name) => graph.parameter(`classifier.${name}`))
  graph.output(logits, 'classifier', 'Gemm', [classToken, ...weights], { transB: { int: 1 } })

  const batch = 'batch_size'
  const labels = Object.keys(config.id2label).length
  return createModel(
    {
      name: 'main_graph',
      inputs: [{ name: pixelValues, dataType: DataType.float, dims: [batch, 1, size, size] }],
      outputs: [{ name: logits, dataType: DataType.float, dims: [batch, labels] }],
      initializers: [...graph.initializers.values()],
      nodes: graph.nodes,
    },
    { opset, file: 'model.onnx' },
  )
}

/** Computes the class token and the patches with their position embeddings, `[batch, tokens, width]`, from images. */
function embeddings(graph: ExportedGraph, patch: number): string {
  const scope = 'vit.embeddings'
  const patches = `${scope}.patch_embeddings`
  const projection = `${patches}.projection`
  const [weight, bias] = [graph.parameter(`${projection}.weight`), graph.parameter(`${projection}.bias`)]
  const grid = graph.add(projection, 'Conv', [pixelValues, weight, bias], {
    kernel_shape: { ints: [patch, patch] },
    strides: { ints: [patch, patch] },
  })
  // A size of 0 keeps the size of the input, −1 means the remaining size.
  const rows = graph.add(patches, 'Reshape', [grid, graph.integers(patches, [0, 0, -1])])
  const tokens = graph.add(patches, 'Transpose', [rows], { perm: { ints: [0, 2, 1] } })
  const batch = graph.add(scope, 'Shape', [tokens], { start: { int: 0 }, end: { int: 1 } })
  const shape = graph.add(scope, 'Concat', [batch, graph.integers(scope, [1, 1])], { axis: { int: 0 } })
  const classToken = graph.add(scope, 'Expand', [graph.parameter(`${scope}.cls_token`), shape])
  const all = graph.add(scope, 'Concat', [classToken, tokens], { axis: { int: 1 } })
  return graph.add(scope, 'Add', [all, graph.parameter(`${scope}.position_embeddings`)])
}

/** `softmax(q·kᵀ/√(d/h))·v` for each of `h` heads. */
function attention(graph: ExportedGraph, scope: string, heads: number, x: string): string {
  const [width = 0] = weightNamed(graph.checkpoint, `${scope}.query.weight`).shape
  const split = (module: string, perm: readonly number[]) => {
    const y = graph.linear(`${scope}.${module}`, x)
    const shape = graph.integers(scope, [0, 0, heads, width / heads])
    return graph.add(scope, 'Transpose', [graph.add(scope, 'Reshape', [y, shape])], { perm: { ints: perm } })
  }
  const query = split('query', [0, 2, 1, 3])
  const products = graph.add(scope, 'MatMul', [query, split('key', [0, 2, 3, 1])])
  const scores = graph.add(scope, 'Div', [products, graph.float(scope, Math.sqrt(width / heads))])
  const weights = graph.add(scope, 'Softmax', [scores], { axis: { int: -1 } })
  const mixed = graph.add(scope, 'MatMul', [weights, split('value', [0, 2, 1, 3])])
  const rows = graph.add(scope, 'Transpose', [mixed], { perm: { ints: [0, 2, 1, 3] } })
  return graph.add(scope, 'Reshape', [rows, graph.integers(scope, [0, 0, width])])
}

/** `x·Φ(x)` as the operators that exporters write and runtimes recognise. */
function gelu(graph: ExportedGraph, scope: string, x: string): string {
  const erf = graph.add(scope, 'Erf', [graph.add(scope, 'Div', [x, graph.float(scope, Math.SQRT2)])])
  const twice = graph.add(scope, 'Mul', [x, graph.add(scope, 'Add', [erf, graph.float(scope, 1)])])
  return graph.add(scope, 'Mul', [twice, graph.float(scope, 0.5)])
}

/** Builds a graph. A scope is the dotted name of a PyTorch module; every node is named after its scope. */
class ExportedGraph {
  readonly checkpoint: Checkpoint
  readonly nodes: NewNode[] = []
  readonly initializers = new Map<string, NewTensor>()
  readonly #nameCounts = new Map<string, number>()

  constructor(checkpoint: Checkpoint) {
    this.checkpoint = checkpoint
  }

  /** Adds a node with one output. @returns the name of the output */
  add(
    scope: string,
    opType: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, NewAttribute>> = {},
  ): string {
    const name = this.#name(scope, opType)
    return this.#push(`${name}_output_0`, { name, opType, inputs, attributes })
  }

  /** Adds a node whose output has a given name. */
  output(
    output: string,
    scope: string,
    opType: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, NewAttribute>>,
  ): string {
    return this.#push(output, { name: this.#name(scope, opType), opType, inputs, attributes })
  }

  /** `y = x·Wᵀ + b`. */
  linear(module: string, x: string): string {
    const product = this.add(module, 'MatMul', [x, this.#transposed(`${module}.weight`)])
    return this.add(module, 'Add', [this.parameter(`${module}.bias`), product])
  }

  norm(module: string, x: string): string {
    const inputs = [x, this.parameter(`${module}.weight`), this.parameter(`${module}.bias`)]
    const epsilon = { float: this.checkpoint.config.layer_norm_eps }
    return this.add(module, 'LayerNormalization', inputs, { axis: { int: -1 }, epsilon })
  }

  /** Adds a weight of the checkpoint under its own name. */
  parameter(name: string): string {
    const { shape, values } = weightNamed(this.checkpoint, name)
    return this.#initializer(name, shape, values)
  }

  integers(scope: string, values: readonly number[], dims: readonly number[] = [values.length]): string {
    const data = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
    return this.add(scope, 'Constant', [], { value: { tensor: { dims, dataType: DataType.int64, data } } })
  }

  integer(scope: string, value: number): string {
    return this.integers(scope, [value], [])
  }

  float(scope: string, value: number): string {
    const data = bytesOf(Float32Array.of(value))
    return this.add(scope, 'Constant', [], {
      value: { tensor: { dims: [], dataType: DataType.float, data } },
    })
  }

  /** Adds the transposed weight of a linear layer, `[in, out]`, for `MatMul`. As exporters do, it names the weight by a number. */
  #transposed(name: string): string {
    const { shape, values } = weightNamed(this.checkpoint, name)
    const [rows = 0, columns = 0] = shape
    const transposed = values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)] ?? 0)
    return this.#initializer(`onnx::MatMul_${this.initializers.size}`, [columns, rows], transposed)
  }

  #initializer(name: string, dims: readonly number[], values: Float32Array): string {
    this.initializers.set(name, { name, dims, dataType: DataType.float, data: bytesOf(values) })
    return name
  }

  #push(output: string, node: Omit<NewNode, 'outputs'>): string {
    this.nodes.push({ ...node, outputs: [output] })
    return output
  }

  /** Returns a name such as `/vit/encoder/layer.0/output/dense/MatMul`. The second `MatMul` of a scope is `…/MatMul_1`. */
  #name(scope: string, opType: string): string {
    // The dot before an index stays: `layer.0`.
    const name = `${scope && '/'}${scope.replace(/\.(?!\d)/g, '/')}/${opType}`
    const count = this.#nameCounts.get(name) ?? 0
    this.#nameCounts.set(name, count + 1)
    return count === 0 ? name : `${name}_${count}`
  }
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength)
