/** `feedsError`: explains why ONNX Runtime has rejected the feeds of a run. Feeds are checked only after a run has failed. */
import { FourierFTError } from '@fourierft/core'
import type { InferenceSession, Tensor } from 'onnxruntime-common'

/** The inputs of the original model. */
interface Inputs {
  readonly inputNames: readonly string[]
  /** Empty if the version of ONNX Runtime is older than 1.22. */
  readonly inputMetadata: readonly InferenceSession.ValueMetadata[]
}

/**
 * Returns an error that names the wrong input; undefined if the feeds are not the cause. `INVALID_OPTION`: the feeds are not an object, an input is
 * missing or unknown, a value is not a tensor, or its type is wrong. `SHAPE_MISMATCH`: a rank or size is wrong, or a named dimension has two sizes.
 * ONNX Runtime can allow two sizes, so this message quotes ONNX Runtime's.
 *
 * @param cause the error of ONNX Runtime
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
  const values = new Map(Object.entries(feeds).filter(([, value]) => value !== undefined))
  const missing = inputNames.find((name) => !values.has(name))
  const unknown = [...values.keys()].find((name) => !inputNames.includes(name))
  const wrongName = missing ?? unknown
  if (wrongName !== undefined)
    return new FourierFTError(
      'INVALID_OPTION',
      `${missing === undefined ? `the model has no input ${wrongName}` : `input ${wrongName} is missing`}; ` +
        `expected ${inputNames.join(', ')}; received ${[...values.keys()].join(', ') || 'none'}`,
      { tensor: wrongName, expected: inputNames, received: [...values.keys()], cause },
    )
  /** The size of each named dimension, and the first input that has the dimension. */
  const sizes = new Map<string, { readonly size: number; readonly input: string }>()
  for (const input of inputMetadata) {
    const value = values.get(input.name)
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
    // ONNX Runtime gives an unknown shape as an empty one.
    if (shape.length === 0) continue
    const hasWrongSize = shape.some(
      (size, axis) => typeof size === 'number' && size >= 0 && size !== dims[axis],
    )
    if (hasWrongSize || shape.length !== dims.length)
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

/** Returns whether a value is a tensor of any copy of ONNX Runtime. `instanceof` recognises only the tensors of one copy. */
function isTensor(value: unknown): value is Tensor {
  return (
    typeof value === 'object' &&
    value !== null &&
    'dims' in value &&
    Array.isArray(value.dims) &&
    'type' in value
  )
}
