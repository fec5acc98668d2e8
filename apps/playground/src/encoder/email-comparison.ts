/**
 * Scores texts by their embeddings: nearer to the mean direction of known spam, or to that of known legitimate emails. This file trains
 * nothing; the score uses only angles between embeddings.
 */
import type { Email } from './email.js'

export interface Neighbour {
  readonly email: Email
  /** The cosine of the angle between the embeddings. */
  readonly similarity: number
}

export class EmailComparison {
  readonly #emails: readonly Email[]
  readonly #embeddings: readonly number[][]
  readonly #spam: readonly number[]
  readonly #legitimate: readonly number[]

  /** @param embeddings unit vectors of the emails */
  constructor(emails: readonly Email[], embeddings: readonly number[][]) {
    this.#emails = emails
    this.#embeddings = embeddings
    const known = (isSpam: boolean) =>
      embeddings.filter((_, i) => emails[i]?.isKnown && emails[i].isSpam === isSpam)
    this.#spam = meanDirection(known(true))
    this.#legitimate = meanDirection(known(false))
  }

  /** A difference of cosines between −2 and 2; above 0 is nearer to spam. */
  score(embedding: readonly number[]): number {
    return dot(embedding, this.#spam) - dot(embedding, this.#legitimate)
  }

  /** The scores of all emails. */
  get scores(): number[] {
    return this.#embeddings.map((embedding) => this.score(embedding))
  }

  /** The most similar emails, without the text itself. */
  nearest(embedding: readonly number[], count: number, text: string): Neighbour[] {
    return this.#emails
      .map((email, i) => ({ email, similarity: dot(embedding, this.#embeddings[i] ?? []) }))
      .filter(({ email }) => email.text !== text)
      .sort((a, b) => b.similarity - a.similarity)
      .slice(0, count)
  }
}

function meanDirection(vectors: readonly number[][]): number[] {
  const [first = []] = vectors
  const sum = first.map((_, i) => vectors.reduce((total, vector) => total + (vector[i] ?? 0), 0))
  const length = Math.hypot(...sum)
  return sum.map((value) => value / length)
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0)
}
