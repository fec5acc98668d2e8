/** The execution providers of a session, and the library of CUDA kernels that sessions on CUDA need. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Addon, promiseOf } from './addon.js'
import { unsupported } from './native-error.js'

/**
 * The device of a session. `cuda-host` tests the CUDA kernels on machines without CUDA: the CPU slowly runs them and the code that queues
 * them. Other properties are settings of ONNX Runtime's CUDA provider, in camel case: `{ name: 'cuda', deviceId: 1, gpuMemLimit: 2 ** 30 }`
 * sets its `gpu_mem_limit`.
 */
export type OnnxExecutionProvider =
  | OnnxDevice
  | { readonly name: OnnxDevice; readonly [setting: string]: unknown }

export type OnnxDevice = 'cpu' | CudaDevice

export type CudaDevice = 'cuda' | 'cuda-host'

/** The libraries that `scripts/build.js` makes. */
const LIBRARIES: Readonly<
  Record<CudaDevice, { readonly file: string; readonly problem: string; readonly advice: string }>
> = {
  cuda: {
    file: 'libfourierft-cuda.so',
    problem: 'the CUDA kernels are not compiled',
    advice: 'run `npm run build:cuda` in the folder of @fourierft/native; it needs nvcc',
  },
  'cuda-host': {
    file: 'libfourierft-cuda-host.so',
    problem: 'the CUDA kernels are not compiled for the CPU',
    advice: 'run `node scripts/build.js --cuda-host` in packages/native, on Linux',
  },
}

/**
 * Opens the kernels' library.
 *
 * @throws {Error} with the code `UNSUPPORTED` if the library, a driver or a device is missing
 */
export async function openCuda(
  addon: Addon,
  device: CudaDevice,
): Promise<{ readonly path: string; readonly devices: number }> {
  const { file, problem, advice } = LIBRARIES[device]
  const path = fileURLToPath(new URL(`../build/${file}`, import.meta.url))
  if (!existsSync(path)) throw unsupported(problem, advice)
  return { path, devices: await promiseOf<number>((done) => addon.openCudaLibrary(path, done)) }
}

/** Returns whether a provider other than the CPU is requested. */
export function requestsDevice(providers: readonly OnnxExecutionProvider[]): boolean {
  return firstNonCpuProvider(providers) !== undefined
}

/**
 * Returns the addon's options for these providers; no options if there is only the CPU.
 *
 * @throws {Error} with the code `UNSUPPORTED`, as `openCuda`, and for an unknown provider or device, or a CUDA graph
 */
export async function cudaOptions(
  addon: Addon,
  providers: readonly OnnxExecutionProvider[],
): Promise<{
  readonly cudaLibrary?: string
  readonly cudaDevice?: number
  readonly cudaSettings?: readonly string[]
}> {
  const first = firstNonCpuProvider(providers)
  if (first === undefined) return {}
  const {
    name,
    deviceId = 0,
    ...settings
  }: { readonly name: OnnxDevice; readonly deviceId?: unknown } = first
  if (name !== 'cuda' && name !== 'cuda-host')
    throw unsupported(`executionProviders: expected cpu, cuda or cuda-host; received ${JSON.stringify(name)}`)
  const { path, devices } = await openCuda(addon, name)
  if (!(Number.isInteger(deviceId) && Number(deviceId) >= 0 && Number(deviceId) < devices))
    throw unsupported(
      `executionProviders: deviceId of ${name}: expected 0 … ${devices - 1}; received ${deviceId}`,
    )
  const cudaSettings = Object.entries({ deviceId, ...settings }).map(([key, value]): [string, string] => [
    key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    typeof value === 'boolean' ? String(Number(value)) : String(value),
  ])
  // A graph repeats the first run: with the addresses of its inputs, which later runs do not have, and with its rows.
  if (cudaSettings.some(([key, value]) => key === 'enable_cuda_graph' && !/^(0|false)$/i.test(value)))
    throw unsupported(
      `executionProviders: enableCudaGraph of ${name}: a graph would repeat the inputs and adapters of the first run`,
      'leave the setting out',
    )
  return { cudaLibrary: path, cudaDevice: Number(deviceId), cudaSettings: cudaSettings.flat() }
}

/** Returns the first provider other than the CPU, with its settings. */
function firstNonCpuProvider(providers: readonly OnnxExecutionProvider[]) {
  return providers
    .map((provider) => (typeof provider === 'string' ? { name: provider } : provider))
    .find(({ name }) => name !== 'cpu')
}
