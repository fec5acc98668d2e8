/** The kernel in Node: `@fourierft/native` where it is installed, in the TensorFlow that tfjs-node has loaded. */
import { createRequire } from 'node:module'
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
  const library = tensorFlowLibrary()
  if (kernel === undefined || library === undefined) return undefined
  kernel.registerTensorFlow(library)
  return kernel
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'MODULE_NOT_FOUND'
}

/** The path under which this process has loaded TensorFlow's framework library. */
function tensorFlowLibrary(): string | undefined {
  // The report asks the network for names unless told not to.
  const report = process.report as typeof process.report & { excludeNetwork?: boolean }
  const { excludeNetwork } = report
  report.excludeNetwork = true
  const { sharedObjects } = report.getReport() as unknown as { readonly sharedObjects: readonly string[] }
  if (excludeNetwork !== undefined) report.excludeNetwork = excludeNetwork
  return sharedObjects.find((path) => /libtensorflow_framework\.[\w.]*$/.test(path))
}
