/** The inputs of an attached model for the numbers of adapters. */
import type { AttachedInputs } from '@fourierft/onnx'
import type { SlotInputs } from './adapter-slots.js'

/** Returns the inputs for coefficients, and for the weights and biases of replaced layers. The inputs for rows are not among them. */
export function parameterInputs({ coefficients, weights }: AttachedInputs): string[] {
  return [...coefficients.values(), ...weightInputs(weights)]
}

/** Returns all inputs that a session with slots has in addition to those of the original model. */
export function adapterInputs({ rows, coefficients, joined, weights }: SlotInputs): string[] {
  const ofCoefficients = joined?.flatMap(({ values, counts }) => [values, counts]) ?? coefficients.values()
  const rowsOfWeights = Array.from(weights.values(), (names) => names.rows)
  return [rows, ...ofCoefficients, ...weightInputs(weights), ...rowsOfWeights]
}

function weightInputs(weights: AttachedInputs['weights']): string[] {
  return Array.from(weights.values(), ({ weight, bias }) => (bias ? [weight, bias] : [weight])).flat()
}
