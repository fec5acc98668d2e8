/**
 * The list of all backends. The command `conformance` opens them from here, and the README's table has their rows in this order. To add a
 * backend, add an entry. Only core is always installed; the package of any other backend is loaded when that backend is opened.
 */
import { FourierFTError } from '@fourierft/core'
import { type Backend, coreBackend } from '@fourierft/core/conformance'
import type { OnnxRuntimeBackendName } from '@fourierft/onnxruntime/conformance'
import type { TfjsBackendName } from '@fourierft/tfjs/conformance'

interface BackendEntry {
  /** The package that exports the backend, from its subpath `/conformance`. */
  readonly package: string
  /** `Node`: Node without a GPU; such backends are the rows of the README's table. `GPU`: Node with a GPU or a software GPU. */
  readonly needs: 'Node' | 'GPU' | 'browser'
  /** Rejects with `ERR_MODULE_NOT_FOUND`, or with `UNSUPPORTED` if the runtime is missing. Absent if only web pages can open the backend. */
  readonly open?: () => Promise<Backend>
}

const BACKENDS = {
  core: { package: '@fourierft/core', needs: 'Node', open: async () => coreBackend() },
  'core-native': { package: '@fourierft/core', needs: 'Node', open: openNative },
  'tfjs-cpu': tfjs('Node', 'cpu'),
  'tfjs-wasm': tfjs('Node', 'wasm'),
  'tfjs-node': tfjs('Node', 'node'),
  'tfjs-node-gpu': tfjs('Node', 'node-gpu'),
  'tfjs-webgpu': tfjs('GPU', 'webgpu'),
  'tfjs-webgl': { package: '@fourierft/tfjs', needs: 'browser' },
  'onnxruntime-cpu': onnxRuntime('Node', 'cpu'),
  'onnxruntime-native': onnxRuntime('Node', 'native'),
  'onnxruntime-web-wasm': onnxRuntime('Node', 'web-wasm'),
  'onnxruntime-webgpu': onnxRuntime('GPU', 'webgpu'),
  'onnxruntime-cuda': onnxRuntime('GPU', 'cuda'),
  'onnxruntime-web-webgpu': { package: '@fourierft/onnxruntime', needs: 'browser' },
  'cuda-host': onnxRuntime('Node', 'cuda-host'),
  transformers: { package: '@fourierft/transformers', needs: 'Node', open: openTransformers },
} as const satisfies Record<string, BackendEntry>

type Backends = typeof BACKENDS

/** The name of a backend that Node can open. */
export type BackendName = {
  [Name in keyof Backends]: Backends[Name] extends { readonly open: unknown } ? Name : never
}[keyof Backends]

/** The backends that Node can open, in the order of the table. */
export const backendNames = (Object.keys(BACKENDS) as (keyof Backends)[]).filter(isNodeBackend)

export function isNodeBackend(name: string): name is BackendName {
  return Object.hasOwn(BACKENDS, name) && 'open' in BACKENDS[name as keyof Backends]
}

/** Returns the names of all backends that need this environment. */
export function backendsThatNeed(environment: BackendEntry['needs']): string[] {
  return Object.entries(BACKENDS).flatMap(([name, { needs }]) => (needs === environment ? [name] : []))
}

/** Opens a backend. If it cannot run on this machine, the result has the reason. */
export async function openBackend(name: BackendName): Promise<Backend | { readonly reason: string }> {
  try {
    return await BACKENDS[name].open()
  } catch (error) {
    const reason = reasonOf(error)
    if (reason === undefined) throw error
    return { reason }
  }
}

/** Returns why a runtime is missing; undefined for any other error. */
function reasonOf(error: unknown): string | undefined {
  if (FourierFTError.isInstance(error) && error.code === 'UNSUPPORTED') return error.message
  if (!(error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND')) return undefined
  const [, missingPackage] = /'([^']+)'/.exec(error.message) ?? []
  return `${missingPackage ?? 'a package'} is not installed`
}

async function openNative(): Promise<Backend> {
  const { kernel, kernelProblem } = await import('@fourierft/native')
  const native = kernel()
  if (native === undefined) throw new FourierFTError('UNSUPPORTED', kernelProblem() ?? 'there is no kernel')
  return coreBackend({ kernel: native })
}

function tfjs<Environment extends 'Node' | 'GPU'>(needs: Environment, name: TfjsBackendName) {
  const open = async (): Promise<Backend> => {
    const { createTfjsBackend } = await import('@fourierft/tfjs/conformance')
    return createTfjsBackend(name)
  }
  return { package: '@fourierft/tfjs', needs, open }
}

function onnxRuntime<Environment extends 'Node' | 'GPU'>(needs: Environment, name: OnnxRuntimeBackendName) {
  const open = async (): Promise<Backend> => {
    const { createOnnxRuntimeBackend } = await import('@fourierft/onnxruntime/conformance')
    return createOnnxRuntimeBackend(name)
  }
  return { package: '@fourierft/onnxruntime', needs, open }
}

/** Opens the backend with the native kernel if there is one, otherwise without it. */
async function openTransformers(): Promise<Backend> {
  const { createTransformersBackend } = await import('@fourierft/transformers/conformance')
  try {
    return await createTransformersBackend({ native: true })
  } catch (error) {
    if (!(FourierFTError.isInstance(error) && error.code === 'UNSUPPORTED')) throw error
    return createTransformersBackend({ native: false })
  }
}
