/**
 * Sessions of the user's own ONNX Runtime in which this package's kernel computes the operators `fourierft:FourierFT` and
 * `fourierft:FourierFTGrad`. Runs are asynchronous, off the main thread, and can overlap. `release` or the garbage collector frees a
 * session.
 */
import {
  type AddonSession,
  type AddonTensor,
  type AddonValue,
  loadAddon,
  promiseOf,
  type SessionHandle,
} from './addon.js'
import { cudaOptions, type OnnxExecutionProvider, openCuda, requestsDevice } from './cuda-provider.js'
import { unsupported } from './native-error.js'
import { untested } from './untested.js'

/** ONNX's element types that have a typed array, by ONNX Runtime's numbers. */
const TYPES = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  uint4: 21,
  int4: 22,
} as const

export type OnnxType = keyof typeof TYPES

const NAMES = new Map<number, OnnxType>(
  Object.entries(TYPES).map(([name, number]) => [number, name as OnnxType]),
)

/** The array for `float16` numbers: Float16Array if the engine has it, as in ONNX Runtime's packages. */
const HALF_ARRAY: new (buffer: ArrayBuffer) => ArrayBufferView =
  (globalThis as { Float16Array?: new (buffer: ArrayBuffer) => ArrayBufferView }).Float16Array ?? Uint16Array

const ARRAYS: Readonly<Record<Exclude<OnnxType, 'string'>, new (buffer: ArrayBuffer) => ArrayBufferView>> = {
  float32: Float32Array,
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
  float16: HALF_ARRAY,
  float64: Float64Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  uint4: Uint8Array,
  int4: Int8Array,
}

export interface OnnxTensor {
  readonly type: string
  readonly dims: readonly number[]
  readonly data: ArrayBufferView | readonly string[]
}

/** An input or an output of a session. */
export type OnnxValue =
  | { readonly name: string; readonly isTensor: false }
  | {
      readonly name: string
      readonly isTensor: true
      readonly type: OnnxType
      /** A number, or the name of a dynamic dimension (empty if it has none). */
      readonly shape: readonly (number | string)[]
    }

/** The options of ONNX Runtime's `InferenceSession.create` that apply on the CPU or on CUDA, under the same names. */
export interface OnnxSessionOptions {
  /** `cuda` before `cpu`, or only `cpu` (the default). */
  readonly executionProviders?: readonly OnnxExecutionProvider[] | undefined
  readonly graphOptimizationLevel?: 'disabled' | 'basic' | 'extended' | 'layout' | 'all' | undefined
  readonly intraOpNumThreads?: number | undefined
  readonly interOpNumThreads?: number | undefined
  readonly executionMode?: 'sequential' | 'parallel' | undefined
  readonly enableCpuMemArena?: boolean | undefined
  readonly enableMemPattern?: boolean | undefined
  readonly enableProfiling?: boolean | undefined
  readonly profileFilePrefix?: string | undefined
  readonly optimizedModelFilePath?: string | undefined
  readonly logId?: string | undefined
  readonly logSeverityLevel?: 0 | 1 | 2 | 3 | 4 | undefined
  readonly logVerbosityLevel?: number | undefined
  readonly freeDimensionOverrides?: Readonly<Record<string, number>> | undefined
  /** Configuration entries; `{ session: { intra_op: … } }` means `session.intra_op`. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined
}

export interface OnnxRunOptions {
  readonly logSeverityLevel?: 0 | 1 | 2 | 3 | 4 | undefined
  readonly logVerbosityLevel?: number | undefined
  readonly tag?: string | undefined
}

export interface OnnxSession {
  readonly inputs: readonly OnnxValue[]
  readonly outputs: readonly OnnxValue[]
  /**
   * Computes the named outputs. Tensors that are not inputs are ignored. Inputs are copied before this returns: their arrays can be changed or
   * transferred during the run.
   *
   * @throws {Error} if an input is missing or ONNX Runtime rejects the run; with the code `INVALID_STATE` after `release`
   */
  run(
    inputs: Readonly<Record<string, OnnxTensor>>,
    outputs: readonly string[],
    options?: OnnxRunOptions,
  ): Promise<Record<string, OnnxTensor>>
  /** Frees the session when its last run is done. */
  release(): void
}

export interface OnnxRuntime {
  readonly version: string
  /** A warning if the version is newer than the tested ones, else undefined. Newer versions are used nevertheless. */
  readonly untested: string | undefined
  /** Returns the reason why the CUDA kernels cannot be used on this machine; undefined if they can. */
  cudaProblem(device?: 'cuda' | 'cuda-host'): Promise<string | undefined>
  /**
   * Makes a session of a model file, or of the bytes of a model. Bytes are copied: on the CPU before this returns, on CUDA after the library of
   * kernels is open. The bytes of a SharedArrayBuffer are read in place and must not change until the promise is settled.
   *
   * @throws {Error} with the code `UNSUPPORTED` if the session is on CUDA and the kernels, a device or ONNX Runtime's CUDA provider are missing
   */
  createSession(model: string | Uint8Array, options?: OnnxSessionOptions): Promise<OnnxSession>
}

/**
 * Opens the ONNX Runtime that this process has loaded.
 *
 * @param library path of the `libonnxruntime` of the user's own `onnxruntime-node`
 * @throws {Error} with the code `UNSUPPORTED` if there is no compiled kernel for this machine, if the library is not loaded, or if it is older
 *   than 1.18
 */
