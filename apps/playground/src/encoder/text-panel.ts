/** The second part of the page: one text, and what the encoder makes of it with every adapter at once. */
import { elements } from './elements.js'
import type { Choice, Encoder } from './encoder.js'
import { opinion } from './opinion.js'
import type { Placing } from './placing.js'

const neighbours = 3

export class TextPanel {
  readonly #encoder: Encoder
  readonly #placings: ReadonlyMap<Choice, Placing>
  /** Counts what was asked: a slow answer to an older question is not shown. */
  #asked = 0

  constructor(encoder: Encoder, placings: ReadonlyMap<Choice, Placing>) {
    this.#encoder = encoder
    this.#placings = placings
  }

  get text(): string {
    return elements.text.value.trim()
  }

  /** One batch, whose rows are the same text with another adapter each. */
  async show(): Promise<void> {
    const asked = ++this.#asked
    const { text } = this
    const choices = [...this.#placings.keys()]
    if (text === '') {
      elements.opinions.replaceChildren()
      elements.run.textContent = ''
      return
    }
    const start = performance.now()
    const embeddings = await this.#encoder.embedRows(choices.map((choice) => ({ text, choice })))
    const milliseconds = performance.now() - start
    if (asked !== this.#asked) return
    elements.opinions.replaceChildren(
      ...[...this.#placings].map(([choice, placing], row) => {
        const embedding = embeddings[row] ?? []
        return opinion({
          title: choice === null ? 'Without adapter' : `With “${choice}”`,
          score: placing.score(embedding),
          nearest: placing.nearest(embedding, neighbours, text),
        })
      }),
    )
    elements.run.textContent = `One run, ${choices.length} rows, an adapter for each: ${milliseconds.toFixed(0)} ms.`
  }
}
