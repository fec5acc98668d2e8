/** The digits transformer in ONNX Runtime Web on WebAssembly: the exported model with the current adapter of the page. */
import type { Adapter } from '@fourierft/core'
import { type AdaptedSession, createSession, type Ort } from '@fourierft/onnxruntime'
import { type Checkpoint, type DigitSet, onnxLogits, onnxTransformer } from '@fourierft/quickstart/browser'

export class OnnxDigitModel {
  readonly #session: AdaptedSession
  readonly #ort: Ort

  private constructor(session: AdaptedSession, ort: Ort) {
    this.#session = session
    this.#ort = ort
  }

  /** Fetches ONNX Runtime and exports the model in the page. */
  static async create(checkpoint: Checkpoint): Promise<OnnxDigitModel> {
    const ort = await import('onnxruntime-web')
    const session = await createSession(onnxTransformer(checkpoint).toBytes(), {
      ort,
      executionProviders: ['wasm'],
    })
    return new OnnxDigitModel(session, ort)
  }

  /** Replaces the adapter. */
  async use(adapter: Adapter): Promise<void> {
    for (const name of this.#session.listAdapters()) this.#session.deleteAdapter(name)
    await this.#session.loadAdapter(adapter)
  }

  /** Logits `[count, 10]`, computed in batches of `batchSize`. */
  logits(digits: DigitSet, batchSize: number): Promise<Float32Array> {
    return onnxLogits(this.#session, this.#ort.Tensor, digits, batchSize)
  }
}
