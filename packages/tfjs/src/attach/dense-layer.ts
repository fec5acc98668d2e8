/** `Dense` as a kind of layer: `y = activation(x · kernel + bias)`. */
import { cast } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import type { LayerKind } from './layer-kind.js'
import { type Activation, type AnyLayer, internals, isActivation, isWeight } from './layers-internals.js'
import { linear } from './linear.js'

interface DenseParts {
  /** `[in, out]` */
  readonly kernel: LayerVariable
  readonly bias: LayerVariable | null
  readonly activation: Activation
}

export function denseLayer(layer: AnyLayer): LayerKind {
  const { kernel, bias, activation } = internals<DenseParts>(layer, {
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
    takesRows: true,
    apply: (x, weights, changes, options) =>
      activation.apply(linear(x.dtype === 'float32' ? x : cast(x, 'float32'), weights, changes, options)),
  }
}
