/** A model with a cache, as decoders have it: present = [past; x·A] along the tokens, y = present·B, with the modules `block.first` and `block.second`. */
import { createModel, DataType } from '@fourierft/onnx'
import { SHAPES } from './two-layers.js'

export function withCache(): Uint8Array {
  const initializers = Object.entries(SHAPES).map(([module, [outputs, inputs]], i) => {
    const weight = Float32Array.from({ length: outputs * inputs }, (_, p) => Math.sin(1.3 * p + i))
    const data = new Uint8Array(weight.buffer)
    return { name: `${module}.weight`, dims: [inputs, outputs], dataType: DataType.float, data }
  })
  const value = (name: string, tokens: string, width: number) => ({
    name,
    dataType: DataType.float,
    dims: ['batch', tokens, width],
  })
  const nodes = [
    { name: '/block/first/MatMul', opType: 'MatMul', inputs: ['x', 'block.first.weight'], outputs: ['new'] },
    {
      name: '/concat',
      opType: 'Concat',
      inputs: ['past', 'new'],
      outputs: ['present'],
      attributes: { axis: { int: 1 } },
    },
    {
      name: '/block/second/MatMul',
      opType: 'MatMul',
      inputs: ['present', 'block.second.weight'],
      outputs: ['y'],
    },
  ]
  const inputs = [value('x', 'tokens', 12), value('past', 'past_tokens', 20)]
  const outputs = [value('y', 'all_tokens', 8), value('present', 'all_tokens', 20)]
  return createModel({ name: 'main', nodes, inputs, outputs, initializers }, { opset: 17 }).toBytes()
}
