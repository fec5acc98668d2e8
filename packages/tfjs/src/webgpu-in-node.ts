/** WebGPU for Node, from the npm package `webgpu` (Dawn): what a browser has in `navigator.gpu`. */
import { FourierFTError } from '@fourierft/core'

/** The part of WebGPU that is asked here. */
interface Gpu {
  requestAdapter(): Promise<{
    readonly info: Readonly<Record<'vendor' | 'architecture' | 'device' | 'description', string>>
  } | null>
}

interface Dawn {
  create(flags: string[]): Gpu
  /** The classes and constants of WebGPU. */
  readonly globals: object
}

/**
 * Puts WebGPU where TensorFlow.js looks for it when `@tensorflow/tfjs-backend-webgpu` is imported. `navigator` holds Dawn's object for the
 * life of the process: Node would crash when it were collected.
 *
 * @returns the adapter's name
 * @throws {FourierFTError} `UNSUPPORTED` where the package is not installed or finds no adapter; nothing is changed then
 */
export async function provideWebGpu(): Promise<string> {
  const specifier = 'webgpu'
  let dawn: Dawn
  try {
    dawn = await import(/* @vite-ignore */ /* webpackIgnore: true */ specifier)
  } catch (cause) {
    throw new FourierFTError(
      'UNSUPPORTED',
      'WebGPU in Node: the package webgpu does not load; npm i webgpu, and on Linux the Vulkan loader (Debian: libvulkan1)',
      { cause },
    )
  }
  const gpu = dawn.create([])
  const adapter = await gpu.requestAdapter()
  if (adapter === null) {
    throw new FourierFTError(
      'UNSUPPORTED',
      'WebGPU in Node: there is no adapter; a GPU with its driver is needed, or a software one named by VK_ICD_FILENAMES',
    )
  }
  Object.assign(globalThis, dawn.globals)
  if (typeof navigator === 'undefined')
    Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true })
  Object.defineProperty(navigator, 'gpu', { value: gpu, configurable: true })
  const { vendor, architecture, device, description } = adapter.info
  return description || device || `${vendor} ${architecture}`
}
