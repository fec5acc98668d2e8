/** `nativeProviders`: the execution provider that puts the native kernel in the place of the portable function, if one can. */
import type { OnnxDevice } from '@fourierft/native'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'
import { BACKEND, type FourierFTProvider } from './native-backend.js'
import type { Ort } from './ort.js'

/** `cuda-host`: the CUDA kernels run by the CPU, for tests. */
const DEVICES: readonly string[] = ['cpu', 'cuda', 'cuda-host'] satisfies OnnxDevice[]

let isTold = false

/**
 * What to ask `InferenceSession.create` for in the place of the user's execution providers: the first of them, `cpu` or `cuda`, with its
 * settings. Opens the kernel.
 *
 * @returns or in `problem` why the native kernel cannot serve
 */
export async function nativeProviders(
  native: 'auto' | boolean,
  ort: Ort,
  { executionProviders = [], externalData = [] }: InferenceSession.SessionOptions,
): Promise<{ readonly providers: readonly FourierFTProvider[] } | { readonly problem: string }> {
  if (native === false) return { problem: 'the option native is false' }
  if (ort.env.versions.node === undefined) return { problem: 'it is for onnxruntime-node' }
  const named = executionProviders.map((one) => (typeof one === 'string' ? { name: one } : one))
  const others = named.map(({ name }) => name).filter((name) => !DEVICES.includes(name))
  if (others.length > 0)
    return { problem: `it is for the execution providers cpu and cuda, not for ${others.join(', ')}` }
  if (externalData.length > 0)
    return { problem: 'it takes external data from files, not from the option externalData' }
  const [{ name: device, ...settings } = { name: 'cpu' }] = named
  try {
    const runtime = await platform.openNative()
    const problem = device === 'cpu' ? undefined : await runtime.cudaProblem(device as 'cuda' | 'cuda-host')
    if (problem !== undefined) return { problem }
    if (runtime.untested !== undefined && !isTold) {
      isTold = true
      console.info(`@fourierft/onnxruntime: ${runtime.untested}`)
    }
  } catch (error) {
    return { problem: (error as Error).message }
  }
  return { providers: [{ name: BACKEND, device: device as OnnxDevice, ...settings }] }
}
