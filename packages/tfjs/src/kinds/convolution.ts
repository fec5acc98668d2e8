/**
 * `Conv1D` and `Conv2D` as kinds of layers. A kernel `[kh, kw, in, out]` is the matrix `[kh·kw·in, out]` that every patch of the input is
 * multiplied by, so the adapter's shape is `[out, kh·kw·in]`, its inputs counted as TensorFlow.js stores them: `(i·kw + j)·in + channel`.
 * PEFT's FourierFT has no convolutions whose order this could follow.
 *
 * A 1×1 kernel is a linear layer at every pixel and has all that `Dense` has. A larger one is convolved with in the form `W + ΔW`, for
 * the patches that the other strategies would transform are `kh·kw` times the input.
 */
import { add, cast, reshape, type Tensor, type Tensor4D, transpose } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import { type Activation, type AnyLayer, isActivation, isWeight, layerFields } from '../layers-internals.js'
import { type ConvolutionGeometry, convolution } from '../ops/differentiable-conv2d.js'
import { denseKernel } from '../strategies/dense.js'
import { adaptedLinear } from './adapted-linear.js'
import {
  type AppliedWeights,
  type ApplyOptions,
  applyNormalised,
  type KernelChange,
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

/** Undefined for causal padding, which TensorFlow.js's layers accept and cannot run. */
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

/** The kind of whatever convolves like such a layer. Undefined for causal padding. */
export function convolutionKindOfParts(parts: ConvolutionParts): LayerKind | undefined {
  const { kernel, bias, activation, strides, dilationRate, padding, dataFormat } = parts
  if (padding === 'causal') return undefined
  const sizes = kernel.shape.slice(0, -2) as number[]
  const [inputs, outputs] = kernel.shape.slice(-2) as [number, number]
  const patch = sizes.reduce((product, size) => product * size, inputs)
  const channelsFirst = dataFormat === 'channelsFirst'
  const isPointwise = [...sizes, ...strides].every((size) => size === 1)
  const geometry = { strides: twoOf(strides), dilations: twoOf(dilationRate), padding }
  return {
    shape: [outputs, patch],
    kernel,
    bias,
    isLinear: false,
    allowsAdapterPerRow: isPointwise,
    apply: (given, weights, changes, options) => {
      const float = cast(given, 'float32')
      const x = channelsFirst ? transpose(float, [0, ...sizes.map((_, axis) => axis + 2), 1]) : float
      const y = isPointwise
        ? adaptedLinear(
            x,
            { ...weights, kernel: reshape(weights.kernel, [inputs, outputs]) },
            changes,
            options,
          )
        : convolved(x, weights, changes, options, geometry)
      // TensorFlow.js's Conv1D takes its channels first, and gives them last.
      return activation.apply(channelsFirst && sizes.length === 2 ? transpose(y, [0, 3, 1, 2]) : y)
    },
  }
}

/** `x * (W + ΔW) + b` for `x` `[batch, height, width, in]` or `[batch, width, in]`. */
function convolved(
  x: Tensor,
  { kernel, bias }: AppliedWeights,
  changes: readonly KernelChange[],
  { tables }: ApplyOptions,
  geometry: ConvolutionGeometry,
): Tensor {
  const changed = changes.reduce((sum, change) => {
    const { entries } = change.spec
    const delta = applyNormalised(change, (c) => denseKernel(c, entries, tables))
    return add(sum, reshape(delta, kernel.shape))
  }, kernel)
  const y = convolution(image(x), filter(changed), geometry)
  const output = reshape(y, x.rank === 4 ? y.shape : [y.shape[0], y.shape[2], y.shape[3]])
  return bias ? add(output, bias) : output
}

/** A line of pixels is an image of height 1. */
function image(x: Tensor): Tensor4D {
  if (x.rank === 4) return x as Tensor4D
  const [batch, width, channels] = x.shape as [number, number, number]
  return reshape(x, [batch, 1, width, channels])
}

function filter(kernel: Tensor): Tensor4D {
  if (kernel.rank === 4) return kernel as Tensor4D
  const [width, inputs, outputs] = kernel.shape as [number, number, number]
  return reshape(kernel, [1, width, inputs, outputs])
}

function twoOf(sizes: readonly number[]): [number, number] {
  const [first = 1, second] = sizes
  return second === undefined ? [1, first] : [first, second]
}
