/** `Dense`: `y = activation(x · kernel + bias)`. */
import { cast } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import { type Activation, type AnyLayer, isActivation, isWeight, layerFields } from '../layers-internals.js'
import { adaptedLinear } from './adapted-linear.js'
import type { LayerKind } from './layer-kind.js'

interface DenseParts {
  /** `[in, out]` */
  readonly kernel: LayerVariable
  readonly bias: LayerVariable | null
  readonly activation: Activation
}

export function denseKind(layer: AnyLayer): LayerKind {
  const { kernel, bias, activation } = layerFields<DenseParts>(layer, {
    kernel: isWeight,
    bias: (bias) => bias === null || isWeight(bias),
    activation: isActivation,
  })
  const [inputs, outputs] = kernel.shape as [number, number]
  return {
    shape: [outputs, inputs],
    kernel,
    bias,
    isLinear: true,
    allowsAdapterPerRow: true,
    apply: (x, weights, deltas, options) =>
      activation.apply(
        adaptedLinear(x.dtype === 'float32' ? x : cast(x, 'float32'), weights, deltas, options),
      ),
  }
}
