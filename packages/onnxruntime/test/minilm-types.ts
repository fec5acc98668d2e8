/** MiniLM with 8-bit weights, and in float16: the conversions of the usual tools, in the few forms that its file needs. */
import { decodeFloats, encodeFloats } from '@fourierft/core'
import { DataType, type NewTensor, type OnnxModel, type OnnxTensor, readModel } from '@fourierft/onnx'

/** The largest number of float16. Masks have lower ones, and times 0 an infinity would be NaN. */
const MAX_HALF = 65504

const numbersOf = (tensor: OnnxTensor): Float32Array => {
  const bytes = tensor.data()
  if (!bytes) throw new Error(`the tensor ${tensor.name} has no data in the file`)
  return decodeFloats({ dtype: 'F32', bytes }) as Float32Array
}

/**
 * Replaces each product with a weight by `DynamicQuantizeLinear` and `MatMulInteger`. A weight has 255 steps, with zero in the middle: its scale is
 * max|w|/127.
 */
export function inEightBits(bytes: Uint8Array): Uint8Array {
  const model = readModel(bytes, { file: 'minilm-q8.onnx' })
  const { graph } = model
  for (const node of graph.nodes.filter(({ opType }) => opType === 'MatMul')) {
    const [x = '', weightName = ''] = node.inputs
    const weight = graph.initializers.get(weightName)
    if (!weight) continue
    const values = numbersOf(weight)
    const scale = Math.fround(values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127)
    const name = (part: string) => `${weightName}_${part}`
    graph.addInitializer({
      name: name('quantized'),
      dims: weight.dims,
      dataType: DataType.uint8,
      data: Uint8Array.from(values, (value) => 128 + Math.round(Math.fround(value / scale))),
    })
    graph.addInitializer({
      name: name('zero_point'),
      dims: [],
      dataType: DataType.uint8,
      data: Uint8Array.of(128),
    })
    const scaleBytes = new Uint8Array(Float32Array.of(scale).buffer)
    graph.addInitializer({ name: name('scale'), dims: [], dataType: DataType.float, data: scaleBytes })
    const part = (suffix: string) => `${node.name}_${suffix}`
    graph.replaceNode(node, [
      {
        name: part('quantize'),
        opType: 'DynamicQuantizeLinear',
        inputs: [x],
        outputs: ['q', 'scale', 'zero'].map(part),
      },
      {
        name: part('quant'),
        opType: 'MatMulInteger',
        inputs: [part('q'), name('quantized'), part('zero'), name('zero_point')],
        outputs: [part('integers')],
      },
      {
        name: part('cast'),
        opType: 'Cast',
        inputs: [part('integers')],
        outputs: [part('floats')],
        attributes: { to: { int: DataType.float } },
      },
      {
        name: part('scales'),
        opType: 'Mul',
        inputs: [part('scale'), name('scale')],
        outputs: [part('factor')],
      },
      { name: part('mul'), opType: 'Mul', inputs: [part('floats'), part('factor')], outputs: node.outputs },
    ])
  }
  return new Uint8Array(model.toBytes())
}

/** Makes all numbers float16. @param output the only output that is kept */
export function inHalf(bytes: Uint8Array, output: string): Uint8Array {
  const model = readModel(bytes, { file: 'minilm-float16.onnx' })
  const { graph } = model
  const floats = [...graph.initializers.values()].filter(({ dataType }) => dataType === DataType.float)
  const halves = floats.map((tensor) => ({ ...halfOf(tensor), name: tensor.name }))
  graph.removeInitializers(new Set(floats.map(({ name }) => name)))
  for (const half of halves) graph.addInitializer(half)
  convertAttributes(model)
  graph.removeValueInfos(new Set(graph.valueInfos.map(({ name }) => name)))
  graph.removeOutputs(new Set(graph.outputs.map(({ name }) => name)))
  graph.addOutput({ name: output })
  return new Uint8Array(model.toBytes())
}

function convertAttributes({ graph }: OnnxModel): void {
  for (const node of graph.nodes) {
    const tensor = node.attribute('value')?.tensor
    if (tensor?.dataType === DataType.float) node.setAttribute('value', { tensor: halfOf(tensor) })
    if (node.opType === 'Cast' && Number(node.attribute('to')?.int) === DataType.float)
      node.setAttribute('to', { int: DataType.float16 })
  }
}

function halfOf(tensor: OnnxTensor): NewTensor {
  const values = numbersOf(tensor).map((value) => Math.max(-MAX_HALF, Math.min(MAX_HALF, value)))
  return { dims: tensor.dims, dataType: DataType.float16, data: encodeFloats(values, 'F16') }
}
