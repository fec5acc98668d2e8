/** Chooses and starts a TensorFlow.js backend: a GPU if there is a real one, otherwise WebAssembly. */
import { useWasm } from '@fourierft/quickstart/browser'
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm'
import * as tf from '@tensorflow/tfjs-core'

export const backends = ['webgpu', 'webgl', 'wasm'] as const
export type Backend = (typeof backends)[number]

export const backendNames: Readonly<Record<Backend, string>> = {
  webgpu: 'WebGPU',
  webgl: 'WebGL',
  wasm: 'WebAssembly',
}

let wasm: Promise<void> | undefined

const start: Readonly<Record<Backend, () => Promise<unknown>>> = {
  async webgpu() {
    await import('@tensorflow/tfjs-backend-webgpu')
    return tf.setBackend('webgpu')
  },
  async webgl() {
    await import('@tensorflow/tfjs-backend-webgl')
    return tf.setBackend('webgl')
  },
  async wasm() {
    setWasmPaths(new URL('wasm/', document.baseURI).href)
    // `useWasm` replaces a kernel, so it must run only once.
    wasm ??= useWasm()
    await wasm
    return tf.setBackend('wasm')
  },
}

/** Starts a backend. @throws if it does not start in this browser or on this machine */
export async function startBackend(backend: Backend): Promise<void> {
  const message = `${backendNames[backend]} does not start in this browser; choose another one under “Computes with”`
  let started: unknown
  try {
    started = await start[backend]()
    await tf.ready()
  } catch (cause) {
    throw new Error(message, { cause })
  }
  if (started === false) throw new Error(message)
}

/** Returns the fastest backend for this machine's hardware. A GPU that the browser emulates on the CPU is slower than WebAssembly. */
export async function fastestBackend(): Promise<Backend> {
  if (await hasWebGpu()) return 'webgpu'
  return hasWebGl() ? 'webgl' : 'wasm'
}

async function hasWebGpu(): Promise<boolean> {
  if (!('gpu' in navigator)) return false
  const adapter = await navigator.gpu.requestAdapter().catch(() => null)
  return adapter !== null && !adapter.info.isFallbackAdapter
}

function hasWebGl(): boolean {
  const context = document.createElement('canvas').getContext('webgl2')
  if (context === null) return false
  const names = context.getExtension('WEBGL_debug_renderer_info')
  const renderer = context.getParameter(names?.UNMASKED_RENDERER_WEBGL ?? context.RENDERER) as string
  context.getExtension('WEBGL_lose_context')?.loseContext()
  return !softwareRenderers.test(renderer)
}

/** The names of the software renderers of Chromium, Mesa and Windows. */
const softwareRenderers = /swiftshader|llvmpipe|softpipe|basic render/i
