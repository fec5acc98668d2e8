/** Whether the files that the option `model` of `attach` leads to are those of the sessions that are there: as far as both tell. */
import { FourierFTError } from '@fourierft/core'
import { readModel } from '@fourierft/onnx'
import type { InferenceSession } from 'onnxruntime-common'
import type { ModelSession, SessionOrigin } from './library.js'

/** One of a model's sessions, and what another one would be made from. */
export interface Located {
  /** What transformers.js calls the session. */
  readonly name: string
  readonly session: InferenceSession
  readonly origin: SessionOrigin
  readonly bytes: Uint8Array
}

/**
 * Compares names, sizes, `dtype` and `device`. Weights cannot be compared, for no session gives its own.
 *
 * @param model the option `model`
 * @throws {FourierFTError} `INVALID_OPTION` for the option `model`, or for `modelOptions` where the files are the right ones but for these;
 *   `INVALID_ONNX`
 */
export function checkLocated(model: string, { name, session, origin, bytes }: Located): void {
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
    const told = values.map(({ name }) => name)
    if (String([...names].sort()) !== String([...told].sort()))
      throw notOf(model, `session '${name}' has the ${kind} ${names.join(', ')}, the file ${told.join(', ')}`)
    for (const value of values) {
      const other = metadata?.find((each) => each.name === value.name)
      const shape = other?.isTensor ? other.shape : []
      if (value.dims?.some((size, axis) => areOtherSizes(size, shape[axis])))
        throw notOf(
          model,
          `'${value.name}' of session '${name}' is [${shape.join(', ')}], in the file [${value.dims.join(', ')}]`,
        )
    }
  }
}

/** What is not fixed is no number, or none above 0. */
function areOtherSizes(a: unknown, b: unknown): boolean {
  return typeof a === 'number' && typeof b === 'number' && a > 0 && b > 0 && a !== b
}

function notOf(model: string, difference: string): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    `model: the files of '${model}' are not those of this model: ${difference}. Name what it was loaded by`,
    { option: 'model', received: model },
  )
}
