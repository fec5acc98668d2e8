/**
 * `registerFourierFTBackend`: an execution provider that computes `fourierft:FourierFT` nodes with the native kernel. Users request it from ONNX
 * Runtime: `InferenceSession.create(model, { executionProviders: [{ name: 'fourierft', device: 'cuda' }] })`.
 */
import { FourierFTError } from '@fourierft/core'
import type {
  OnnxDevice,
  OnnxDeviceTensor,
  OnnxInputs,
  OnnxRuntime,
  OnnxSession,
  OnnxTensor,
  OnnxValue,
} from '@fourierft/native'
import type { Backend, InferenceSession, InferenceSessionHandler, Tensor } from 'onnxruntime-common'
import { platform } from '#platform'
import type { Ort } from './ort.js'
import { checkOutputLocations, outputsOnDevice } from './output-locations.js'

/** The name of the execution provider. */
export const BACKEND = 'fourierft'

/** An element of the option `executionProviders`. On CUDA, the settings are those of ONNX Runtime's own CUDA provider. */
export interface FourierFTProvider {
  readonly name: typeof BACKEND
  readonly device?: OnnxDevice
  readonly [setting: string]: unknown
}

const registered = new WeakMap<Ort['registerBackend'], Backend>()

/**
 * Makes `fourierft` an execution provider of this copy of ONNX Runtime. Only sessions that request it by name use it, and the first of them opens
 * the kernel. It computes on its `device`, by default the CPU. Creating a session on a missing device throws `UNSUPPORTED`.
 */
export function registerFourierFTBackend(ort: Pick<Ort, 'registerBackend' | 'Tensor'>): void {
  if (registered.has(ort.registerBackend)) return
  const backend = nativeBackend(ort.Tensor)
  // ONNX Runtime does not choose backends of negative priority automatically.
  ort.registerBackend(BACKEND, backend, -1)
  registered.set(ort.registerBackend, backend)
}

function nativeBackend(TensorClass: Ort['Tensor']): Backend {
  let runtime: OnnxRuntime | undefined
  return {
    async init() {
      runtime = await platform.openNativeKernel()
    },
    async createInferenceSessionHandler(model, options = {}) {
      runtime ??= await platform.openNativeKernel()
      const { executionProviders = [], externalData = [], preferredOutputLocation, ...rest } = options
      if (externalData.length > 0)
        throw new FourierFTError(
          'UNSUPPORTED',
          'externalData: sessions with the native kernel take external data from files only',
          { advice: 'give the model as a path, or choose `native: false`', option: 'externalData' },
        )
      const provider = executionProviders.find(
        (candidate): candidate is FourierFTProvider => typeof candidate !== 'string',
      )
      const { name: _, device = 'cpu', ...settings }: FourierFTProvider = provider ?? { name: BACKEND }
      const { useArena } = settings
      checkOutputLocations(preferredOutputLocation, device)
      let session: OnnxSession
      try {
        session = await runtime.createSession(model, {
          // In @fourierft/native, the only setting of the provider cpu is an option of the session.
          ...(device === 'cpu' && typeof useArena === 'boolean' && { enableCpuMemArena: useArena }),
          ...rest,
          executionProviders: [{ name: device, ...settings }],
        })
      } catch (cause) {
        const { code, message, problem = message, advice } = cause as NativeError
        throw code === 'UNSUPPORTED' && device !== 'cpu'
          ? new FourierFTError(code, problem, {
              ...(advice !== undefined && { advice }),
              option: 'device',
              cause,
            })
          : cause
      }
      try {
        return new NativeHandler(
          session,
          TensorClass,
          outputsOnDevice(preferredOutputLocation, session.outputs),
        )
      } catch (error) {
        session.release()
        throw error
      }
    },
  }
}

/** An error of `@fourierft/native` or of ONNX Runtime. Only errors of `@fourierft/native` have the optional fields. */
export interface NativeError {
  readonly code?: unknown
  readonly message: string
  readonly problem?: string
  readonly advice?: string
  /** The input or output that is wrong. */
  readonly tensor?: string
}

const DOWNLOAD_FIRST = 'download it first: await tensor.getData()'
const DISPOSE_LATER = 'dispose of tensors after their last run'

/** The buffers of all tensors that a session of this file has left on its device. */
const deviceBuffers = new WeakSet<object>()

class NativeHandler implements InferenceSessionHandler {
  readonly inputNames: readonly string[]
  readonly outputNames: readonly string[]
  readonly inputMetadata: readonly InferenceSession.ValueMetadata[]
  readonly outputMetadata: readonly InferenceSession.ValueMetadata[]
  readonly #session: OnnxSession
  readonly #Tensor: Ort['Tensor']
  readonly #onDevice: ReadonlySet<string>

  /** @param onDevice the outputs that stay on the device */
  constructor(session: OnnxSession, TensorClass: Ort['Tensor'], onDevice: ReadonlySet<string>) {
    this.#session = session
    this.#Tensor = TensorClass
    this.#onDevice = onDevice
    this.inputNames = session.inputs.map(({ name }) => name)
    this.outputNames = session.outputs.map(({ name }) => name)
    this.inputMetadata = session.inputs.map(metadata)
    this.outputMetadata = session.outputs.map(metadata)
  }

