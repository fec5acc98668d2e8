/**
 * The runtimes that the adapter is taken to after its training. Each loads the exported model and PEFT's files by itself, as its users
 * would; nothing is handed over in memory.
 */
import { join } from 'node:path'
import { FourierFTError } from '@fourierft/core'
import { createSession, type Ort } from '@fourierft/onnxruntime'
import { type DigitSet, firstDigits } from './digits.js'
import { logitsInBatches } from './logits-in-batches.js'
import { onnxLogits } from './onnx-logits.js'
import { logits, pixelValues } from './onnx-transformer.js'
import type { MissingRuntime, RuntimeRun } from './runtime-comparison.js'

/** What the demo left on the disk. */
export interface SavedFiles {
  /** The folder of the ONNX model. */
  readonly model: string
  /** The adapter's folder. */
  readonly adapter: string
}

export interface Runtime {
  readonly name: string
  /**
   * The model with the adapter.
   *
   * @throws {RuntimeMissing} where the runtime cannot be had here; whatever else is thrown is a mistake
   */
  open(files: SavedFiles): Promise<OpenModel>
}

export interface OpenModel {
  /** Logits `[count, classes]`. */
  logits(digits: DigitSet): Promise<Float32Array>
  close(): Promise<void>
}

/** Says why a runtime is not to be had. */
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
      // In this order: attach() has to see how a model is loaded.
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
        // The pipeline takes images of bytes; turned digits have values between them, so that its model is asked.
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

/** Runs all digits; the first of them once before, so that nobody's start is measured. */
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

/** @throws {RuntimeMissing} where it is not installed, or its binary is for other machines */
async function load<T>(name: string, loadIt: () => Promise<T>): Promise<T> {
  try {
    return await loadIt()
  } catch (cause) {
    const [reason = ''] = (cause instanceof Error ? cause.message : String(cause)).split('\n')
    throw new RuntimeMissing(`${name} does not load: ${reason}`, { cause })
  }
}
