/** A small model with unknown fields, and a function that reads and writes all parts of a model. */
import { FourierFTError } from '@fourierft/core'
import { expect } from 'vitest'
import { encodeGraph, type NewGraph } from '../model/encode.js'
import { readModel } from '../model/model.js'
import { DataType, Model } from '../model/schema.js'
import { field, floatField, message } from '../model/wire-message.js'

/** Creates the model y = x·w, with unknown fields in the model and in the graph. */
export function sampleModel(graph: Partial<NewGraph> = {}): Uint8Array<ArrayBuffer> {
  const body = encodeGraph({
    name: 'main',
    nodes: [{ name: 'product', opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
    inputs: [{ name: 'x', dataType: DataType.float, dims: ['T', 2] }],
    outputs: [{ name: 'y', dataType: DataType.float, dims: ['T', 2] }],
    initializers: [{ name: 'w', dims: [2, 2], dataType: DataType.float, data: new Uint8Array(16).fill(7) }],
    ...graph,
  })
  body.insert([field(900, 'unknown'), floatField(901, 0.5)])
  const parts: Uint8Array[] = []
  message(field(Model.irVersion, 8), field(Model.graph, body), field(902, 17n)).writeTo(parts)
  return new Uint8Array(Buffer.concat(parts))
}

/** Returns the code of the error that rejects the bytes; undefined if the whole model can be read, and written back unchanged. */
export function rejectionCode(bytes: Uint8Array): string | undefined {
  try {
    readAndWrite(bytes)
    return undefined
  } catch (error) {
    if (!FourierFTError.isInstance(error)) throw error
    expect(error.message).toContain('bad.onnx')
    return error.code
  }
}

function readAndWrite(bytes: Uint8Array): void {
  const model = readModel(bytes, { file: 'bad.onnx' })
  for (const graph of model.graph.graphs()) {
    const read: unknown[] = graph.nodes.map(({ inputs, outputs, metadata }) => [inputs, outputs, metadata])
    for (const tensor of graph.initializers.values()) tensor.data()
    read.push(graph.inputs, graph.outputs, graph.valueInfos)
  }
  if (Buffer.compare(model.toBytes(), bytes) !== 0) throw new Error('bytes changed')
}
