/** Operators on images and sound: convolutions, pooling, resizing. */
import type { OnnxNode } from '../../model/graph.js'
import { DataType } from '../../model/schema.js'
import type { OnnxTensor } from '../../model/tensor.js'
import type { Dim, Dims, Sizes } from '../dims.js'
import {
  forOperators,
  type InferOutputs,
  integersIn,
  type KnownValue,
  MAX_INTEGERS,
  type OperatorCall,
  type OperatorTable,
  sizesIn,
} from '../known-value.js'
import { Size } from '../size.js'

const ONE = Size.of(1)

export const IMAGES: OperatorTable = [
  ['Conv', conv(1)],
  ['FusedConv', conv(1)],
  ['ConvInteger', conv(1)],
  ['QLinearConv', conv(3)],
  ['ConvTranspose', convTranspose],
  ['MaxPool', pool],
  ['AveragePool', pool],
  ['LpPool', pool],
  ...forOperators(`GlobalAveragePool GlobalMaxPool GlobalLpPool`, globalPool),
  ['Resize', resize],
  ['Upsample', resize],
  ['DepthToSpace', rearrangeBlocks],
  ['SpaceToDepth', rearrangeBlocks],
]

/** @param weight the index of the weight among the inputs */
function conv(weight: number): InferOutputs {
  return ({ node, inputs, sizes }) => {
    const [x, w] = [inputs[0]?.dims, inputs[weight]?.dims]
    const [batch] = x ?? []
    if (!x || !w?.[0] || !batch) return []
    const kernel = w.slice(2).map((dim) => dim.size)
    return [{ dims: [batch, w[0], ...windows(node, x.slice(2), kernel, sizes)] }]
  }
}

function pool({ node, inputs: [x], sizes }: OperatorCall): readonly KnownValue[] {
  const kernel = sizesIn(node, 'kernel_shape') ?? []
  if (!x?.dims) return []
  const known = { dims: [...x.dims.slice(0, 2), ...windows(node, x.dims.slice(2), kernel, sizes)] }
  return [known, known]
}

/** Returns the number of positions of the kernel along each axis. */
function windows(node: OnnxNode, spatialDims: Dims, kernel: readonly Size[], sizes: Sizes): Dim[] {
  const list = (name: string) => integersIn(node, name) ?? []
  const [pads, strides, dilations] = [list('pads'), list('strides'), list('dilations')]
  const isAutomatic = !['', 'NOTSET'].includes(node.attribute('auto_pad')?.string ?? '')
  const roundsUp = Boolean(node.attribute('ceil_mode')?.int)
  return spatialDims.map(({ size }, i) => {
    const width = kernel[i]?.value
    const stride = strides[i] ?? 1
    const padding = (pads[i] ?? 0) + (pads[i + spatialDims.length] ?? 0)
    if (width === undefined || isAutomatic || roundsUp)
      return { size: sizes.computed(`windows of ${stride} ${isAutomatic} ${roundsUp}`, size) }
    const span = sizes.plus(size, Size.of(padding - (dilations[i] ?? 1) * (width - 1) - 1))
    return { size: sizes.plus(stride === 1 ? span : floored(span, stride, sizes), ONE) }
  })
}

/** Returns the quotient, rounded down. */
function floored(a: Size, divisor: number, sizes: Sizes): Size {
  return a.value === undefined ? sizes.quotient(a, Size.of(divisor)) : Size.of(Math.floor(a.value / divisor))
}

function convTranspose({ node, inputs: [x, w], sizes }: OperatorCall): readonly KnownValue[] {
  const [batch, , ...spatialDims] = x?.dims ?? []
  const channels = w?.dims?.[1]?.size
  if (!batch || !channels) return []
  const groups = Size.of(Number(node.attribute('group')?.int ?? 1))
  const spread = spatialDims.map(({ size }) => ({ size: sizes.computed(`spread ${node.outputs[0]}`, size) }))
  return [{ dims: [batch, sizes.dim(sizes.times(channels, groups)), ...spread] }]
}

function globalPool({ inputs: [x], sizes }: OperatorCall): readonly KnownValue[] {
  return x?.dims ? [{ dims: x.dims.map((dim, i) => (i < 2 ? dim : sizes.number(1))) }] : []
}

function resize({ node, inputs, constants, sizes }: OperatorCall): readonly KnownValue[] {
  const [x] = inputs
  if (!x?.dims) return []
  const axes = node.attribute('axes')?.ints
  if (axes && axes.length > 0) return []
  const target = inputs[3]?.integers
  const scales = floatsOf(constants[inputs.length === 2 ? 1 : 2])
  return [
    {
      dims: x.dims.map((dim, i) => {
        const size = target?.[i]
        if (size) return size.equals(dim.size) ? dim : dim.rows ? { size: sizes.unknown() } : sizes.dim(size)
        if (scales?.[i] === 1) return dim
        return dim.rows
          ? { size: sizes.unknown() }
          : { size: sizes.computed(`resized ${scales?.[i]}`, dim.size) }
      }),
    },
  ]
}

function floatsOf(tensor: OnnxTensor | undefined): readonly number[] | undefined {
  const bytes = tensor?.dataType === DataType.float ? tensor.data() : undefined
  return bytes && bytes.length <= 4 * MAX_INTEGERS ? [...new Float32Array(bytes.slice().buffer)] : undefined
}

function rearrangeBlocks({ node, inputs: [x], sizes }: OperatorCall): readonly KnownValue[] {
  const [batch, ...others] = x?.dims ?? []
  if (!batch) return []
  const name = `${node.opType} ${node.attribute('blocksize')?.int}`
  return [{ dims: [batch, ...others.map(({ size }, i) => ({ size: sizes.computed(`${name} ${i}`, size) }))] }]
}
