/** `checkOrigin`: checks that the files named by the option `model` of `attach` belong to the model's sessions. */
import { FourierFTError } from '@fourierft/core'
import { readModel } from '@fourierft/onnx'
import type { InferenceSession } from 'onnxruntime-common'
import type { ModelSession, SessionOrigin } from './library.js'

/** One of a model's sessions, and the file that another one would be created from. */
export interface SessionFile {
  /** transformers.js' name of the session. */
  readonly name: string
  readonly session: InferenceSession
  readonly origin: SessionOrigin
  readonly bytes: Uint8Array
}

/**
 * Compares `dtype`, `device`, and the names and sizes of inputs and outputs, as far as they are known. Weights cannot be compared: a session
 * does not reveal its own.
 *
 * @param model the option `model`
 * @throws {FourierFTError} `INVALID_OPTION` for the option `model`, or for `modelOptions` if only `dtype` or `device` is wrong; `INVALID_ONNX`
 */
export function checkOrigin(model: string, { name, session, origin, bytes }: SessionFile): void {
  for (const key of ['dtype', 'device'] as const) {
    const [expected, received] = [session as ModelSession, origin].map(
      ({ config }) => (config as Partial<Record<typeof key, unknown>> | undefined)?.[key],
    )
    if (expected !== undefined && received !== undefined && expected !== received)
      throw new FourierFTError(
        'INVALID_OPTION',
        `modelOptions: session '${name}' has ${key} ${expected}; these options load it with ${received}`,
        { option: 'modelOptions', expected, received },
      )
  }
  const { graph } = readModel(bytes, { file: `${name} of ${model}` })
  const inputs = graph.inputs.filter((input) => !graph.initializers.has(input.name))
  for (const [kind, values, names, metadata] of [
    ['inputs', inputs, session.inputNames, session.inputMetadata],
    ['outputs', graph.outputs, session.outputNames, session.outputMetadata],
  ] as const) {
    const fileNames = values.map(({ name }) => name)
    if (String([...names].sort()) !== String([...fileNames].sort()))
      throw otherModel(
        model,
        `session '${name}' has the ${kind} ${names.join(', ')}, the file has ${fileNames.join(', ')}`,
      )
    for (const value of values) {
      const inSession = metadata?.find((each) => each.name === value.name)
      const shape = inSession?.isTensor ? inSession.shape : []
      if (value.dims?.some((size, axis) => areDifferentSizes(size, shape[axis])))
        throw otherModel(
          model,
          `'${value.name}' of session '${name}' is [${shape.join(', ')}], in the file [${value.dims.join(', ')}]`,
        )
    }
  }
}

/** A dynamic size is not a number, or not above 0. */
function areDifferentSizes(a: unknown, b: unknown): boolean {
  return typeof a === 'number' && typeof b === 'number' && a > 0 && b > 0 && a !== b
}

function otherModel(model: string, difference: string): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    `model: the files of '${model}' are not those of this model: ${difference}`,
    { advice: 'give the name or path that it was loaded from', option: 'model', received: model },
  )
}
