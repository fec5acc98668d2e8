/** The second part of the page: what is drawn, as the model gets it, and what both models make of it. */
import { type DigitSet, degrees, pick, turned } from '@fourierft/quickstart/browser'
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
  #asking = false
  #askAgain = false

  /** @param failed takes the errors of what was started here */
  constructor(failed: (error: unknown) => void) {
    this.#failed = failed
    elements.clear.addEventListener('click', () => this.#drawing.clear())
    elements.turn.addEventListener('change', () => this.#drawn())
  }

  /** Who answers from now on; nobody while there is none. */
  set model(model: DigitModel | undefined) {
    this.#model = model
    this.ask()
  }

  /** Takes one of these digits, as it is, in place of a drawing: the way without a pointer. */
  take(digits: DigitSet): void {
    this.#drawing.clear()
    this.#digit = pick(digits, [Math.floor(Math.random() * digits.count)])
    this.ask()
  }

  /** Asks both models about what there is. What is drawn meanwhile is asked about afterwards, once. */
  ask(): void {
    showDigit(elements.seen, this.#digit?.pixels)
    if (this.#asking) {
      this.#askAgain = true
      return
    }
    this.#asking = true
    this.#answer()
      .catch(this.#failed)
      .finally(() => {
        this.#asking = false
        if (!this.#askAgain) return
        this.#askAgain = false
        this.ask()
      })
  }

  async #answer(): Promise<void> {
    const [digit, model] = [this.#digit, this.#model]
    if (digit === undefined || model === undefined) {
      this.#probabilities.clear()
      elements.answer.textContent = ''
      return
    }
    const [frozen, tuned] = await Promise.all([model.logits(digit, 'frozen'), model.logits(digit, 'tuned')])
    const answers = [this.#probabilities.show('frozen', frozen), this.#probabilities.show('tuned', tuned)]
    const [first, second] = answers.map(({ digit, probability }) => `${digit} (${percent(probability)})`)
    elements.answer.textContent = `The frozen model reads ${first}, the fine-tuned one ${second}.`
  }

  #drawn(): void {
    const pixels = digitFromInk(this.#drawing.ink, this.#drawing.size)
    const digit = pixels && { count: 1, pixels, labels: Int32Array.of(0) }
    this.#digit = digit && elements.turn.checked ? turned(digit, degrees) : digit
    this.ask()
  }
}

const percent = (part: number): string => `${(100 * part).toFixed(0)} %`
