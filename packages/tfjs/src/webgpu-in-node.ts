/** WebGPU for Node, from the npm package `webgpu` (Dawn): what a browser has in `navigator.gpu`. Only for Node. */

interface Dawn {
  create(flags: string[]): GpuLike
  readonly globals: object
}

/** The part of WebGPU's `GPU` that is asked here. */
interface GpuLike {
  requestAdapter(): Promise<{ readonly info: GpuInfo } | null>
}

interface GpuInfo {
  readonly vendor: string
  readonly architecture: string
  readonly device: string
  readonly description: string
}

/**
 * Puts WebGPU into `navigator.gpu`, where TensorFlow.js looks for it when `@tensorflow/tfjs-backend-webgpu` is imported. Dawn's object has
 * to live as long as the process (Node crashes when it is collected): `navigator` holds it.
 *
 * @returns the name of the adapter, or null where there is none; then nothing is changed
 */
export async function provideWebGpu(): Promise<string | null> {
  const specifier = 'webgpu'
  const { create, globals }: Dawn = await import(specifier)
  const gpu = create([])
  const adapter = await gpu.requestAdapter()
  if (adapter === null) return null
  Object.assign(globalThis, globals)
  if (typeof navigator === 'undefined') Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true })
  Object.defineProperty(navigator, 'gpu', { value: gpu, configurable: true })
  const { vendor, architecture, device, description } = adapter.info
  return description || device || `${vendor} ${architecture}`
}
