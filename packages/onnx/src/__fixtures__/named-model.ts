/** A model of linear layers that are named as a test needs: the weights are zero, for names are all that is asked of it. */
import { createModel } from '../model/create-model.js'
import type { NewNode } from '../model/encode.js'
import { type OnnxModel, readModel } from '../model/model.js'
import { DataType, Entry, Node } from '../model/schema.js'
import { field, message } from '../model/wire-message.js'

interface Named {
  /** The node's name. */
  readonly name?: string
  /** The weight's name. */
  readonly weight?: string
  readonly opType?: string
  readonly metadata?: Readonly<Record<string, string>>
}

export interface NamedModelOptions {
  /** The inputs' names; the first one goes into the layers. */
  readonly inputs?: readonly string[]
  /** Features in and out. */
  readonly width?: number
}

/** One product for each, in a row that they all read. */
export function namedModel(
  layers: readonly (Named | string)[],
  { inputs = ['input_ids'], width = 2 }: NamedModelOptions = {},
): OnnxModel {
  const [input = 'input_ids'] = inputs
  const value = (name: string) => ({ name, dataType: DataType.float, dims: ['batch', 'tokens', width] })
  const named = layers.map((layer, i) => ({
    weight: `onnx::MatMul_${i}`,
    ...(typeof layer === 'string' ? { name: layer } : layer),
  }))
  const nodes = named.map(({ name, weight, opType = 'MatMul' }, i): NewNode => ({
    ...(name !== undefined && { name }),
    ...(opType === 'MatMulNBits' && {
      domain: 'com.microsoft',
      attributes: { K: { int: width }, N: { int: width } },
    }),
    opType,
    inputs: [input, weight],
    outputs: [`y${i}`],
  }))
  const weights = [...new Set(named.map(({ weight }) => weight))]
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
  for (const [i, { metadata = {} }] of named.entries())
    for (const [key, value] of Object.entries(metadata))
      model.graph.nodes[i]?.field
        .message('the new node')
        .insert([field(Node.metadata, message(field(Entry.key, key), field(Entry.value, value)))])
  return readModel(model.toBytes())
}

/** The name that PyTorch's first exporter gives the product of a module. */
export function nodeOf(module: string): string {
  return `/${module.replace(/\.(?!\d)/g, '/')}/MatMul`
}
