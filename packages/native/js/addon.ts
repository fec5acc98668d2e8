/** Finds and loads the compiled addon: the package of this platform, or what was compiled here. */
import { createRequire } from 'node:module'

/** The addon's own functions; lengths and types are checked there. `dtype`: 0 float32, 1 float16, 2 bfloat16. */
export interface Addon {
  createPlan(d1: number, d2: number, rows: Uint32Array, columns: Uint32Array): number
  destroyPlan(plan: number): void
  planCount(): number
  forward(
    plan: number,
    coefficients: Float32Array,
    scalings: Float32Array,
    dtype: number,
    x: Activations,
    adapterOfRow: Int32Array | null,
    y: Activations,
  ): Promise<void>
  backward(
    plan: number,
    coefficients: Float32Array,
    scalings: Float32Array,
    dtype: number,
    x: Activations,
    gradY: Activations,
    adapterOfRow: Int32Array | null,
    gradCoefficients: Float32Array,
    gradX: Activations | null,
  ): Promise<void>
  delta(plan: number, coefficients: Float32Array, scalings: Float32Array, delta: Float32Array): Promise<void>
  registerTensorFlow(library: string): void
  openOnnxRuntime(library: string): string
  openCudaLibrary(path: string): Promise<number>
  createOnnxSession(
    model: string | Uint8Array,
    options: Readonly<Record<string, unknown>>,
  ): Promise<{ handle: SessionHandle; inputs: AddonValue[]; outputs: AddonValue[] }>
  /** `shapes`: of each of the session's inputs in turn ONNX Runtime's number of its type, its rank and its dims. */
  runOnnxSession(
    session: SessionHandle,
    shapes: Float64Array,
    data: readonly AddonTensor['data'][],
    outputNames: readonly string[],
    options: object,
  ): Promise<AddonTensor[]>
  releaseOnnxSession(session: SessionHandle): void
  instructions(): string
}

/** A session of ONNX Runtime, opaque. */
export type SessionHandle = { readonly session: never }

/** An input or output of a session: ONNX Runtime's number of its type; −1 for a dynamic dimension, which may have a name. */
export interface AddonValue {
  readonly name: string
  readonly isTensor: boolean
  readonly type: number
  readonly dims: readonly number[]
  readonly symbols: readonly string[]
}

/** An output; an input's data are any view of its bytes. */
export interface AddonTensor {
  readonly type: number
  readonly dims: readonly number[]
  readonly data: ArrayBuffer | ArrayBufferView | readonly string[]
}

/** Float32Array, or the bits of float16 or bfloat16 numbers. */
export type Activations = Float32Array | Uint16Array

const require = createRequire(import.meta.url)

/** Packages that may fit: which C library a Linux has shows when its addon loads, and npm installs the one of this machine. */
const platform = `${process.platform}-${process.arch}`
const packages = [
  `@fourierft/native-${platform}`,
  ...(process.platform === 'linux' ? [`@fourierft/native-${platform}-musl`] : []),
]

/** The addon, or in one line why there is none. */
export function loadAddon(): { readonly addon: Addon } | { readonly problem: string } {
  const problems: string[] = []
  for (const place of [...packages, '../build/fourierft.node']) {
    try {
      return { addon: require(place) }
    } catch (error) {
      problems.push(`${place}: ${(error as Error).message.split('\n')[0]}`)
    }
  }
  return {
    problem:
      `no compiled kernel for ${platform} (${problems.join('; ')}); install again without --omit=optional, or ` +
      'install CMake and a C++17 compiler, then run `npm rebuild @fourierft/native` (inside this project: npm run setup)',
  }
}
