/** The second section of the page: the drawing, the input of the model, and the predictions of both models. */
import { type DigitSet, degrees, pick, rotateDigits } from '@fourierft/quickstart/browser'
import { digitFromInk } from './digit-from-ink.js'
import type { DigitModel } from './digit-model.js'
import { Drawing } from './drawing.js'
import { elements } from './elements.js'
import { Probabilities } from './probabilities.js'
import { showDigit } from './show-digit.js'

export class DrawingPanel {
  readonly #probabilities = new Probabilities(elements.probabilities)
  readonly #drawing = new Drawing(elements.canvas, () => this.#drawn())
  readonly #failed: (error: unknown) => void
  #model: DigitModel | undefined
  /** One digit, or none. */
  #digit: DigitSet | undefined
  #isRunning = false
  #runAgain = false

  /** @param failed called with the errors of predictions */
  constructor(failed: (error: unknown) => void) {
    this.#failed = failed
    elements.clear.addEventListener('click', () => this.#drawing.clear())
    elements.rotate.addEventListener('change', () => this.#drawn())
  }

  /** The model to use; undefined until it is loaded. */
  set model(model: DigitModel | undefined) {
    this.#model = model
    this.predict()
  }

  /** Uses one of these digits instead of a drawing, for users without a pointer. */
  take(digits: DigitSet): void {
    this.#drawing.clear()
    this.#digit = pick(digits, [Math.floor(Math.random() * digits.count)])
    this.predict()
  }

  /** Runs both models on the current digit. If the drawing changes while they run, runs them again. */
  predict(): void {
    showDigit(elements.modelInput, this.#digit?.pixels)
    if (this.#isRunning) {
      this.#runAgain = true
      return
    }
    this.#isRunning = true
    this.#showPredictions()
      .catch(this.#failed)
      .finally(() => {
        this.#isRunning = false
        if (!this.#runAgain) return
        this.#runAgain = false
        this.predict()
      })
  }

  async #showPredictions(): Promise<void> {
    const [digit, model] = [this.#digit, this.#model]
    if (digit === undefined || model === undefined) {
      this.#probabilities.clear()
      elements.answer.textContent = ''
      return
    }
    const [frozen, tuned] = await Promise.all([model.logits(digit, 'frozen'), model.logits(digit, 'tuned')])
    const predictions = [this.#probabilities.show('frozen', frozen), this.#probabilities.show('tuned', tuned)]
    const [first, second] = predictions.map(({ digit, probability }) => `${digit} (${percent(probability)})`)
    elements.answer.textContent = `The frozen model predicts ${first}, the fine-tuned model ${second}.`
  }

  #drawn(): void {
    const pixels = digitFromInk(this.#drawing.ink, this.#drawing.size)
    const digit = pixels && { count: 1, pixels, labels: Int32Array.of(0) }
    this.#digit = digit && elements.rotate.checked ? rotateDigits(digit, degrees) : digit
    this.predict()
  }
}

const percent = (fraction: number): string => `${(100 * fraction).toFixed(0)} %`
