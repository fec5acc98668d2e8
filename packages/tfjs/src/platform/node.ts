/** Node: the native kernel is `@fourierft/native`, if it is installed, in the TensorFlow that tfjs-node has loaded. */
import { createRequire } from 'node:module'
import type { NativeKernel, Platform } from './platform.js'

const require = createRequire(import.meta.url)

export const platform: Platform = { openNativeKernel }

function openNativeKernel(): NativeKernel | undefined {
  let native: NativePackage
  try {
    native = require('@fourierft/native')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
  const kernel = native.kernel()
  const library = native.loadedLibraries().find((path) => /libtensorflow_framework\.[\w.]*$/.test(path))
  if (kernel === undefined || library === undefined) return undefined
  kernel.registerTensorFlow(library)
  return kernel
}

/** The exports of `@fourierft/native` that this file uses. */
interface NativePackage {
  kernel(): NativeKernel | undefined
  loadedLibraries(): readonly string[]
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'MODULE_NOT_FOUND'
}
