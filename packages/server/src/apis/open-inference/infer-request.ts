/** The JSON of a request to infer, and the rules that hold for every model. */
import * as v from 'valibot'
import { check, invalid, list, oneOf, text } from '../check.js'
import { DATATYPES } from './datatypes.js'

const MAX_TENSORS = 128
const MAX_RANK = 8
const MAX_NAME = 256
/** The largest size of a dimension, and the largest number of bytes of a tensor. */
const MAX_SIZE = 2 ** 31 - 1

const name = v.pipe(text, v.minLength(1, 'is empty'), v.maxLength(MAX_NAME, `is longer than ${MAX_NAME}`))
const size = v.pipe(
  v.number(''),
  v.safeInteger('expected an integer'),
  v.minValue(0, 'is negative'),
  v.maxValue(MAX_SIZE, 'is too large'),
)

const input = v.object(
  {
    name,
    shape: list(size, 0, MAX_RANK),
    datatype: oneOf(DATATYPES),
    parameters: v.optional(
      v.strictObject(
        { binary_data_size: v.optional(size) },
        'expected no parameters of inputs but binary_data_size',
      ),
    ),
    // The elements are checked with the shape.
    data: v.optional(v.custom<readonly unknown[]>(Array.isArray, 'expected an array')),
  },
  '',
)

const output = v.object(
  {
    name,
    parameters: v.optional(
      v.strictObject(
        { binary_data: v.optional(v.boolean('')) },
        'expected no parameters of outputs but binary_data',
      ),
    ),
  },
  '',
)

/** Other fields, such as the `model_name` that KServe's client sends, are ignored. */
const schema = v.object(
  {
    id: v.optional(v.pipe(text, v.maxLength(MAX_NAME, `is longer than ${MAX_NAME}`))),
    // Which parameters there are depends on the model.
    parameters: v.optional(v.record(v.string(), v.unknown(), ''), {}),
    inputs: list(input, 1, MAX_TENSORS),
    outputs: v.optional(list(output, 0, MAX_TENSORS), []),
  },
  '',
)

export type InferRequest = v.InferOutput<typeof schema>

/** Checks a request's JSON. @throws {ServerError} `invalid_value` with the path of the first field that is wrong */
export function parseInferRequest(json: unknown): InferRequest {
  const request = check(schema, json)
  for (const field of ['inputs', 'outputs'] as const) {
    const names = new Set(request[field].map(({ name }) => name))
    if (names.size < request[field].length) throw invalid(field, 'two tensors have the same name')
  }
  return request
}
