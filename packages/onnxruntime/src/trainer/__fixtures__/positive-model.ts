/**
 * A model that computes its own loss, `factor` times the mean of y = tanh(x·A)·B, in float32 or float16. All its numbers are positive and have at
 * most 11 significant bits, so both types have the same weights, and no sum of gradients cancels.
 */
import { encodeFloats } from '@fourierft/core'
import { createModel, DataType } from '@fourierft/onnx'
import { SHAPES } from '../../__fixtures__/two-layers.js'

const value = (i: number) => (1 + ((7 * i) % 13)) / 64

export function positiveModel({ isHalf, factor }: { isHalf: boolean; factor: number }): Uint8Array {
  const dataType = isHalf ? DataType.float16 : DataType.float
  const tensor = (name: string, dims: readonly number[], numbers: readonly number[]) => {
    const data = encodeFloats(Float32Array.from(numbers), isHalf ? 'F16' : 'F32')
    return { name, dims, dataType, data }
  }
  const weights = Object.entries(SHAPES).map(([module, [outputs, inputs]]) => {
    const numbers = Array.from({ length: inputs * outputs }, (_, i) => value(i))
    return tensor(`${module}.weight`, [inputs, outputs], numbers)
  })
  const nodes = [
    { name: '/block/first/MatMul', opType: 'MatMul', inputs: ['x', 'block.first.weight'], outputs: ['h'] },
    { name: '/tanh', opType: 'Tanh', inputs: ['h'], outputs: ['t'] },
    { name: '/block/second/MatMul', opType: 'MatMul', inputs: ['t', 'block.second.weight'], outputs: ['y'] },
    // ONNX Runtime's CPU provider computes chains of arithmetic in float32. An operator that only moves numbers stays in float16, and rounds.
    { name: '/flatten', opType: 'Flatten', inputs: ['y'], outputs: ['flat'] },
    { name: '/scale', opType: 'Mul', inputs: ['flat', 'factor'], outputs: ['z'] },
    { name: '/mean', opType: 'ReduceMean', inputs: ['z'], outputs: ['loss'], attributes: { keepdims: { int: 0 } } },
  ]
  const graph = {
    name: 'main',
    nodes,
    inputs: [{ name: 'x', dataType, dims: ['batch', 'tokens', 12] }],
    outputs: [{ name: 'loss', dataType, dims: [] }],
    initializers: [...weights, tensor('factor', [], [factor])],
  }
  return createModel(graph, { opset: 17 }).toBytes()
}

/** The numbers of x `[4, 5, 12]`. */
export const positiveInput = Array.from({ length: 4 * 5 * 12 }, (_, i) => value(3 * i + 1))
