/** `openSessions`: checks the options for a model's sessions, and decides whether they use the native kernel. */
import { FourierFTError } from '@fourierft/core'
import type { InferenceSession } from 'onnxruntime-common'
import { type ModelChange, ModelSessions } from './model-sessions.js'
import { ModelFile, type ModelSource } from './model-source.js'
import { registerFourierFTBackend } from './native-backend.js'
import { type NativeProblem, nativeProviders } from './native-providers.js'
import type { Ort } from './ort.js'
import { checkOutputLocations } from './output-locations.js'

export interface OpenOptions {
  readonly ort: Ort
  /** Whether to use the native kernel: if it is available (`auto`, the default), never (false), or always (true). */
  readonly native?: 'auto' | boolean
  /** ONNX Runtime's own options. */
  readonly sessionOptions?: InferenceSession.SessionOptions
  /** A change of the model in the file. It is not made in a session without slots for adapters. */
  readonly change?: ModelChange | undefined
}

let hasWarned = false

/**
 * Prepares the sessions of a model. No session is opened yet.
 *
 * @throws {FourierFTError} `INVALID_OPTION`; `UNSUPPORTED` if there is no native kernel despite `native: true`, or if outputs of the native
 *   kernel on the CPU are requested on a device
 */
export async function openSessions(
  model: ModelSource,
  { ort, native = 'auto', sessionOptions = {}, change }: OpenOptions,
): Promise<ModelSessions> {
  if (native !== 'auto' && typeof native !== 'boolean')
    throw new FourierFTError('INVALID_OPTION', `native: expected 'auto', true or false; received ${native}`, {
      option: 'native',
      received: native,
    })
  const file = new ModelFile(model, { keepsWeightsInFile: canReadWeightFiles(ort, sessionOptions) })
  const kernel = await nativeProviders(native, ort, sessionOptions)
  if ('providers' in kernel) {
    for (const { device } of kernel.providers)
      checkOutputLocations(sessionOptions.preferredOutputLocation, device)
    registerFourierFTBackend(ort)
    const options = { ...sessionOptions, executionProviders: kernel.providers }
    return new ModelSessions({ ort, file, options, nativeProblem: undefined, change })
  }
  if (native === true)
    throw new FourierFTError('UNSUPPORTED', `native: the native kernel cannot be used: ${kernel.problem}`, {
      ...(kernel.advice !== undefined && { advice: kernel.advice }),
      option: 'native',
    })
  const reason = messageOf(kernel)
  if (native === 'auto' && ort.env.versions.node !== undefined && !hasWarned) {
    hasWarned = true
    console.info(`@fourierft/onnxruntime runs without the native kernel: ${reason}`)
  }
  return new ModelSessions({ ort, file, options: sessionOptions, nativeProblem: reason, change })
}

/** Joins problem and advice as `FourierFTError` does. */
function messageOf({ problem, advice }: NativeProblem): string {
  return advice === undefined ? problem : `${problem}; ${advice}`
}

/**
 * Returns whether this runtime can read a model's weights from files although it gets the model as bytes. The user must not have specified external
 * data or their folder.
 */
function canReadWeightFiles({ env }: Ort, { externalData, extra }: InferenceSession.SessionOptions): boolean {
  const hasFolder = JSON.stringify(extra ?? {}).includes('model_external_initializers_file_folder_path')
  // onnxruntime-node supports that option since 1.22.
  const [major = 0, minor = 0] = (env.versions.node ?? '0').split('.').map(Number)
  return (major > 1 || (major === 1 && minor >= 22)) && externalData === undefined && !hasFolder
}
