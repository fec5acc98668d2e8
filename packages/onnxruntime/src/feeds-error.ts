/** `feedsError`: explains why ONNX Runtime has rejected the feeds of a run. Feeds are not checked before that. */
import { FourierFTError } from '@fourierft/core'
import type { InferenceSession, Tensor } from 'onnxruntime-common'

/** The inputs of the original model. */
interface Inputs {
  readonly inputNames: readonly string[]
  /** Empty if ONNX Runtime is older than 1.22. */
  readonly inputMetadata: readonly InferenceSession.ValueMetadata[]
}

/**
 * The error that names the input: `INVALID_OPTION` (feeds that are not an object, a missing or unknown input, a value that is not a tensor, a
 * wrong type) or `SHAPE_MISMATCH` (a wrong rank or size, or two sizes for one named dimension; since ONNX Runtime can allow the latter, the
 * message quotes its own).
 *
 * @param cause the error of ONNX Runtime
 * @returns undefined if the feeds are not the cause
 */
export function feedsError(
  feeds: unknown,
  { inputNames, inputMetadata }: Inputs,
  cause: unknown,
): FourierFTError | undefined {
  if (typeof feeds !== 'object' || feeds === null || Array.isArray(feeds) || isTensor(feeds))
    return new FourierFTError('INVALID_OPTION', 'feeds: expected an object with a tensor for each input', {
      option: 'feeds',
      expected: inputNames,
      received: feeds,
      cause,
    })
  const fed = new Map(Object.entries(feeds).filter(([, value]) => value !== undefined))
  const missing = inputNames.find((name) => !fed.has(name))
  const unknown = [...fed.keys()].find((name) => !inputNames.includes(name))
  const wrong = missing ?? unknown
  if (wrong !== undefined)
    return new FourierFTError(
      'INVALID_OPTION',
      `${missing === undefined ? `the model has no input ${wrong}` : `input ${wrong} is missing`}; ` +
        `expected ${inputNames.join(', ')}; received ${[...fed.keys()].join(', ') || 'none'}`,
      { tensor: wrong, expected: inputNames, received: [...fed.keys()], cause },
    )
  /** The size of each named dimension, and the input that has it. */
  const sizes = new Map<string, { readonly size: number; readonly input: string }>()
  for (const input of inputMetadata) {
    const value = fed.get(input.name)
    if (!input.isTensor) continue
    const { name, type, shape } = input
    const expected = `${type}${shape.length > 0 ? ` [${shape.join(', ')}]` : ''}`
    if (!isTensor(value))
      return new FourierFTError(
        'INVALID_OPTION',
        `input ${name}: expected a tensor, ${expected}; received ${value === null ? 'null' : typeof value}`,
        { tensor: name, expected, received: value, cause },
      )
    const { dims } = value
    const received = `${value.type} [${dims.join(', ')}]`
    const mismatch = `input ${name}: expected ${expected}; received ${received}`
    if (value.type !== type)
      return new FourierFTError('INVALID_OPTION', mismatch, {
        tensor: name,
        expected: type,
        received: value.type,
        cause,
      })
    // An empty shape is an unknown one.
    if (shape.length === 0) continue
    const differs = shape.some((size, axis) => typeof size === 'number' && size >= 0 && size !== dims[axis])
    if (differs || shape.length !== dims.length)
      return new FourierFTError('SHAPE_MISMATCH', mismatch, {
        tensor: name,
        expected: shape,
        received: dims,
        cause,
      })
    for (const [axis, dimension] of shape.entries()) {
      if (typeof dimension === 'number' || dimension === '') continue
      const size = dims[axis]
      const first = sizes.get(dimension)
      if (first === undefined) sizes.set(dimension, { size, input: name })
      else if (first.size !== size)
        return new FourierFTError(
          'SHAPE_MISMATCH',
          `${mismatch}, but ${dimension} is ${first.size} in input ${first.input}. ONNX Runtime: ${String(cause)}`,
          { tensor: name, expected: first.size, received: size, cause },
        )
    }
  }
  return undefined
}

/** `instanceof` would miss the tensors of another copy of ONNX Runtime. */
function isTensor(value: unknown): value is Tensor {
  return (
    typeof value === 'object' &&
    value !== null &&
    'dims' in value &&
    Array.isArray(value.dims) &&
    'type' in value
  )
}
