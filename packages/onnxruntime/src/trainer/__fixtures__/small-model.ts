/** A model with a dynamic batch: y = tanh(x·A)·B, with the modules `block.first` and `block.second`. Training it takes under a millisecond. */
import { createModel, DataType } from '@fourierft/onnx'
import { SHAPES } from '../../__fixtures__/two-layers.js'

/** @param phase models with another phase have other weights */
export function smallModel(phase = 0): Uint8Array {
  const initializers = Object.entries(SHAPES).map(([module, [outputs, inputs]], i) => {
    const weight = Float32Array.from({ length: outputs * inputs }, (_, p) => 0.4 * Math.sin(1.3 * p + i + phase))
    const data = new Uint8Array(weight.buffer)
    return { name: `${module}.weight`, dims: [inputs, outputs], dataType: DataType.float, data }
  })
  const value = (name: string, width: number) => ({
    name,
    dataType: DataType.float,
    dims: ['batch', 'tokens', width],
  })
  const nodes = [
    { name: '/block/first/MatMul', opType: 'MatMul', inputs: ['x', 'block.first.weight'], outputs: ['h'] },
    { name: '/tanh', opType: 'Tanh', inputs: ['h'], outputs: ['t'] },
    { name: '/block/second/MatMul', opType: 'MatMul', inputs: ['t', 'block.second.weight'], outputs: ['y'] },
  ]
  const graph = { name: 'main', nodes, inputs: [value('x', 12)], outputs: [value('y', 8)], initializers }
  return createModel(graph, { opset: 17 }).toBytes()
}
