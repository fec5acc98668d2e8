/** A model with a dynamic batch: y = (Relu(x)·A)·B, with the modules `block.first` and `block.second`. */
import { DataType, readModel } from '@fourierft/onnx'

/** y = Relu(x), opset 17. */
const RELU = 'CAg6KgoMCgF4EgF5IgRSZWx1EgRtYWluWgkKAXgSBAoCCAFiCQoBeRIECgIIAUIECgAQEQ=='

/** The shapes of the weights, `[out, in]`. */
export const SHAPES = { 'block.first': [20, 12], 'block.second': [8, 20] } as const

export function twoLayers(): Uint8Array {
  const bytes = Uint8Array.from(atob(RELU), (character) => character.charCodeAt(0))
  const model = readModel(bytes, { file: 'two-layers.onnx' })
  const [relu] = model.graph.nodes
  if (!relu) throw new Error('the model has no node')
  relu.setOutput(0, 'hidden.0')
  const layers = Object.entries(SHAPES).map(([module, [outputs, inputs]], i) => {
    const weight = Float32Array.from({ length: outputs * inputs }, (_, p) => Math.sin(1.3 * p + i))
    model.graph.addInitializer({
      name: `${module}.weight`,
      dims: [inputs, outputs],
      dataType: DataType.float,
      data: new Uint8Array(weight.buffer),
    })
    return {
      name: `/${module.replace('.', '/')}/MatMul`,
      opType: 'MatMul',
      inputs: [`hidden.${i}`, `${module}.weight`],
      outputs: [i === 1 ? 'y' : `hidden.${i + 1}`],
    }
  })
  model.graph.insertAfter(relu, layers)
  return model.toBytes()
}
