/**
 * The runtimes that apply the trained adapter. Each loads the exported model and PEFT's files from the disk, as users do.
 */
import { join } from 'node:path'
import { FourierFTError } from '@fourierft/core'
import { createSession, type Ort } from '@fourierft/onnxruntime'
import { type DigitSet, firstDigits } from './digits.js'
import { logitsInBatches } from './logits-in-batches.js'
import { onnxLogits } from './onnx-logits.js'
import { logits, pixelValues } from './onnx-transformer.js'
import type { MissingRuntime, RuntimeRun } from './runtime-comparison.js'

/** The files that the demo wrote. */
export interface SavedFiles {
  /** The folder of the ONNX model. */
  readonly model: string
  /** The adapter's folder. */
  readonly adapter: string
}

export interface Runtime {
  readonly name: string
  /**
   * Opens the model with the adapter.
   *
   * @throws {RuntimeMissing} if the runtime is not available on this machine; any other error is a failure
   */
  open(files: SavedFiles): Promise<OpenModel>
}

export interface OpenModel {
  /** Logits `[count, classes]`. */
  logits(digits: DigitSet): Promise<Float32Array>
  close(): Promise<void>
}

/** The reason why a runtime is not available. */
export class RuntimeMissing extends Error {}

export const runtimes: readonly Runtime[] = [
  {
    name: 'ONNX Runtime, native kernel',
    async open(files) {
      const ort = await load('onnxruntime-node', () => import('onnxruntime-node'))
      try {
        return await openSession(ort, files, true)
      } catch (cause) {
        if (FourierFTError.isInstance(cause) && cause.details.option === 'native')
          throw new RuntimeMissing(cause.message, { cause })
        throw cause
      }
    },
  },
  {
    name: 'ONNX Runtime, portable',
    open: async (files) =>
      openSession(await load('onnxruntime-node', () => import('onnxruntime-node')), files, false),
  },
  {
    name: 'ONNX Runtime Web, WebAssembly',
    open: async (files) =>
      openSession(await load('onnxruntime-web', () => import('onnxruntime-web')), files, false),
  },
  {
    name: 'transformers.js',
    async open({ model, adapter }) {
      // Import attach() first: the package records how models are loaded.
      const { attach } = await load('@fourierft/transformers', () => import('@fourierft/transformers'))
      const { pipeline, Tensor } = await load(
        '@huggingface/transformers',
        () => import('@huggingface/transformers'),
      )
      const classify = await pipeline('image-classification', model, {
        dtype: 'fp32',
        local_files_only: true,
      })
      const adapters = await attach(classify)
      await adapters.loadAdapter(adapter)
      return {
        // The pipeline would round the pixels of rotated digits to bytes, so this calls its model.
        logits: (digits) =>
          logitsInBatches(digits, async (images, dims) => {
            const results = await classify.model({ [pixelValues]: new Tensor('float32', images, dims) })
            return results[logits].data
          }),
        close: () => classify.dispose(),
      }
    },
  },
]

/** Runs all digits in a runtime. A first run of one digit keeps the start-up out of the measured time. */
export async function runIn(
  { name: runtime, open }: Runtime,
  files: SavedFiles,
  digits: DigitSet,
): Promise<RuntimeRun | MissingRuntime> {
  try {
    const model = await open(files)
    await model.logits(firstDigits(digits, 1))
    const begin = performance.now()
    const logits = await model.logits(digits)
    const milliseconds = (performance.now() - begin) / digits.count
    await model.close()
    return { runtime, logits, milliseconds }
  } catch (error) {
    if (error instanceof RuntimeMissing) return { runtime, reason: error.message }
    throw error
  }
}

async function openSession(ort: Ort, { model, adapter }: SavedFiles, native: boolean): Promise<OpenModel> {
  const session = await createSession(join(model, 'onnx', 'model.onnx'), { ort, native, adapters: adapter })
  return {
    logits: (digits) => onnxLogits(session, ort.Tensor, digits),
    close: () => session.release(),
  }
}

/** @throws {RuntimeMissing} if the package is not installed, or has no binary for this machine */
async function load<T>(name: string, importModule: () => Promise<T>): Promise<T> {
  try {
    return await importModule()
  } catch (cause) {
    const [reason = ''] = (cause instanceof Error ? cause.message : String(cause)).split('\n')
    throw new RuntimeMissing(`${name} does not load: ${reason}`, { cause })
  }
}
