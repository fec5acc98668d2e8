/** `feedsError`: what is wrong with the feeds of a run that ONNX Runtime has refused. Nothing is looked at before it refuses. */
import { FourierFTError } from '@fourierft/core'
import type { InferenceSession, Tensor } from 'onnxruntime-common'

/** The model's own inputs. */
interface Inputs {
  readonly inputNames: readonly string[]
  /** Empty where ONNX Runtime is older than 1.22. */
  readonly inputMetadata: readonly InferenceSession.ValueMetadata[]
}

/**
 * The error that names the input: `INVALID_OPTION` (feeds that are none, a missing input, an unknown one, no tensor, another type) or
 * `SHAPE_MISMATCH` (another rank or size; two sizes of one named dimension, which ONNX Runtime may allow and is quoted with).
 *
 * @param cause what ONNX Runtime threw
 * @returns undefined where the feeds are not to blame
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
  const given = new Map(Object.entries(feeds).filter(([, value]) => value !== undefined))
  const missing = inputNames.find((name) => !given.has(name))
  const unknown = [...given.keys()].find((name) => !inputNames.includes(name))
  const wrong = missing ?? unknown
  if (wrong !== undefined)
    return new FourierFTError(
      'INVALID_OPTION',
      `${missing === undefined ? `the model has no input ${wrong}` : `input ${wrong} is missing`}; ` +
        `expected ${inputNames.join(', ')}; received ${[...given.keys()].join(', ') || 'none'}`,
      { tensor: wrong, expected: inputNames, received: [...given.keys()], cause },
    )
  /** Named dimensions, and where they were seen first. */
  const sizes = new Map<string, { readonly size: number; readonly input: string }>()
  for (const input of inputMetadata) {
    const value = given.get(input.name)
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
    const told = `input ${name}: expected ${expected}; received ${received}`
    if (value.type !== type)
      return new FourierFTError('INVALID_OPTION', told, {
        tensor: name,
        expected: type,
        received: value.type,
        cause,
      })
    // An unknown shape is an empty one.
    if (shape.length === 0) continue
    const differs = shape.some((size, axis) => typeof size === 'number' && size >= 0 && size !== dims[axis])
    if (differs || shape.length !== dims.length)
      return new FourierFTError('SHAPE_MISMATCH', told, {
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
          `${told}, but ${dimension} is ${first.size} in input ${first.input}. ONNX Runtime: ${String(cause)}`,
          { tensor: name, expected: first.size, received: size, cause },
        )
    }
  }
  return undefined
}

/** Whichever copy of ONNX Runtime it is of. */
function isTensor(value: unknown): value is Tensor {
  return (
    typeof value === 'object' &&
    value !== null &&
    'dims' in value &&
    Array.isArray(value.dims) &&
    'type' in value
  )
}