export function openOnnxRuntime(library: string): OnnxRuntime {
  const loaded = loadAddon()
  if ('problem' in loaded) throw unsupported(loaded.problem, loaded.advice)
  const { addon } = loaded
  const version = addon.openOnnxRuntime(library)
  return {
    version,
    untested: untested(version),
    cudaProblem: async (device = 'cuda') => {
      try {
        await openCuda(addon, device)
        return undefined
      } catch (error) {
        return (error as Error).message
      }
    },
    async createSession(model, { executionProviders = [], ...options } = {}) {
      const cpuOptions = sessionOptions(options)
      // Nothing is awaited on the CPU, so the bytes of a model are read before the caller continues.
      const addonOptions = requestsDevice(executionProviders)
        ? { ...cpuOptions, ...(await cudaOptions(addon, executionProviders)) }
        : cpuOptions
      const { handle, inputs, outputs } = await promiseOf<AddonSession>((done) =>
        addon.createOnnxSession(model, addonOptions, done),
      )
      const names = inputs.map(({ name }) => name)
      return {
        inputs: inputs.map(describeValue),
        outputs: outputs.map(describeValue),
        run: (tensors, outputNames, runOptions = {}) => run(handle, names, tensors, outputNames, runOptions),
        release: () => addon.releaseOnnxSession(handle),
      }
    },
  }

  async function run(
    handle: SessionHandle,
    inputNames: readonly string[],
    tensors: Readonly<Record<string, OnnxTensor>>,
    outputNames: readonly string[],
    options: OnnxRunOptions,
  ): Promise<Record<string, OnnxTensor>> {
    const shapes: number[] = []
    const data = inputNames.map((name) => {
      const tensor = Object.hasOwn(tensors, name) ? tensors[name] : undefined
      if (tensor === undefined) throw new Error(`input ${name} is missing`)
      shapes.push(numberOf(tensor.type), tensor.dims.length, ...tensor.dims)
      return tensor.data
    })
    const results = await promiseOf<AddonTensor[]>((done) =>
      addon.runOnnxSession(handle, Float64Array.from(shapes), data, outputNames, options, done),
    )
    return Object.fromEntries(
      results.map(({ name, type: number, dims, data }) => {
        const type = typeOf(number)
        const array =
          data instanceof ArrayBuffer ? new ARRAYS[type as Exclude<OnnxType, 'string'>](data) : data
        return [name, { type, dims, data: array }]
      }),
    )
  }
}

const LEVELS = { disabled: 0, basic: 1, extended: 2, layout: 3, all: 99 }
const MODES = { sequential: 0, parallel: 1 }

function sessionOptions(options: OnnxSessionOptions): Readonly<Record<string, unknown>> {
  const { graphOptimizationLevel: level = 'all', executionMode: mode = 'sequential' } = options
  const { enableProfiling, profileFilePrefix, freeDimensionOverrides = {}, extra = {} } = options
  checkThreads('intraOpNumThreads', options.intraOpNumThreads)
  checkThreads('interOpNumThreads', options.interOpNumThreads)
  return {
    ...options,
    graphOptimizationLevel: numberOfChoice('graphOptimizationLevel', LEVELS, level),
    executionMode: numberOfChoice('executionMode', MODES, mode),
    profileFilePrefix: enableProfiling ? (profileFilePrefix ?? 'onnxruntime_profile_') : undefined,
    freeDimensionNames: Object.keys(freeDimensionOverrides),
    freeDimensionSizes: Object.values(freeDimensionOverrides),
    configEntries: configEntries(extra, ''),
  }
}

function numberOfChoice(option: string, choices: Readonly<Record<string, number>>, value: string): number {
  const number = Object.hasOwn(choices, value) ? choices[value] : undefined
  if (number !== undefined) return number
  throw new RangeError(`${option}: expected one of ${Object.keys(choices).join(', ')}; received ${value}`)
}

/** Rejects negative numbers, which ONNX Runtime itself would accept. 0 lets ONNX Runtime choose. */
function checkThreads(option: string, value: number | undefined): void {
  if (value !== undefined && !(Number.isInteger(value) && value >= 0))
    throw new RangeError(`${option}: expected 0 or a positive integer; received ${value}`)
}

/** Converts `{ a: { b: 1 } }` to `['a.b', '1']`. */
function configEntries(extra: Readonly<Record<string, unknown>>, prefix: string): string[] {
  return Object.entries(extra).flatMap(([key, value]) =>
    typeof value === 'object' && value !== null
      ? configEntries(value as Record<string, unknown>, `${prefix}${key}.`)
      : [prefix + key, String(value)],
  )
}

function describeValue({ name, isTensor, type, dims, symbols }: AddonValue): OnnxValue {
  if (!isTensor) return { name, isTensor }
  return {
    name,
    isTensor,
    type: typeOf(type),
    shape: dims.map((dim, axis) => (dim < 0 ? (symbols[axis] ?? '') : dim)),
  }
}

function numberOf(type: string): number {
  const number = Object.hasOwn(TYPES, type) ? TYPES[type as OnnxType] : undefined
  if (number === undefined)
    throw new TypeError(`type: expected one of ${Object.keys(TYPES).join(', ')}; received ${type}`)
  return number
}

function typeOf(number: number): OnnxType {
  const name = NAMES.get(number)
  if (name === undefined) throw new TypeError(`tensors of ONNX's element type ${number} are not supported`)
  return name
}
