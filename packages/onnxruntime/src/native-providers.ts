/** `nativeProviders`: the execution provider that replaces the portable function by the native kernel, if the kernel is available. */
import type { OnnxDevice } from '@fourierft/native'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'
import { BACKEND, type FourierFTProvider } from './native-backend.js'
import type { Ort } from './ort.js'

/** `cuda-host` runs the CUDA kernels on the CPU, for tests. */
const DEVICES: readonly string[] = ['cpu', 'cuda', 'cuda-host'] satisfies OnnxDevice[]

let isAnnounced = false

/**
 * Opens the native kernel for the first of the user's execution providers. All of them have to be `cpu` or `cuda` (in tests also `cuda-host`).
 *
 * @returns the providers to use instead of the user's, with the same settings; or, in `problem`, why the kernel cannot be used
 */
export async function nativeProviders(
  native: 'auto' | boolean,
  ort: Ort,
  { executionProviders = [], externalData = [] }: InferenceSession.SessionOptions,
): Promise<{ readonly providers: readonly FourierFTProvider[] } | { readonly problem: string }> {
  if (native === false) return { problem: 'the option native is false' }
  if (ort.env.versions.node === undefined) return { problem: 'it is for onnxruntime-node' }
  const providers = executionProviders.map((one) => (typeof one === 'string' ? { name: one } : one))
  const others = providers.map(({ name }) => name).filter((name) => !DEVICES.includes(name))
  if (others.length > 0)
    return { problem: `it is for the execution providers cpu and cuda, not for ${others.join(', ')}` }
  if (externalData.length > 0)
    return { problem: 'it takes external data from files, not from the option externalData' }
  const [{ name: device, ...settings } = { name: 'cpu' }] = providers
  try {
    const runtime = await platform.openNativeKernel()
    const problem = device === 'cpu' ? undefined : await runtime.cudaProblem(device as 'cuda' | 'cuda-host')
    if (problem !== undefined) return { problem }
    if (runtime.untested !== undefined && !isAnnounced) {
      isAnnounced = true
      console.info(`@fourierft/onnxruntime: ${runtime.untested}`)
    }
  } catch (error) {
    return { problem: (error as Error).message }
  }
  return { providers: [{ name: BACKEND, device: device as OnnxDevice, ...settings }] }
}
