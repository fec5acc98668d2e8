/** `checkOrigin`: checks that the files named by the option `model` of `attach` belong to the model's sessions. */
import { FourierFTError } from '@fourierft/core'
import { readModel } from '@fourierft/onnx'
import type { InferenceSession } from 'onnxruntime-common'
import type { ModelSession, SessionOrigin } from './library.js'

/** A session of a model, and the file from which another session would be created. */
export interface SessionFile {
  /** transformers.js' name of the session. */
  readonly name: string
  readonly session: InferenceSession
  readonly origin: SessionOrigin
  readonly bytes: Uint8Array
}

/**
 * Compares `dtype`, `device`, and the names and sizes of inputs and outputs, if they are known. Weights cannot be compared, because a session
 * does not reveal them.
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
        `modelOptions: session '${name}' has ${key} ${expected}, but these options load it with ${received}`,
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
      const inSession = metadata?.find(({ name }) => name === value.name)
      const shape = inSession?.isTensor ? inSession.shape : []
      if (value.dims?.some((size, axis) => areDifferentSizes(size, shape[axis])))
        throw otherModel(
          model,
          `'${value.name}' of session '${name}' is [${shape.join(', ')}], in the file [${value.dims.join(', ')}]`,
        )
    }
  }
}

/** Compares two sizes. A dynamic size, which is not a positive number, differs from none. */
function areDifferentSizes(a: unknown, b: unknown): boolean {
  return typeof a === 'number' && typeof b === 'number' && a > 0 && b > 0 && a !== b
}

function otherModel(model: string, difference: string): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    `model: '${model}' is not the model that was loaded: ${difference}`,
    { advice: 'pass the name or path from which the model was loaded', option: 'model', received: model },
  )
}
