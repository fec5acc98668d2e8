/** Finds and loads the compiled addon: from the package of this platform, or from this package's build folder. */
import { createRequire } from 'node:module'

/**
 * The callback of a call that computes off the main thread: `done(undefined, value)` or `done(error)`. `promiseOf` makes a promise of it. The
 * addon makes no promises itself: Node frees a promise of an addon only when it is settled, and a terminated worker never settles it.
 */
export type Done<T> = (error: Error | undefined, value: T) => void

/** Makes the promise of a call of the addon. */
export function promiseOf<T>(call: (done: Done<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, value) => (error === undefined ? resolve(value) : reject(error)))
  })
}

/** The functions of the addon, which checks lengths and types. `dtype`: 0 float32, 1 float16, 2 bfloat16. */
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
  /**
   * `shapes`: for each input of the session, in its order, ONNX Runtime's number of the type, the rank and the dims. `onDevice`: a handle for
   * each input on the session's device, whose data are null; and for each output, whether it stays there.
   */
  runOnnxSession(
    session: SessionHandle,
    shapes: Float64Array,
    data: readonly (ArrayBufferView | readonly string[] | null)[],
    outputNames: readonly string[],
    options: object,
    onDevice: {
      readonly inputs: readonly (DeviceHandle | null)[] | undefined
      readonly outputs: readonly boolean[] | undefined
    } | null,
    done: Done<AddonOutput[]>,
  ): void
  releaseOnnxSession(session: SessionHandle): void
  readDeviceValue(value: DeviceHandle, done: Done<ArrayBuffer>): void
  releaseDeviceValue(value: DeviceHandle): void
  instructions(): string
  /** Counts the live objects of all threads of the process; for tests. */
  live(): {
    readonly plans: number
    readonly sessions: number
    readonly deviceValues: number
    readonly jobs: number
  }
}

/** An opaque handle of a session of ONNX Runtime. */
export type SessionHandle = { readonly session: never }

/** An opaque handle of a value on a session's device. */
export type DeviceHandle = { readonly deviceValue: never }

export interface AddonSession {
  readonly handle: SessionHandle
  readonly inputs: readonly AddonValue[]
  readonly outputs: readonly AddonValue[]
}

/** An input or output of a session. `type`: ONNX Runtime's number; `dims`: −1 for a dynamic dimension, which can have a name in `symbols`. */
export interface AddonValue {
  readonly name: string
  readonly isTensor: boolean
  readonly type: number
  readonly dims: readonly number[]
  readonly symbols: readonly string[]
}

/** An output of a session: its data, or its value on the session's device. */
export type AddonOutput = {
  readonly name: string
  readonly type: number
  readonly dims: readonly number[]
} & (
  | { readonly data: ArrayBuffer | readonly string[]; readonly value?: never }
  | { readonly value: DeviceHandle; readonly data?: never }
)

/** Float32Array, or the bits of float16 or bfloat16 numbers. */
export type Activations = Float32Array | Uint16Array

const require = createRequire(import.meta.url)

/** The packages for this platform. On Linux there are two, and npm installs the one for the machine's C library. */
const platform = `${process.platform}-${process.arch}`
const packages = [
  `@fourierft/native-${platform}`,
  ...(process.platform === 'linux' ? [`@fourierft/native-${platform}-musl`] : []),
]

/** Loads the addon. Returns the reason and advice if there is none. */
export function loadAddon():
  | { readonly addon: Addon }
  | { readonly problem: string; readonly advice: string } {
  const problems: string[] = []
  for (const name of [...packages, '../build/fourierft.node']) {
    try {
      return { addon: require(name) }
    } catch (error) {
      problems.push(`${name}: ${(error as Error).message.split('\n')[0]}`)
    }
  }
  return {
    problem: `no compiled kernel for ${platform} (${problems.join('; ')})`,
    advice:
      'install again without --omit=optional, or install CMake and a C++17 compiler, then run `npm rebuild @fourierft/native` ' +
      '(inside this project: npm run setup)',
  }
}
