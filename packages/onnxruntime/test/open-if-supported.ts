import { FourierFTError } from '@fourierft/core'
import type { Backend } from '@fourierft/core/conformance'
import { createOnnxRuntimeBackend, type OnnxRuntimeBackendName } from '../src/conformance.js'

/** Opens a backend, or returns the reason why this machine cannot run it. Every other error is thrown. */
export async function openIfSupported(
  name: OnnxRuntimeBackendName,
): Promise<{ readonly backend: Backend } | { readonly reason: string }> {
  try {
    return { backend: await createOnnxRuntimeBackend(name) }
  } catch (error) {
    if (FourierFTError.isInstance(error) && error.code === 'UNSUPPORTED') return { reason: error.message }
    throw error
  }
}
