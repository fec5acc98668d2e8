/**
 * Convolution with a gradient for its input and its kernel on every backend. TensorFlow.js computes the gradient for the kernel with an
 * operator that wasm lacks, and has no gradient for dilated convolutions.
 */
import {
  backend_util,
  concat,
  conv2d,
  conv2dTranspose,
  pad,
  reshape,
  slice,
  stridedSlice,
  type Tensor,
  type Tensor4D,
} from '@tensorflow/tfjs-core'
import { transposedTimes } from './matrix-products.js'
import { withGradient } from './with-gradient.js'

/** Vertical, then horizontal. TensorFlow.js does not combine strides above 1 with dilations above 1. */
export interface ConvolutionGeometry {
  readonly strides: [number, number]
  readonly dilations: [number, number]
  readonly padding: 'same' | 'valid'
}

/**
 * Convolves, with gradients for both inputs.
 *
 * @param x `[batch, height, width, in]`
 * @param kernel `[kh, kw, in, out]`
 */
export function differentiableConv2d(x: Tensor4D, kernel: Tensor4D, geometry: ConvolutionGeometry): Tensor4D {
  const { strides, dilations, padding } = geometry
  return withGradient(
    [x, kernel],
    () => ({ value: conv2d(x, kernel, strides, padding, 'NHWC', dilations), saved: [x, kernel] }),
    (gradient, saved) => {
      const [x, kernel] = saved as [Tensor4D, Tensor4D]
      const dilated = dilatedKernel(kernel, dilations)
      return [
        conv2dTranspose(gradient as Tensor4D, dilated, x.shape, strides, padding),
        kernelGradient(x, gradient, kernel.shape, geometry),
      ]
    },
  ) as Tensor4D
}

/** Computes `∂L/∂W[i, j] = X_ijᵀ · g`, where `X_ij` contains, for each output pixel, the pixel that `W[i, j]` multiplies. */
function kernelGradient(
  x: Tensor4D,
  gradient: Tensor,
  shape: Tensor4D['shape'],
  { strides, dilations, padding }: ConvolutionGeometry,
): Tensor {
  const [height, width, inputs, outputs] = shape
  const { padInfo, outHeight, outWidth } = backend_util.computeConv2DInfo(
    x.shape,
    shape,
    strides,
    dilations,
    padding,
  )
  const { top, bottom, left, right } = padInfo
  const padded = pad(x, [
    [0, 0],
    [top, bottom],
    [left, right],
    [0, 0],
  ])
  const flat = reshape(gradient, [-1, outputs])
  const parts: Tensor[] = []
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      const [down, across] = [i * dilations[0], j * dilations[1]]
      const end = [down + (outHeight - 1) * strides[0] + 1, across + (outWidth - 1) * strides[1] + 1]
      const pixels = stridedSlice(
        padded,
        [0, down, across, 0],
        [x.shape[0], ...end, inputs],
        [1, ...strides, 1],
      )
      parts.push(transposedTimes(reshape(pixels, [-1, inputs]), flat))
    }
  }
  return reshape(concat(parts), shape)
}

/** Writes the zeros of a dilated kernel between its rows and columns. */
function dilatedKernel(kernel: Tensor4D, [down, across]: ConvolutionGeometry['dilations']): Tensor4D {
  if (down === 1 && across === 1) return kernel
  const [height, width, inputs, outputs] = kernel.shape
  // One axis at a time: WebGL pads tensors of rank 4 at most.
  const rows = pad(reshape(kernel, [height, 1, width * inputs * outputs]), [
    [0, 0],
    [0, down - 1],
    [0, 0],
  ])
  const columns = pad(reshape(rows, [height * down, width, 1, inputs * outputs]), [
    [0, 0],
    [0, 0],
    [0, across - 1],
    [0, 0],
  ])
  return slice(
    reshape(columns, [height * down, width * across, inputs, outputs]),
    [0, 0, 0, 0],
    [(height - 1) * down + 1, (width - 1) * across + 1, inputs, outputs],
  ) as Tensor4D
}
