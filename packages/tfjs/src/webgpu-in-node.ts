/** WebGPU for Node, from the npm package `webgpu` (Dawn): it provides `navigator.gpu`, as browsers do. */
import { FourierFTError } from '@fourierft/core'

/** The part of WebGPU that is used here. */
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
 * Defines `navigator.gpu`, which TensorFlow.js reads when `@tensorflow/tfjs-backend-webgpu` is imported. Dawn's object stays there for the
 * life of the process: Node would crash if it were garbage-collected.
 *
 * @returns the name of the GPU, or of the software that replaces it
 * @throws {FourierFTError} `UNSUPPORTED` if the package is not installed or finds no GPU; nothing is changed then
 */
export async function provideWebGpu(): Promise<string> {
  const specifier = 'webgpu'
  let dawn: Dawn
  try {
    dawn = await import(/* @vite-ignore */ /* webpackIgnore: true */ specifier)
  } catch (cause) {
    throw new FourierFTError('UNSUPPORTED', 'WebGPU in Node: the package webgpu cannot be loaded', {
      advice: 'run npm i webgpu, and on Linux install the Vulkan loader (Debian: libvulkan1)',
      cause,
    })
  }
  const gpu = dawn.create([])
  const adapter = await gpu.requestAdapter()
  if (adapter === null) {
    throw new FourierFTError('UNSUPPORTED', 'WebGPU in Node: no GPU was found', {
      advice:
        'install the driver of the GPU, or set VK_ADD_DRIVER_FILES to the path of a software driver for Vulkan',
    })
  }
  Object.assign(globalThis, dawn.globals)
  if (typeof navigator === 'undefined')
    Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true })
  Object.defineProperty(navigator, 'gpu', { value: gpu, configurable: true })
  const { vendor, architecture, device, description } = adapter.info
  return description || device || `${vendor} ${architecture}`
}
