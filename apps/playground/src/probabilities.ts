/** The table of what both models think a drawing is: a row for each digit, two bars side by side. */
import { classes } from '@fourierft/quickstart/browser'
import type { Who } from './digit-model.js'

const columns: readonly Who[] = ['frozen', 'tuned']

export class Probabilities {
  readonly #cells = new Map<Who, HTMLTableCellElement[]>(columns.map((who) => [who, []]))

  /** Makes the rows. */
  constructor(body: HTMLTableSectionElement) {
    for (let digit = 0; digit < classes; digit++) {
      const row = body.insertRow()
      const head = document.createElement('th')
      head.scope = 'row'
      head.textContent = `${digit}`
      row.append(head)
      for (const who of columns) {
        const cell = row.insertCell()
        cell.className = who
        cell.dataset.digit = `${digit}`
        this.#cells.get(who)?.push(cell)
      }
    }
    this.clear()
  }

  /** @returns the likeliest digit and its probability */
  show(who: Who, logits: Float32Array): { digit: number; probability: number } {
    const probabilities = softmax(logits)
    const probability = Math.max(...probabilities)
    const digit = probabilities.indexOf(probability)
    this.#cells.get(who)?.forEach((cell, label) => {
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
