/** The second section of the page: one text, and its results with every adapter. */
import { elements } from './elements.js'
import type { EmailComparison } from './email-comparison.js'
import type { Choice, Encoder } from './encoder.js'
import { opinion } from './opinion.js'

const neighbours = 3

export class TextPanel {
  readonly #encoder: Encoder
  readonly #comparisons: ReadonlyMap<Choice, EmailComparison>
  /** The number of the latest request: a late result of an older one is not shown. */
  #latest = 0

  constructor(encoder: Encoder, comparisons: ReadonlyMap<Choice, EmailComparison>) {
    this.#encoder = encoder
    this.#comparisons = comparisons
  }

  get text(): string {
    return elements.text.value.trim()
  }

  /** Encodes the text in one batch with a different adapter in each row. */
  async show(): Promise<void> {
    const request = ++this.#latest
    const { text } = this
    const choices = [...this.#comparisons.keys()]
    if (text === '') {
      elements.opinions.replaceChildren()
      elements.run.textContent = ''
      return
    }
    const start = performance.now()
    const embeddings = await this.#encoder.embedRows(choices.map((choice) => ({ text, choice })))
    const milliseconds = performance.now() - start
    if (request !== this.#latest) return
    elements.opinions.replaceChildren(
      ...[...this.#comparisons].map(([choice, comparison], row) => {
        const embedding = embeddings[row] ?? []
        return opinion({
          title: choice === null ? 'Without an adapter' : `With “${choice}”`,
          score: comparison.score(embedding),
          nearest: comparison.nearest(embedding, neighbours, text),
        })
      }),
    )
    elements.run.textContent = `One run of ${choices.length} rows with different adapters: ${milliseconds.toFixed(0)} ms.`
  }
}
