/** What this package uses of `kernel()` of `@fourierft/native`, which is an optional package. */
import type { Entries, Shape } from '@fourierft/core'

export interface NativeKernel {
  /** The number by which the operators' attribute `plan` names shape and entries; valid as long as `entries` lives. */
  planOf(layer: { readonly shape: Shape; readonly entries: Entries }): number
  /** Registers the operators `FourierFT` and `FourierFTGrad`; the path is that of the loaded libtensorflow_framework. */
  registerTensorFlow(library: string): void
}

/** Loads the kernel where there is one and registers its operators in the TensorFlow of this process; undefined where that cannot be. */
export type OpenNativeKernel = () => NativeKernel | undefined
