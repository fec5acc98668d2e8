/** What differs between Node and the browser: whether there is a native kernel. */
import type { Entries, Shape } from '@fourierft/core'

/** What this package uses of `kernel()` of `@fourierft/native`, which is an optional package. */
export interface NativeKernel {
  /** The number by which the operators' attribute `plan` names shape and entries; valid as long as `entries` lives. */
  planOf(layer: { readonly shape: Shape; readonly entries: Entries }): number
  /** Registers the operators `FourierFT` and `FourierFTGrad`; the path is that of the loaded libtensorflow_framework. */
  registerTensorFlow(library: string): void
}

export interface Platform {
  /** Loads the native kernel and registers its operators in the TensorFlow of this process; undefined if that is not possible. */
  openNativeKernel(): NativeKernel | undefined
}
