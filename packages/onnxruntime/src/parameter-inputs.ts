/** The inputs of an attached model for the numbers of adapters. */
import type { AttachedInputs } from '@fourierft/onnx'

/** Returns the inputs for coefficients, and for the weights and biases of replaced layers. The input `rows` is not among them. */
export function parameterInputs({ coefficients, weights }: AttachedInputs): string[] {
  const ofLayers = Array.from(weights.values(), ({ weight, bias }) => (bias ? [weight, bias] : [weight]))
  return [...coefficients.values(), ...ofLayers.flat()]
}
