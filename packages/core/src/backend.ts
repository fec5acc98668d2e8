/**
 * The seam between backends. The conformance suite, the benchmarks and the command line see a runtime only through this. Behind it a
 * backend runs the code that its users run: the same layer class, the same session, the same operator.
 */
import type { FloatArray, Layer } from './adapter/layer.js'

/**
 * How an adapter is applied: `merge` adds ΔW to the weight once; `dense` forms ΔW for each change of the coefficients; `factored`
 * multiplies by cosine and sine bases, never multiplied out; `spectral` transforms the activations; `native` does so in compiled code.
 */
export type Strategy = 'merge' | 'dense' | 'factored' | 'spectral' | 'native'

/** How one call applies the layers. */
export interface ApplyOptions {
  /** Default: `auto`, chosen from `(T, d1, d2, n)`. `merge` is no option here: it is `AdaptedLinear.merge`. */
  readonly strategy?: Exclude<Strategy, 'merge'> | 'auto'
  /** For each of the T rows of `x` the index of its one layer in `layers`, or −1 for none. Default: all layers, added. */
  readonly rows?: Int32Array
}

/** What `AdaptedLinear.backward` gives. */
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
  /** New coefficients for every layer, without building anything anew. */
  setCoefficients(coefficients: readonly Float32Array[]): Promise<void>
  /** Nothing is active: the base layer's own bits. */
  disable(): Promise<void>
  enable(): Promise<void>
  /** Adds ΔW of all layers to the weight. */
  merge(): Promise<void>
  /** Gives the weight's original bits back. */
  unmerge(): Promise<void>
  /** The weight as the runtime holds it now, `[d1, d2]` row-major. */
  weight(): Promise<FloatArray>
  dispose(): Promise<void>
}

/** One way to apply layers: what a runtime implements, and what `@fourierft/conformance` checks. */
export interface Backend {
  /** The row's name in the conformance table: `core`, `tfjs-wasm`, … */
  readonly name: string
  /** What computes: `cpu`, `wasm`, `NVIDIA …`; with versions in `versions`. */
  readonly device: string
  readonly versions: Readonly<Record<string, string>>
  readonly strategies: readonly Strategy[]
  /** False for a runtime that serves and does not train: its gradients are not looked at. */
  readonly trains?: false
  /** ΔW in `[out, in]` orientation, row-major `[d1·d2]`. */
  delta(layer: Layer): Promise<FloatArray>
  /**
   * `weight` `[d1, d2]` row-major, `bias` `[d1]` or null, `layers` all of that shape (several: added, or one for each row). Without
   * layers it is the frozen layer, whose `d1` the bias tells.
   */
  linear(weight: Float32Array, bias: Float32Array | null, layers: readonly Layer[]): Promise<AdaptedLinear>
  /** Reads an adapter, puts it through the runtime (attach, load, save) and returns the files it writes. Absent: nothing of the kind. */
  roundTrip?(files: AdapterBytes): Promise<AdapterBytes>
  /** Live handles of the runtime (tensors, buffers, sessions); equal before and after use when nothing leaks. */
  resources?(): number | Promise<number>
  /** Frees what the backend itself holds. */
  dispose?(): Promise<void>
}

/** The two files of an adapter, in memory. */
export interface AdapterBytes {
  /** `adapter_config.json` */
  readonly config: Uint8Array
  /** `adapter_model.safetensors` */
  readonly model: Uint8Array
}
