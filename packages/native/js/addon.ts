/** Finds and loads the compiled addon: the package of this platform, or what was compiled here. */
import { createRequire } from 'node:module'

/**
 * How a call ends that computes off the main thread: `done(undefined, value)`, or `done(error)`. `settled` makes a promise of it. The addon
 * makes none itself: Node frees what belongs to such a promise only where it is settled, and in a worker that is terminated it never is.
 */
export type Done<T> = (error: Error | undefined, value: T) => void

/** The promise of a call of the addon. */
export function settled<T>(call: (done: Done<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, value) => (error === undefined ? resolve(value) : reject(error)))
  })
}

/** The addon's own functions; lengths and types are checked there. `dtype`: 0 float32, 1 float16, 2 bfloat16. */
export interface Addon {
  createPlan(d1: number, d2: number, rows: Uint32Array, columns: Uint32Array): number
  destroyPlan(plan: number): void
  forward(
    plan: number,
    coefficients: Float32Array,
    scalings: Float32Array,
    dtype: number,
    x: Activations,
    adapterOfRow: Int32Array | null,
    y: Activations,
    done: Done<undefined>,
  ): void
  backward(
    plan: number,
    coefficients: Float32Array,
    scalings: Float32Array,
    dtype: number,
    x: Activations,
    gradY: Activations,
    adapterOfRow: Int32Array | null,
    gradX: Activations | null,
    /** `∂L/∂c` as float32 numbers. */
    done: Done<ArrayBuffer>,
  ): void
  /** ΔW as float32 numbers. */
  delta(plan: number, coefficients: Float32Array, scalings: Float32Array, done: Done<ArrayBuffer>): void
  registerTensorFlow(library: string): void
  openOnnxRuntime(library: string): string
  openCudaLibrary(path: string, done: Done<number>): void
  createOnnxSession(
    model: string | Uint8Array,
    options: Readonly<Record<string, unknown>>,
    done: Done<AddonSession>,
  ): void
  /** `shapes`: of each of the session's inputs in turn ONNX Runtime's number of its type, its rank and its dims. */
  runOnnxSession(
    session: SessionHandle,
    shapes: Float64Array,
    data: readonly AddonTensor['data'][],
    outputNames: readonly string[],
    options: object,
    done: Done<AddonTensor[]>,
  ): void
  releaseOnnxSession(session: SessionHandle): void
  instructions(): string
  /** What lives in the process, whichever thread has made it, for tests. */
  live(): { readonly plans: number; readonly sessions: number; readonly jobs: number }
}

/** A session of ONNX Runtime, opaque. */
export type SessionHandle = { readonly session: never }

export interface AddonSession {
  readonly handle: SessionHandle
  readonly inputs: readonly AddonValue[]
  readonly outputs: readonly AddonValue[]
}

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
  readonly name: string
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
