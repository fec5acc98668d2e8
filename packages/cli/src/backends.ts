/**
 * The backends that the command line can put through the suite. Only core's is always there; a runtime is the user's own copy, found
 * when it is asked for.
 */
import { type Backend, coreBackend, FourierFTError } from '@fourierft/core'
import type { OnnxRuntimeBackendName } from '@fourierft/onnxruntime'
import type { TfjsBackendName } from '@fourierft/tfjs'

/** Opens a backend, or rejects: `ERR_MODULE_NOT_FOUND`, or `UNSUPPORTED` from a package that lacks its runtime. */
type Open = () => Promise<Backend>

const BACKENDS = {
  core: async () => coreBackend(),
  'core-native': openNative,
  'tfjs-cpu': () => openTfjs('cpu'),
  'tfjs-wasm': () => openTfjs('wasm'),
  'tfjs-webgpu': () => openTfjs('webgpu'),
  'tfjs-node': () => openTfjs('node'),
  'tfjs-node-gpu': () => openTfjs('node-gpu'),
  'onnxruntime-cpu': () => openOnnxRuntime('cpu'),
  'onnxruntime-native': () => openOnnxRuntime('native'),
  'onnxruntime-webgpu': () => openOnnxRuntime('webgpu'),
  'onnxruntime-web-wasm': () => openOnnxRuntime('web-wasm'),
  'onnxruntime-cuda': () => openOnnxRuntime('cuda'),
  'cuda-host': () => openOnnxRuntime('cuda-host'),
  transformers: openTransformers,
} as const satisfies Record<string, Open>

export type BackendName = keyof typeof BACKENDS

export const backendNames = Object.keys(BACKENDS) as readonly BackendName[]

export function isBackendName(name: string): name is BackendName {
  return Object.hasOwn(BACKENDS, name)
}

/** @returns the backend, or in `reason` why it cannot run here */
export async function openBackend(name: BackendName): Promise<Backend | { readonly reason: string }> {
  try {
    return await BACKENDS[name]()
  } catch (error) {
    const reason = reasonOf(error)
    if (reason === undefined) throw error
    return { reason }
  }
}

/** Why a runtime is not to be had; undefined for any other error. */
function reasonOf(error: unknown): string | undefined {
  if (FourierFTError.isInstance(error) && error.code === 'UNSUPPORTED') return error.message
  if (!(error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND')) return undefined
  const [, missing] = /'([^']+)'/.exec(error.message) ?? []
  return `${missing ?? 'a package'} is not installed`
}

async function openNative(): Promise<Backend> {
  const { kernel, kernelProblem } = await import('@fourierft/native')
  const native = kernel()
  if (native === undefined) throw new FourierFTError('UNSUPPORTED', kernelProblem() ?? 'there is no kernel')
  return coreBackend({ kernel: native })
}

async function openTfjs(name: TfjsBackendName): Promise<Backend> {
  const { createTfjsBackend } = await import('@fourierft/tfjs')
  return createTfjsBackend(name)
}

/** On the native kernel, where there is one. */
async function openTransformers(): Promise<Backend> {
  const { createTransformersBackend } = await import('@fourierft/transformers')
  try {
    return await createTransformersBackend({ native: true })
  } catch (error) {
    if (!(FourierFTError.isInstance(error) && error.code === 'UNSUPPORTED')) throw error
    return createTransformersBackend({ native: false })
  }
}

async function openOnnxRuntime(name: OnnxRuntimeBackendName): Promise<Backend> {
  const { createOnnxRuntimeBackend } = await import('@fourierft/onnxruntime')
  return createOnnxRuntimeBackend(name)
}
