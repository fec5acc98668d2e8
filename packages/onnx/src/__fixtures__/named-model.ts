/** Models of linear layers with chosen names, for tests of names; the weights are zero. */
import { createModel } from '../model/create-model.js'
import type { NewNode } from '../model/encode.js'
import { type OnnxModel, readModel } from '../model/model.js'
import { DataType, Entry, Node } from '../model/schema.js'
import { field, message } from '../model/wire-message.js'

interface NamedLayer {
  /** The name of the node. */
  readonly name?: string
  /** The name of the weight. */
  readonly weight?: string
  readonly opType?: string
  readonly metadata?: Readonly<Record<string, string>>
}

export interface NamedModelOptions {
  /** The names of the inputs; all layers read the first one. */
  readonly inputs?: readonly string[]
  /** The number of features of the inputs and of the outputs. */
  readonly width?: number
}

/** Creates a model with one product for each layer. A string is the name of a node. */
export function namedModel(
  layers: readonly (NamedLayer | string)[],
  { inputs = ['input_ids'], width = 2 }: NamedModelOptions = {},
): OnnxModel {
  const [input = 'input_ids'] = inputs
  const value = (name: string) => ({ name, dataType: DataType.float, dims: ['batch', 'tokens', width] })
  const namedLayers = layers.map((layer, i) => ({
    weight: `onnx::MatMul_${i}`,
    ...(typeof layer === 'string' ? { name: layer } : layer),
  }))
  const nodes = namedLayers.map(({ name, weight, opType = 'MatMul' }, i): NewNode => ({
    ...(name !== undefined && { name }),
    ...(opType === 'MatMulNBits' && {
      domain: 'com.microsoft',
      attributes: { K: { int: width }, N: { int: width } },
    }),
    opType,
    inputs: [input, weight],
    outputs: [`y${i}`],
  }))
  const weights = [...new Set(namedLayers.map(({ weight }) => weight))]
  const graph = {
    name: 'main',
    inputs: inputs.map(value),
    outputs: nodes.map(({ outputs }) => value(outputs[0] ?? '')),
    initializers: weights.map((name) => ({
      name,
      dims: [width, width],
      dataType: DataType.float,
      data: new Uint8Array(4 * width * width),
    })),
    nodes,
  }
  const model = createModel(graph, { opset: 17 })
  for (const [i, { metadata = {} }] of namedLayers.entries())
    for (const [key, value] of Object.entries(metadata))
      model.graph.nodes[i]?.field
        .editableMessage('the new node')
        .insert([field(Node.metadata, message(field(Entry.key, key), field(Entry.value, value)))])
  return readModel(model.toBytes())
}

/** Returns the node name that PyTorch's first exporter gives to the product of a module. */
export function nodeOf(module: string): string {
  return `/${module.replace(/\.(?!\d)/g, '/')}/MatMul`
}
