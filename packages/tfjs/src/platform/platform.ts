/** The differences between Node and browsers: only Node can have a native kernel. */
import type { Entries, Shape } from '@fourierft/core'

/** The parts of `kernel()` of the optional package `@fourierft/native` that are used here. */
export interface NativeKernel {
  /** Returns the value of the operators' attribute `plan` for a shape and its entries. It is valid as long as `entries` is reachable. */
  planOf(layer: { readonly shape: Shape; readonly entries: Entries }): number
  /** Registers the operators `FourierFT` and `FourierFTGrad`, given the path of the loaded libtensorflow_framework. */
  registerTensorFlow(library: string): void
}

export interface Platform {
  /** Loads the native kernel and registers its operators in the TensorFlow of this process; undefined if that is not possible. */
  openNativeKernel(): NativeKernel | undefined
}
