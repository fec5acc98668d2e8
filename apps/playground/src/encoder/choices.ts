/** The row of buttons that say which adapter is used. */
import type { Choice } from './encoder.js'

export class Choices {
  readonly #place: HTMLFieldSetElement
  readonly #chosen: (choice: Choice) => void

  /** @param chosen is told of each choice that the visitor makes */
  constructor(place: HTMLFieldSetElement, chosen: (choice: Choice) => void) {
    this.#place = place
    this.#chosen = chosen
  }

  /** Adds one, and shows it as chosen. */
  add(choice: Choice): void {
    const label = document.createElement('label')
    const input = document.createElement('input')
    input.type = 'radio'
    input.name = 'adapter'
    input.checked = true
    input.addEventListener('change', () => this.#chosen(choice))
    label.append(input, choice ?? 'none')
    this.#place.append(label)
  }

  set disabled(disabled: boolean) {
    this.#place.disabled = disabled
  }
}
