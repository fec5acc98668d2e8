/** Node: the native kernel is `@fourierft/native`, if it is installed, in the TensorFlow that tfjs-node has loaded. */
import { createRequire } from 'node:module'
import { loadedLibraries } from './loaded-libraries.js'
import type { NativeKernel, Platform } from './platform.js'

const require = createRequire(import.meta.url)

export const platform: Platform = { openNativeKernel }

function openNativeKernel(): NativeKernel | undefined {
  let kernel: NativeKernel | undefined
  try {
    kernel = require('@fourierft/native').kernel()
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
  const library = loadedLibraries().find((path) => /libtensorflow_framework\.[\w.]*$/.test(path))
  if (kernel === undefined || library === undefined) return undefined
  kernel.registerTensorFlow(library)
  return kernel
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'MODULE_NOT_FOUND'
}
