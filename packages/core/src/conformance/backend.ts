/**
 * The interface through which the conformance suite, the benchmarks and the command line use a runtime. A backend runs the same code as
 * the users of the runtime's package: the same layer class, the same session, the same operator.
 */
import type { FloatArray, Layer } from '../adapter/layer.js'
import type { AdapterBytes } from '../files/adapter-bytes.js'
import type { ApplyOptions, Strategy } from '../spectrum/apply-options.js'

/** The result of `AdaptedLinear.backward`. */
export interface LinearGradients {
  /** `∂L/∂c`, one array `[n]` for each layer. */
  readonly coefficients: readonly FloatArray[]
  /** `∂L/∂x` of the whole adapted layer (base weight included), `[T, d2]`. */
  readonly x: FloatArray
}

/** `y = (W + Σ ΔW) x + b` on the real runtime. */
export interface AdaptedLinear {
  /** `x` `[T, d2]` row-major → `y` `[T, d1]`. */
  forward(x: Float32Array, options?: ApplyOptions): Promise<FloatArray>
  /** Gradients for `gradY` `[T, d1]` at `x` `[T, d2]`. */
  backward(x: Float32Array, gradY: Float32Array, options?: ApplyOptions): Promise<LinearGradients>
  /** Replaces the coefficients of every layer, without a rebuild. */
  setCoefficients(coefficients: readonly Float32Array[]): Promise<void>
  /** Disables all adapters. Outputs are those of the base layer, bit for bit. */
  disable(): Promise<void>
  enable(): Promise<void>
  /** Adds ΔW of all layers to the weight. */
  merge(): Promise<void>
  /** Restores the original weight, bit for bit. */
  unmerge(): Promise<void>
  /** Returns the weight that the runtime now uses, `[d1, d2]` row-major. */
  weight(): Promise<FloatArray>
  dispose(): Promise<void>
}

/** A runtime, as the suite uses it. `checkedBackend` makes one from functions without checks. */
export interface Backend {
  /** The name of its row in the conformance table: `core`, `tfjs-wasm`, … */
  readonly name: string
  /** The device that computes: `cpu`, `wasm`, `NVIDIA …`. */
  readonly device: string
  /** Versions of the runtime's packages. */
  readonly versions: Readonly<Record<string, string>>
  readonly strategies: readonly Strategy[]
  /**
   * Who can train with the gradients of `backward`. `users` (default): users of the package. `suite`: only the conformance suite; the
   * table does not tick levels 5 and 7. `nobody`: levels 5 and 7 are skipped.
   */
  readonly trainable?: 'users' | 'suite' | 'nobody'
  /** Computes ΔW in `[out, in]` orientation, row-major `[d1·d2]`. */
  delta(layer: Layer): Promise<FloatArray>
  /**
   * Makes an adapted layer of `weight` `[d1, d2]` row-major and `bias` `[d1]` or null. All `layers` have that shape: their ΔW are added
   * up, or each row has one of them. Without layers the result is the frozen layer; it needs a bias, whose length gives `d1`.
   */
  linear(weight: Float32Array, bias: Float32Array | null, layers: readonly Layer[]): Promise<AdaptedLinear>
  /** Passes an adapter through the runtime (attach, load, save) and returns the files that it writes. Absent: the runtime writes no files. */
  roundTrip?(files: AdapterBytes): Promise<AdapterBytes>
  /** Counts the live handles of the runtime (tensors, buffers, sessions). The number is equal before and after use if nothing leaks. */
  resources?(): number | Promise<number>
  /** Frees everything that the backend holds. */
  dispose?(): Promise<void>
}
