/** Shows the score of the fine-tuned model in ONNX Runtime Web, and the difference from TensorFlow.js. */
import type { Adapter } from '@fourierft/core'
import { largestDifference, predictions, roundingLimit, score } from '@fourierft/quickstart/browser'
import { elements } from './elements.js'
import type { Data } from './fetch-data.js'
import { OnnxDigitModel } from './onnx-digit-model.js'

/** Digits in a batch. The page handles events between batches. */
const batchSize = 50

export class OnnxPanel {
  readonly #data: Data
  #model: OnnxDigitModel | undefined

  constructor(data: Data) {
    this.#data = data
  }

  /** Clears the score while the adapter changes. */
  clear(): void {
    elements.onnxScore.textContent = '…'
    elements.onnxAnswer.textContent = ''
  }

  /**
   * Runs the adapter in ONNX Runtime Web, which is fetched on the first call.
   *
   * @param logits the logits of TensorFlow.js for the test digits, with the same adapter
   */
  async compare(adapter: Adapter, logits: Float32Array): Promise<void> {
    this.clear()
    const { checkpoint, test } = this.#data
    this.#model ??= await OnnxDigitModel.create(checkpoint)
    await this.#model.use(adapter)
    const others = await this.#model.logits(test, batchSize)
    const expected = predictions(logits, test.count)
    const same = predictions(others, test.count).filter((label, digit) => label === expected[digit]).length
    // Both runtimes round to float32.
    const limit = 2 * roundingLimit(checkpoint.config, logits)
    const difference = largestDifference(logits, others)
    elements.onnxScore.textContent = `${(100 * score(others, test.labels).accuracy).toFixed(1)} %`
    elements.onnxAnswer.textContent =
      `In ONNX Runtime Web ${same} of ${test.count} labels are the same as in TensorFlow.js. Logits differ by at most ` +
      `${difference.toExponential(1)}; rounding explains differences up to ${limit.toExponential(1)}.`
  }
}
