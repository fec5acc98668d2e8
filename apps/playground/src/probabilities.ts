/** The table of both models' predictions: a row for each digit with one bar for each model. */
import { classes } from '@fourierft/quickstart/browser'
import type { ModelName } from './digit-model.js'

const columns: readonly ModelName[] = ['frozen', 'tuned']

export class Probabilities {
  readonly #cells = new Map<ModelName, HTMLTableCellElement[]>(columns.map((model) => [model, []]))

  /** Adds the rows to the table. */
  constructor(body: HTMLTableSectionElement) {
    for (let digit = 0; digit < classes; digit++) {
      const row = body.insertRow()
      const head = document.createElement('th')
      head.scope = 'row'
      head.textContent = `${digit}`
      row.append(head)
      for (const model of columns) {
        const cell = row.insertCell()
        cell.className = model
        cell.dataset.digit = `${digit}`
        this.#cells.get(model)?.push(cell)
      }
    }
    this.clear()
  }

  /** @returns the likeliest digit and its probability */
  show(model: ModelName, logits: Float32Array): { digit: number; probability: number } {
    const probabilities = softmax(logits)
    const probability = Math.max(...probabilities)
    const digit = probabilities.indexOf(probability)
    this.#cells.get(model)?.forEach((cell, label) => {
      const value = probabilities[label] ?? 0
      cell.textContent = `${(100 * value).toFixed(1)} %`
      cell.style.setProperty('--part', `${value}`)
      cell.classList.toggle('likeliest', label === digit)
    })
    return { digit, probability }
  }

  clear(): void {
    for (const cell of [...this.#cells.values()].flat()) {
      cell.textContent = '–'
      cell.style.setProperty('--part', '0')
      cell.classList.remove('likeliest')
    }
  }
}

function softmax(logits: Float32Array): number[] {
  const largest = Math.max(...logits)
  const powers = Array.from(logits, (value) => Math.exp(value - largest))
  const sum = powers.reduce((a, b) => a + b, 0)
  return powers.map((value) => value / sum)
}
