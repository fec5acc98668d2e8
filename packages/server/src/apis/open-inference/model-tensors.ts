/** The model's own tensors: `input_ids`, `logits`. They go through `engine.run`, as they are, into shared batches. */

import { FourierFTError } from '@fourierft/core'
import { type InferenceSession, Tensor } from 'onnxruntime-common'
import type { CallOptions, Engine, Pipe } from '../../engine.js'
import { ServerError } from '../../errors.js'
import { invalid } from '../check.js'
import { contextLength, positionCount } from '../prompt-length.js'
import { datatypeOf, type NumberArray } from './datatypes.js'
import { decodeBytes, decodeNumbers, decodeText, type InputTensor } from './decode-inputs.js'
import type { OutputTensor } from './encode-response.js'

/** Rows of one request. A run is not divided, and its memory grows with the rows. */
const MAX_ROWS = 256
/** Tokens of one request, padding included: 64 texts of 512. */
const MAX_TOKENS = 2 ** 15
/** Elements of an output: 512 MB of float32. */
const MAX_OUTPUT = 2 ** 27
const MAX_STRING_BYTES = 2 ** 20

const sizeIn =
  (field: string) =>
  ({ model: { config } }: Pipe): unknown =>
    config[field] ?? config.text_config?.[field]

/** Inputs that choose rows of a table, and its size by the model's configuration. A wrong number would fail the whole batch. */
const TABLES: ReadonlyMap<string, (pipe: Pipe) => unknown> = new Map([
  ['input_ids', sizeIn('vocab_size')],
  ['token_type_ids', sizeIn('type_vocab_size')],
  ['position_ids', positionCount],
])

/** A tensor in the protocol's metadata. */
export interface TensorMetadata {
  readonly name: string
  readonly datatype: string
  /** −1 where any size is possible. */
  readonly shape: readonly number[]
}

/** Returns the metadata of the model's inputs or outputs. Types that the protocol does not have are left out. */
export function describeTensors(
  values: readonly InferenceSession.ValueMetadata[],
): readonly TensorMetadata[] {
  return values.flatMap((value) => {
    const datatype = value.isTensor ? datatypeOf(value.type) : undefined
    if (!value.isTensor || datatype === undefined) return []
    const shape = value.shape.map((size) => (typeof size === 'number' && size >= 0 ? size : -1))
    return [{ name: value.name, datatype, shape }]
  })
}

/**
 * Runs the model once.
 *
 * @throws {ServerError} `invalid_value` for tensors that do not fit the signature; as `engine.run`
 */
export async function runTensors(
  engine: Engine,
  adapter: string | null,
  inputs: readonly InputTensor[],
  options: CallOptions,
): Promise<readonly OutputTensor[]> {
  checkInputs(engine, inputs)
  const feeds = feedsOf(engine, inputs)
  const results = await engine.run(adapter, feeds, options).catch(async (error: unknown) => {
    throw await runError(engine, adapter, error, options)
  })
  return Object.entries(results).flatMap(([name, value]) => {
    const { type, dims, data } = value as Tensor
    const datatype = datatypeOf(type)
    if (datatype === undefined) return []
    return [{ name, datatype, shape: dims, data: data as NumberArray | string[] }]
  })
}

/**
 * The error of a run for its client, who chose the tensors. What ONNX Runtime says is not repeated, because it has internals of the model. Its errors have no
 * class of their own: what is not the adapter's error is the run's.
 */
async function runError(
  engine: Engine,
  adapter: string | null,
  error: unknown,
  options: CallOptions,
): Promise<unknown> {
  if (!engine.isReady || options.signal.aborted) return error
  if (!(error instanceof Error) || error instanceof ServerError) return error
  let param = 'inputs'
  if (FourierFTError.isInstance(error)) {
    const isOfFeeds = error.code === 'INVALID_OPTION' || error.code === 'SHAPE_MISMATCH'
    if (!isOfFeeds) return error
    param = error.details.tensor ?? param
  } else {
    if (error.name !== 'Error' || 'syscall' in error) return error
    if (adapter !== null) await engine.prepare(adapter, options)
  }
  return new ServerError(
    'invalid_value',
    `${param}: the model cannot run these tensors; their values or sizes do not fit together`,
    { param, cause: error },
  )
}

