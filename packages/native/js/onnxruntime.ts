/**
 * Sessions of the user's own ONNX Runtime in which this package's kernel computes the operators `fourierft:FourierFT` and
 * `fourierft:FourierFTGrad`. Runs are asynchronous, off the main thread, and can overlap. `release` or the garbage collector frees a
 * session.
 */
import {
  type AddonOutput,
  type AddonSession,
  type AddonValue,
  type DeviceHandle,
  loadAddon,
  promiseOf,
  type SessionHandle,
} from './addon.js'
import { cudaOptions, type OnnxExecutionProvider, openCuda, requestsDevice } from './cuda-provider.js'
import { OnnxDeviceTensor } from './device-tensor.js'
import { unsupported } from './native-error.js'
import { numberOf, type OnnxType, typedArray, typeOf } from './onnx-types.js'
import { untested } from './untested.js'

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

export type OnnxInputs = Readonly<Record<string, OnnxTensor | OnnxDeviceTensor>>

export interface OnnxSession {
  readonly inputs: readonly OnnxValue[]
  readonly outputs: readonly OnnxValue[]
  /**
   * Computes the named outputs. Tensors that are not inputs are ignored. Inputs are copied before this returns: their arrays can be changed or
   * transferred during the run. Those on the session's device are used where they are.
   *
   * @param options.onDevice outputs that stay on the session's device, as `OnnxDeviceTensor`s
   * @throws {Error} if an input is missing or ONNX Runtime rejects the run; with the code `INVALID_STATE` after `release`, or if an input on a
   *   device has been released; with the code `UNSUPPORTED` for inputs on another device, and for outputs that cannot be on one: all outputs
   *   of a session on the CPU, and strings. The property `tensor` then has the name of the input or output
   */
  run(
    inputs: OnnxInputs,
    outputs: readonly string[],
    options: OnnxRunOptions & { readonly onDevice: readonly string[] },
  ): Promise<Record<string, OnnxTensor | OnnxDeviceTensor>>
  run(
    inputs: OnnxInputs,
    outputs: readonly string[],
    options?: OnnxRunOptions,
  ): Promise<Record<string, OnnxTensor>>
  /** Frees the session when its last run is done and none of its outputs is left on the device. */
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
        run: ((tensors, outputNames, runOptions = {}) =>
          run(handle, names, tensors, outputNames, runOptions)) as OnnxSession['run'],
        release: () => addon.releaseOnnxSession(handle),
      }
    },
  }

  async function run(
    handle: SessionHandle,
    inputNames: readonly string[],
    tensors: OnnxInputs,
    outputNames: readonly string[],
    { onDevice = [], ...options }: OnnxRunOptions & { readonly onDevice?: readonly string[] },
  ): Promise<Record<string, OnnxTensor | OnnxDeviceTensor>> {
    const shapes: number[] = []
    /** The inputs on a device, and null for the others; undefined if there are none. */
    let handles: (DeviceHandle | null)[] | undefined
    const data = inputNames.map((name, i) => {
      const tensor = Object.hasOwn(tensors, name) ? tensors[name] : undefined
      if (tensor === undefined) throw new Error(`input ${name} is missing`)
      shapes.push(numberOf(tensor.type), tensor.dims.length, ...tensor.dims)
      if (!(tensor instanceof OnnxDeviceTensor)) return tensor.data
      handles ??= new Array<null>(inputNames.length).fill(null)
      handles[i] = tensor.handle
      return null
    })
    const kept = onDevice.length > 0 ? outputNames.map((name) => onDevice.includes(name)) : undefined
    const onDevices = handles || kept ? { inputs: handles, outputs: kept } : null
    const results = await promiseOf<AddonOutput[]>((done) =>
      addon.runOnnxSession(handle, Float64Array.from(shapes), data, outputNames, options, onDevices, done),
    )
    return Object.fromEntries(
      results.map(({ name, type: number, dims, data, value }) => {
        const type = typeOf(number)
        if (value !== undefined) return [name, new OnnxDeviceTensor(addon, type, dims, value)]
        return [name, { type, dims, data: data instanceof ArrayBuffer ? typedArray(type, data) : data }]
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
