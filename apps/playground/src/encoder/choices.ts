/** The radio buttons that choose the adapter. */
import type { Choice } from './encoder.js'

export class Choices {
  readonly #fieldset: HTMLFieldSetElement
  readonly #chosen: (choice: Choice) => void

  /** @param chosen called with each choice of the visitor */
  constructor(fieldset: HTMLFieldSetElement, chosen: (choice: Choice) => void) {
    this.#fieldset = fieldset
    this.#chosen = chosen
  }

  /** Adds a choice and selects it. */
  add(choice: Choice): void {
    const label = document.createElement('label')
    const input = document.createElement('input')
    input.type = 'radio'
    input.name = 'adapter'
    input.checked = true
    input.addEventListener('change', () => this.#chosen(choice))
    label.append(input, choice ?? 'none')
    this.#fieldset.append(label)
  }

  set disabled(disabled: boolean) {
    this.#fieldset.disabled = disabled
  }
}
