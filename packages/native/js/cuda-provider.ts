/** Execution providers of a session, and the library of the CUDA kernels that those on CUDA need. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Addon, settled } from './addon.js'

/**
 * Where a session computes, by name. `cuda-host` is for tests of the CUDA kernels where there is no CUDA: all of them, and all that queues
 * them, run by the CPU, slowly. What stands beside a name is for ONNX Runtime's CUDA provider, which knows it in snake case:
 * `{ name: 'cuda', deviceId: 1, gpuMemLimit: 2 ** 30 }`.
 */
export type OnnxExecutionProvider =
  | OnnxDevice
  | { readonly name: OnnxDevice; readonly [setting: string]: unknown }

export type OnnxDevice = 'cpu' | CudaDevice

export type CudaDevice = 'cuda' | 'cuda-host'

/** What `scripts/build.js` makes. */
const LIBRARIES: Readonly<Record<CudaDevice, { readonly file: string; readonly missing: string }>> = {
  cuda: {
    file: 'libfourierft-cuda.so',
    missing:
      'the CUDA kernels are not compiled: in the folder of @fourierft/native, `node scripts/build.js --cuda` makes them with nvcc',
  },
  'cuda-host': {
    file: 'libfourierft-cuda-host.so',
    missing:
      'the CUDA kernels are not compiled for the CPU: in packages/native, `node scripts/build.js --cuda-host` makes them (on Linux)',
  },
}

/**
 * Opens the kernels' library.
 *
 * @throws {Error} with the code `UNSUPPORTED`, in one line what is missing: the library, a driver or a device
 */
export async function openCuda(
  addon: Addon,
  device: CudaDevice,
): Promise<{ readonly path: string; readonly devices: number }> {
  const { file, missing } = LIBRARIES[device]
  const path = fileURLToPath(new URL(`../build/${file}`, import.meta.url))
  if (!existsSync(path)) throw unsupported(missing)
  return { path, devices: await settled<number>((done) => addon.openCudaLibrary(path, done)) }
}

/** Whether these providers are more than the CPU. */
export function usesCuda(providers: readonly OnnxExecutionProvider[]): boolean {
  return firstDevice(providers) !== undefined
}

/**
 * What the addon is told for these providers; nothing for the CPU alone.
 *
 * @throws {Error} with the code `UNSUPPORTED`, as `openCuda`, and for a device that there is not
 */
export async function cudaOptions(
  addon: Addon,
  providers: readonly OnnxExecutionProvider[],
): Promise<{ readonly cudaLibrary?: string; readonly cudaSettings?: readonly string[] }> {
  const first = firstDevice(providers)
  if (first === undefined) return {}
  const {
    name,
    deviceId = 0,
    ...settings
  }: { readonly name: OnnxDevice; readonly deviceId?: unknown } = first
  if (name !== 'cuda' && name !== 'cuda-host')
    throw unsupported(`executionProviders: expected cuda or cpu; received ${JSON.stringify(name)}`)
  const { path, devices } = await openCuda(addon, name)
  if (!(Number.isInteger(deviceId) && Number(deviceId) >= 0 && Number(deviceId) < devices))
    throw unsupported(
      `executionProviders: deviceId of ${name}: expected 0 … ${devices - 1}; received ${deviceId}`,
    )
  return {
    cudaLibrary: path,
    cudaSettings: Object.entries({ deviceId, ...settings }).flatMap(([key, value]) => [
      key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      typeof value === 'boolean' ? String(Number(value)) : String(value),
    ]),
  }
}

/** The first that is not the CPU, with its settings. */
function firstDevice(providers: readonly OnnxExecutionProvider[]) {
  return providers
    .map((each) => (typeof each === 'string' ? { name: each } : each))
    .find(({ name }) => name !== 'cpu')
}

function unsupported(message: string): Error {
  return Object.assign(new Error(message), { code: 'UNSUPPORTED' })
}
