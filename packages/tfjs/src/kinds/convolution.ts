/**
 * `Conv1D` and `Conv2D`. A kernel `[kh, kw, in, out]` is the matrix `[kh·kw·in, out]` that every patch of the input is multiplied by.
 * The adapter's shape is therefore `[out, kh·kw·in]`, and its inputs are indexed in the order of the kernel: `(i·kw + j)·in + channel`.
 * PEFT's FourierFT adapts no convolutions, so it defines no order.
 *
 * A 1×1 kernel is a linear layer at every pixel and supports all that `Dense` supports. For larger kernels the convolution uses `W + ΔW`,
 * because the other strategies would have to transform patches, which are `kh·kw` times as large as the input.
 */
import { add, cast, reshape, type Tensor, type Tensor4D, transpose } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import { type Activation, type AnyLayer, isActivation, isWeight, layerFields } from '../layers-internals.js'
import { type ConvolutionGeometry, differentiableConv2d } from '../ops/differentiable-conv2d.js'
import { denseKernel } from '../strategies/dense.js'
import { adaptedLinear } from './adapted-linear.js'
import {
  type AppliedWeights,
  type ApplyOptions,
  applyNormalised,
  type KernelDelta,
  type LayerKind,
} from './layer-kind.js'

export interface ConvolutionParts {
  /** `[kh, kw, in, out]` or `[k, in, out]` */
  readonly kernel: LayerVariable
  readonly bias: LayerVariable | null
  readonly activation: Activation
  readonly strides: readonly number[]
  readonly dilationRate: readonly number[]
  readonly padding: 'same' | 'valid' | 'causal'
  readonly dataFormat: 'channelsFirst' | 'channelsLast'
}

/** Returns undefined for causal padding: layers of TensorFlow.js accept it but cannot run with it. */
export function convolutionKind(layer: AnyLayer): LayerKind | undefined {
  const parts = layerFields<ConvolutionParts>(layer, {
    kernel: isWeight,
    bias: (bias) => bias === null || isWeight(bias),
    activation: isActivation,
    strides: Array.isArray,
    dilationRate: Array.isArray,
    padding: (padding) => typeof padding === 'string',
    dataFormat: (format) => format === 'channelsFirst' || format === 'channelsLast',
  })
  return convolutionKindOfParts(parts)
}

/** Returns the kind of a layer, or of a node of a graph, that convolves with these parts; undefined for causal padding. */
export function convolutionKindOfParts(parts: ConvolutionParts): LayerKind | undefined {
  const { kernel, bias, activation, strides, dilationRate, padding, dataFormat } = parts
  if (padding === 'causal') return undefined
  const kernelSizes = kernel.shape.slice(0, -2) as number[]
  const [inputs, outputs] = kernel.shape.slice(-2) as [number, number]
  const patch = kernelSizes.reduce((product, size) => product * size, inputs)
  const isChannelsFirst = dataFormat === 'channelsFirst'
  const isPointwise = [...kernelSizes, ...strides].every((size) => size === 1)
  const geometry = { strides: heightAndWidth(strides), dilations: heightAndWidth(dilationRate), padding }
  return {
    shape: [outputs, patch],
    kernel,
    bias,
    isLinear: false,
    allowsAdapterPerRow: isPointwise,
    apply: (input, weights, deltas, options) => {
      const float = cast(input, 'float32')
      const x = isChannelsFirst ? transpose(float, [0, ...kernelSizes.map((_, axis) => axis + 2), 1]) : float
      const y = isPointwise
        ? adaptedLinear(
            x,
            { ...weights, kernel: reshape(weights.kernel, [inputs, outputs]) },
            deltas,
            options,
          )
        : changedConvolution(x, weights, deltas, options, geometry)
      // With channels first, TensorFlow.js's Conv1D still returns channels last.
      return activation.apply(isChannelsFirst && kernelSizes.length === 2 ? transpose(y, [0, 3, 1, 2]) : y)
    },
  }
}

/** Computes `x * (W + ΔW) + b` for `x` `[batch, height, width, in]` or `[batch, width, in]`. */
function changedConvolution(
  x: Tensor,
  { kernel, bias }: AppliedWeights,
  deltas: readonly KernelDelta[],
  { tables }: ApplyOptions,
  geometry: ConvolutionGeometry,
): Tensor {
  const changed = deltas.reduce((sum, delta) => {
    const { entries } = delta.spec
    const dense = applyNormalised(delta, (c) => denseKernel(c, entries, tables))
    return add(sum, reshape(dense, kernel.shape))
  }, kernel)
  const y = differentiableConv2d(toImage(x), toFilter(changed), geometry)
  const output = reshape(y, x.rank === 4 ? y.shape : [y.shape[0], y.shape[2], y.shape[3]])
  return bias ? add(output, bias) : output
}

/** Reshapes the input of Conv1D for Conv2D: an image of height 1. */
function toImage(x: Tensor): Tensor4D {
  if (x.rank === 4) return x as Tensor4D
  const [batch, width, channels] = x.shape as [number, number, number]
  return reshape(x, [batch, 1, width, channels])
}

function toFilter(kernel: Tensor): Tensor4D {
  if (kernel.rank === 4) return kernel as Tensor4D
  const [width, inputs, outputs] = kernel.shape as [number, number, number]
  return reshape(kernel, [1, width, inputs, outputs])
}

function heightAndWidth(sizes: readonly number[]): [number, number] {
  const [first = 1, second] = sizes
  return second === undefined ? [1, first] : [first, second]
}
