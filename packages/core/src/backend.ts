/**
 * The interface of a backend. The conformance suite, the benchmarks and the command line use a runtime only through it. A backend
 * implements it with the code that its users run: the same layer class, the same session, the same operator.
 */
import type { FloatArray, Layer } from './adapter/layer.js'

/**
 * How an adapter is applied: `merge` adds ΔW to the weight once; `dense` forms ΔW for each change of the coefficients; `factored`
 * multiplies the activations by cosine and sine bases without forming ΔW; `spectral` transforms the activations; `native` does so in
 * compiled code.
 */
export type Strategy = 'merge' | 'dense' | 'factored' | 'spectral' | 'native'

/** How one call applies the layers. */
export interface ApplyOptions {
  /** Default: `auto`, chosen from `(T, d1, d2, n)`. `merge` is not a value here: call `AdaptedLinear.merge`. */
  readonly strategy?: Exclude<Strategy, 'merge'> | 'auto'
  /** The layer of each of the T rows of `x`, as an index into `layers`; −1: none. Default: the sum of all layers for every row. */
  readonly rows?: Int32Array
}

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
  /** Replaces the coefficients of every layer without rebuilding anything. */
  setCoefficients(coefficients: readonly Float32Array[]): Promise<void>
  /** Turns all layers off: `forward` gives the output of the base layer, bit for bit. */
  disable(): Promise<void>
  enable(): Promise<void>
  /** Adds ΔW of all layers to the weight. */
  merge(): Promise<void>
  /** Restores the original weight, bit for bit. */
  unmerge(): Promise<void>
  /** The weight as the runtime holds it now, `[d1, d2]` row-major. */
  weight(): Promise<FloatArray>
  dispose(): Promise<void>
}

/** One way to apply layers: implemented by a runtime, checked by `@fourierft/conformance`. */
export interface Backend {
  /** The row's name in the conformance table: `core`, `tfjs-wasm`, … */
  readonly name: string
  /** The device that computes: `cpu`, `wasm`, `NVIDIA …`. */
  readonly device: string
  readonly versions: Readonly<Record<string, string>>
  readonly strategies: readonly Strategy[]
  /** False for a runtime that serves and does not train: its gradients are not checked. */
  readonly trains?: false
  /** ΔW in `[out, in]` orientation, row-major `[d1·d2]`. */
  delta(layer: Layer): Promise<FloatArray>
  /**
   * `weight` is `[d1, d2]`, row-major; `bias` is `[d1]` or null. All `layers` have the weight's shape; several are added up, or each row
   * of the input uses one. Without layers this is the frozen layer, and `d1` is the length of `bias`.
   */
  linear(weight: Float32Array, bias: Float32Array | null, layers: readonly Layer[]): Promise<AdaptedLinear>
  /** Passes an adapter through the runtime (attach, load, save) and returns the files that it writes. Absent if the runtime has no such way. */
  roundTrip?(files: AdapterBytes): Promise<AdapterBytes>
  /** Number of live handles of the runtime (tensors, buffers, sessions): equal before and after use unless something leaks. */
  resources?(): number | Promise<number>
  /** Frees the resources of the backend itself. */
  dispose?(): Promise<void>
}

/** The two files of an adapter, in memory. */
export interface AdapterBytes {
  /** `adapter_config.json` */
  readonly config: Uint8Array
  /** `adapter_model.safetensors` */
  readonly model: Uint8Array
}
