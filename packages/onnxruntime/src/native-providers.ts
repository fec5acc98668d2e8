/** `nativeProviders`: the execution provider that replaces the portable function by the native kernel, if the kernel is available. */
import type { OnnxDevice } from '@fourierft/native'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'
import { BACKEND, type FourierFTProvider, type NativeError } from './native-backend.js'
import type { Ort } from './ort.js'

/** `cuda-host` runs the CUDA kernels on the CPU, for tests. */
const DEVICES: readonly string[] = ['cpu', 'cuda', 'cuda-host'] satisfies OnnxDevice[]

/** The reason why the native kernel cannot be used. */
export interface NativeProblem {
  readonly problem: string
  /** What the user can do; undefined if there is nothing to add to the problem. */
  readonly advice?: string
}

let hasWarnedUntested = false

/**
 * Opens the native kernel for the first of the user's execution providers. All of them have to be `cpu` or `cuda` (in tests also `cuda-host`).
 *
 * @returns the providers to use instead of the user's, with the same settings; or the reason why the kernel cannot be used
 */
export async function nativeProviders(
  native: 'auto' | boolean,
  ort: Ort,
  { executionProviders = [], externalData = [] }: InferenceSession.SessionOptions,
): Promise<{ readonly providers: readonly Required<FourierFTProvider>[] } | NativeProblem> {
  if (native === false) return { problem: 'the option native is false' }
  if (ort.env.versions.node === undefined) return { problem: 'the native kernel needs onnxruntime-node' }
  const providers = executionProviders.map((provider) =>
    typeof provider === 'string' ? { name: provider } : provider,
  )
  const others = providers.map(({ name }) => name).filter((name) => !DEVICES.includes(name))
  if (others.length > 0)
    return { problem: `executionProviders: expected only cpu and cuda; received ${others.join(', ')}` }
  if (externalData.length > 0)
    return { problem: 'the native kernel reads external data from files, not from the option externalData' }
  const [{ name: device, ...settings } = { name: 'cpu' }] = providers
  try {
    const runtime = await platform.openNativeKernel()
    const problem = device === 'cpu' ? undefined : await runtime.cudaProblem(device as 'cuda' | 'cuda-host')
    if (problem !== undefined) return { problem }
    if (runtime.untested !== undefined && !hasWarnedUntested) {
      hasWarnedUntested = true
      console.info(`@fourierft/onnxruntime: ${runtime.untested}`)
    }
  } catch (error) {
    const { message, problem = message, advice } = error as NativeError
    return { problem, ...(advice !== undefined && { advice }) }
  }
  return { providers: [{ name: BACKEND, device: device as OnnxDevice, ...settings }] }
}
