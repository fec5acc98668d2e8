/** `openSessions`: how the sessions of a model are made in the user's own ONNX Runtime, before one is. */
import { FourierFTError } from '@fourierft/core'
import type { InferenceSession } from 'onnxruntime-common'
import { ModelSessions } from './model-sessions.js'
import { ModelFile, type ModelSource } from './model-source.js'
import { registerFourierFTBackend } from './native-backend.js'
import { nativeProviders } from './native-providers.js'
import type { Ort } from './ort.js'

export interface OpenOptions {
  readonly ort: Ort
  /** The native kernel: where it can be (`auto`, the default), never, or not without it. */
  readonly native?: 'auto' | boolean
  /** ONNX Runtime's own. */
  readonly sessionOptions?: InferenceSession.SessionOptions
}

let isTold = false

/**
 * @throws {FourierFTError} `INVALID_OPTION`, `UNSUPPORTED` (`native: true` where there is no native kernel; outputs that are to stay on a
 *   device with it)
 */
export async function openSessions(
  model: ModelSource,
  { ort, native = 'auto', sessionOptions = {} }: OpenOptions,
): Promise<ModelSessions> {
  if (native !== 'auto' && typeof native !== 'boolean')
    throw new FourierFTError('INVALID_OPTION', `native: expected 'auto', true or false; received ${native}`, {
      option: 'native',
      received: native,
    })
  const file = new ModelFile(model, { leavesWeights: readsFiles(ort, sessionOptions) })
  const own = await nativeProviders(native, ort, sessionOptions)
  if ('providers' in own) {
    checkOutputLocation(sessionOptions)
    registerFourierFTBackend(ort)
    return new ModelSessions(ort, file, { ...sessionOptions, executionProviders: own.providers }, undefined)
  }
  const { problem } = own
  if (native === true)
    throw new FourierFTError('UNSUPPORTED', `native: the native kernel cannot be used: ${problem}`, {
      option: 'native',
    })
  if (native === 'auto' && ort.env.versions.node !== undefined && !isTold) {
    isTold = true
    console.info(`@fourierft/onnxruntime runs without the native kernel: ${problem}`)
  }
  return new ModelSessions(ort, file, sessionOptions, problem)
}

/** The native kernel's sessions give their outputs to JavaScript. */
function checkOutputLocation({ preferredOutputLocation: wanted = 'cpu' }: InferenceSession.SessionOptions) {
  const locations = typeof wanted === 'string' ? [wanted] : Object.values(wanted)
  const other = locations.find((location) => location !== 'cpu')
  if (other !== undefined)
    throw new FourierFTError(
      'UNSUPPORTED',
      `preferredOutputLocation: sessions with the native kernel give their outputs on the cpu; received '${other}'. ` +
        "Leave it out, or choose a provider that keeps tensors on its device: executionProviders: ['webgpu']",
      { option: 'preferredOutputLocation', expected: 'cpu', received: other },
    )
}

/** Whether this runtime finds weights in the folder of a model that it gets as bytes; the user may have named another one. */
function readsFiles({ env }: Ort, { externalData, extra }: InferenceSession.SessionOptions): boolean {
  const isTold = JSON.stringify(extra ?? {}).includes('model_external_initializers_file_folder_path')
  // onnxruntime-node passes that option on from 1.22 on.
  const [major = 0, minor = 0] = (env.versions.node ?? '0').split('.').map(Number)
  return (major > 1 || (major === 1 && minor >= 22)) && externalData === undefined && !isTold
}