/** Checks names, datatypes and shapes. Nothing is decoded yet. */
function checkInputs(engine: Engine, inputs: readonly InputTensor[]): void {
  const declared = engine.signature?.inputs ?? []
  const names = declared.map(({ name }) => name)
  const sizes = new Map<string, number>()
  for (const input of inputs) {
    const value = declared.find(({ name }) => name === input.name)
    if (value === undefined || !value.isTensor) {
      throw invalid('inputs', `expected ${names.join(', ')}; there is an input of another name`)
    }
    checkInput(engine, input, value, sizes)
  }
  const missing = names.filter((name) => !inputs.some((input) => input.name === name))
  if (missing.length > 0)
    throw invalid('inputs', `expected ${names.join(', ')}; missing: ${missing.join(', ')}`)
  for (const output of engine.signature?.outputs ?? []) {
    if (!output.isTensor) continue
    const elements = output.shape.reduce<number>(
      (product, size) => product * (typeof size === 'number' ? size : (sizes.get(size) ?? 1)),
      1,
    )
    if (elements > MAX_OUTPUT)
      throw invalid('inputs', `the output ${output.name} would have more than ${MAX_OUTPUT} elements`)
  }
}

function checkInput(
  engine: Engine,
  { name, datatype, shape, count }: InputTensor,
  declared: InferenceSession.ValueMetadata & { readonly isTensor: true },
  sizes: Map<string, number>,
): void {
  const expected = datatypeOf(declared.type)
  if (datatype !== expected) {
    throw invalid(
      name,
      `expected ${expected ?? declared.type}, received ${datatype}; datatypes are not converted`,
    )
  }
  // An empty shape is one that the file does not declare.
  const rank = declared.shape.length
  if (rank > 0 && shape.length !== rank) {
    throw invalid(name, `expected ${rank} dimensions, [${declared.shape}]; received [${shape}]`)
  }
  for (const [axis, size] of declared.shape.entries()) {
    const received = shape[axis] as number
    if (typeof size === 'string') {
      const other = sizes.get(size) ?? received
      if (other !== received)
        throw invalid(name, `dimension ${axis} is ${received}, but '${size}' of another input is ${other}`)
      sizes.set(size, received)
    } else if (size >= 0 && size !== received) {
      throw invalid(name, `expected the shape [${declared.shape}], received [${shape}]`)
    }
  }
  const rows = shape[0] ?? 1
  if (rows < 1 || rows > MAX_ROWS) throw invalid(name, `expected 1 to ${MAX_ROWS} rows, received ${rows}`)
  if (datatype.includes('INT') && count > MAX_TOKENS)
    throw invalid(name, `expected at most ${MAX_TOKENS} elements, received ${count}`)
  const longest = contextLength(engine.pipe) ?? Number.POSITIVE_INFINITY
  if (name === 'input_ids' && (shape[1] ?? 0) > longest)
    throw invalid(name, `the model's context has ${longest} tokens, received ${shape[1]}`)
}

function feedsOf(engine: Engine, inputs: readonly InputTensor[]): InferenceSession.FeedsType {
  const feeds: Record<string, Tensor> = {}
  for (const input of inputs) {
    const type = engine.signature?.inputs.find(({ name }) => name === input.name)
    if (!type?.isTensor) continue
    feeds[input.name] = makeTensor(engine, input, type.type)
  }
  return feeds
}

function makeTensor(engine: Engine, input: InputTensor, type: Tensor.Type): Tensor {
  if (input.datatype === 'BYTES') {
    const texts = decodeBytes(input, MAX_STRING_BYTES).map((text) => decodeText(input.name, text))
    return new Tensor('string', texts, input.shape)
  }
  const data = decodeNumbers(input)
  checkTable(engine, input.name, data)
  return new Tensor(type, data as Tensor.DataType, input.shape)
}

function checkTable({ pipe }: Engine, name: string, data: NumberArray): void {
  const sizeOf = TABLES.get(name)
  if (sizeOf === undefined) return
  const size = sizeOf(pipe)
  if (typeof size !== 'number') {
    // Positions and kinds of tokens are not tables in every model; tokens are.
    if (name === 'input_ids')
      throw invalid(name, 'the size of the vocabulary is unknown, so tokens are not accepted')
  } else if (data.some((id: number | bigint) => id < 0 || id >= size)) {
    throw invalid(name, `expected integers from 0 to ${size - 1}`)
  }
}
