/**
 * `EinsumDense`, the layer type of the projections in `MultiHeadAttention`. If its equation is that of a dense layer, such as `abc,cde->abde`, the kernel
 * `[in…, out…]` is a matrix `[in, out]` with more dimensions. The adapter's shape is `[out, in]`, and inputs and outputs are indexed
 * in the order of the kernel: `head · size + channel` for the query projection of attention.
 */
import { cast, reshape } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import { type Activation, type AnyLayer, isActivation, isWeight, layerFields } from '../layers-internals.js'
import { provideEinsumGradient } from '../ops/einsum-gradient.js'
import { adaptedLinear } from './adapted-linear.js'
import type { LayerKind } from './layer-kind.js'

interface EinsumDenseParts {
  readonly equation: string
  /** `[in…, out…]` */
  readonly kernel: LayerVariable
  readonly bias: LayerVariable | null
  readonly activation: Activation
}

/** Returns undefined for other equations, and for a bias that is not over all output axes. */
export function einsumDenseKind(layer: AnyLayer): LayerKind | undefined {
  const { equation, kernel, bias, activation } = layerFields<EinsumDenseParts>(layer, {
    equation: (equation) => typeof equation === 'string',
    kernel: isWeight,
    bias: (bias) => bias === null || isWeight(bias),
    activation: isActivation,
  })
  provideEinsumGradient()
  const inputRank = contractedRank(equation)
  if (inputRank === undefined) return undefined
  const dims = kernel.shape as number[]
  const outputDims = dims.slice(inputRank)
  if (bias && String(bias.shape) !== String(outputDims)) return undefined
  const [inputs, outputs] = [size(dims.slice(0, inputRank)), size(outputDims)]
  return {
    shape: [outputs, inputs],
    kernel,
    bias,
    isLinear: true,
    allowsAdapterPerRow: true,
    apply: (x, weights, deltas, options) => {
      const batch = x.shape.slice(0, -inputRank)
      const matrices = {
        ...weights,
        kernel: reshape(weights.kernel, [inputs, outputs]),
        bias: weights.bias && reshape(weights.bias, [outputs]),
      }
      const y = adaptedLinear(reshape(cast(x, 'float32'), [...batch, inputs]), matrices, deltas, options)
      return activation.apply(reshape(y, [...batch, ...outputDims]))
    },
  }
}

/**
 * Returns the number of dimensions at the end of the input that the equation sums over; undefined if it is not the equation of a dense
 * layer (`batch+in,in+out->batch+out`).
 */
function contractedRank(equation: string): number | undefined {
  const [, input = '', kernel = '', output = ''] = /^([a-z]+),([a-z]+)->([a-z]+)$/i.exec(equation) ?? []
  const contracted = [...input].filter((label) => !output.includes(label)).join('')
  const batch = input.slice(0, input.length - contracted.length)
  const outputs = kernel.slice(contracted.length)
  const isDense =
    [batch, contracted, outputs].every((labels) => labels.length > 0) &&
    input === batch + contracted &&
    kernel === contracted + outputs &&
    output === batch + outputs
  return isDense ? contracted.length : undefined
}

function size(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1)
}