  async run(
    feeds: Readonly<Record<string, Tensor>>,
    fetches: Readonly<Record<string, Tensor | null>>,
    { logSeverityLevel, logVerbosityLevel, tag }: InferenceSession.RunOptions,
  ): Promise<Record<string, Tensor>> {
    const inputs = inputsOf(feeds, this.inputNames)
    for (const [name, target] of Object.entries(fetches)) if (target) checkTarget(target, name)
    // The place of an output that the caller gives takes precedence over the option of the session.
    const onDevice = Object.keys(fetches).filter((name) => this.#onDevice.has(name) && !fetches[name])
    const results = await this.#session
      .run(inputs, Object.keys(fetches), { logSeverityLevel, logVerbosityLevel, tag, onDevice })
      .catch((cause: NativeError) => {
        const { code, message, problem = message, tensor } = cause
        if (tensor === undefined || (code !== 'INVALID_STATE' && code !== 'UNSUPPORTED')) throw cause
        throw new FourierFTError(code, problem, {
          advice: code === 'UNSUPPORTED' ? DOWNLOAD_FIRST : DISPOSE_LATER,
          tensor,
          cause,
        })
      })
    return Object.fromEntries(
      Object.entries(results).map(([name, result]) => {
        if (!('data' in result)) return [name, this.#deviceTensor(result)]
        const target = Object.hasOwn(fetches, name) ? fetches[name] : undefined
        return [name, target ? fill(target, name, result) : this.#tensor(result)]
      }),
    )
  }

  async dispose(): Promise<void> {
    this.#session.release()
  }

  startProfiling(): void {}

  endProfiling(): void {}

  #tensor({ type, data, dims }: OnnxTensor): Tensor {
    return new this.#Tensor(type as 'float32', data as Float32Array, dims)
  }

  #deviceTensor(tensor: OnnxDeviceTensor): Tensor {
    deviceBuffers.add(tensor)
    return this.#Tensor.fromGpuBuffer(tensor as never, {
      dataType: tensor.type as 'float32',
      dims: tensor.dims,
      download: async () => (await tensor.read()) as Float32Array,
      dispose: () => tensor.release(),
    })
  }
}

/**
 * Returns the inputs of a session of `@fourierft/native`: the feeds themselves, or for feeds on a device the tensors there.
 *
 * @throws {FourierFTError} `INVALID_STATE` for a feed that was disposed; `UNSUPPORTED` for one of another runtime
 */
function inputsOf(feeds: Readonly<Record<string, Tensor>>, names: readonly string[]): OnnxInputs {
  const onDevice: Record<string, OnnxDeviceTensor> = {}
  for (const name of names) {
    const feed = feeds[name]
    if (!feed || !isOnDevice(feed)) continue
    const { location } = feed
    if (location === 'none') throw disposed(`input ${name}`, name)
    if (location !== 'gpu-buffer' || !deviceBuffers.has(feed.gpuBuffer))
      throw new FourierFTError(
        'UNSUPPORTED',
        `input ${name}: expected a tensor in JavaScript's memory, or an output of a session on CUDA; received one of another runtime (${location})`,
        { advice: DOWNLOAD_FIRST, tensor: name, received: location },
      )
    onDevice[name] = feed.gpuBuffer as unknown as OnnxDeviceTensor
  }
  const inputs = feeds as unknown as OnnxInputs
  return Object.keys(onDevice).length > 0 ? { ...inputs, ...onDevice } : inputs
}

/** Whether a tensor is not in JavaScript's memory. Tensors of other classes have no location. */
function isOnDevice({ location }: Tensor): boolean {
  return location !== undefined && location !== 'cpu' && location !== 'cpu-pinned'
}

/**
 * Checks the tensor for an output.
 *
 * @throws {FourierFTError} `INVALID_STATE` for a tensor that was disposed; `UNSUPPORTED` for one on a device
 */
function checkTarget(target: Tensor, name: string): void {
  const { location } = target
  if (location === 'none') throw disposed(`output ${name}`, name)
  if (isOnDevice(target))
    throw new FourierFTError(
      'UNSUPPORTED',
      `output ${name}: expected null or a tensor in JavaScript's memory; received one on a device (${location})`,
      { advice: 'each run makes a new tensor on the device', tensor: name, received: location },
    )
}

function disposed(subject: string, tensor: string): FourierFTError {
  return new FourierFTError('INVALID_STATE', `${subject}: the tensor was disposed`, {
    advice: DISPOSE_LATER,
    tensor,
  })
}

/** Copies the result into the caller's tensor. */
function fill(target: Tensor, name: string, { type, dims, data }: OnnxTensor): Tensor {
  if (target.type !== type || target.dims.join() !== dims.join())
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `output ${name}: expected a tensor of type ${type} [${dims.join(', ')}]; received ${target.type} [${target.dims.join(', ')}]`,
      { tensor: name, expected: dims, received: target.dims },
    )
  ;(target.data as Uint8Array).set(data as Uint8Array)
  return target
}

function metadata(value: OnnxValue): InferenceSession.ValueMetadata {
  return value.isTensor
    ? { name: value.name, isTensor: true, type: value.type, shape: value.shape }
    : { name: value.name, isTensor: false }
}
