/**
 * `registerFourierFTBackend`: an execution provider that computes `fourierft:FourierFT` nodes with the native kernel. Users request it from ONNX
 * Runtime: `InferenceSession.create(model, { executionProviders: [{ name: 'fourierft', device: 'cuda' }] })`.
 */
import { FourierFTError } from '@fourierft/core'
import type { OnnxDevice, OnnxRuntime, OnnxSession, OnnxTensor, OnnxValue } from '@fourierft/native'
import type { Backend, InferenceSession, InferenceSessionHandler, Tensor } from 'onnxruntime-common'
import { platform } from '#platform'
import type { Ort } from './ort.js'

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
      const { executionProviders = [], externalData = [], ...rest } = options
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
      try {
        const session = await runtime.createSession(model, {
          // In @fourierft/native, the only setting of the provider cpu is an option of the session.
          ...(device === 'cpu' && typeof useArena === 'boolean' && { enableCpuMemArena: useArena }),
          ...rest,
          executionProviders: [{ name: device, ...settings }],
        })
        return new NativeHandler(session, TensorClass)
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
    },
  }
}

/** An error of `@fourierft/native` or of ONNX Runtime. Only errors of `@fourierft/native` have the optional fields. */
export interface NativeError {
  readonly code?: unknown
  readonly message: string
  readonly problem?: string
  readonly advice?: string
}

class NativeHandler implements InferenceSessionHandler {
  readonly inputNames: readonly string[]
  readonly outputNames: readonly string[]
  readonly inputMetadata: readonly InferenceSession.ValueMetadata[]
  readonly outputMetadata: readonly InferenceSession.ValueMetadata[]
  readonly #session: OnnxSession
  readonly #Tensor: Ort['Tensor']

  constructor(session: OnnxSession, TensorClass: Ort['Tensor']) {
    this.#session = session
    this.#Tensor = TensorClass
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
    const options = { logSeverityLevel, logVerbosityLevel, tag }
    const inputs = feeds as unknown as Readonly<Record<string, OnnxTensor>>
    const results = await this.#session.run(inputs, Object.keys(fetches), options)
    return Object.fromEntries(
      Object.entries(results).map(([name, result]) => {
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
