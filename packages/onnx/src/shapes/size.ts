/**
 * Sizes that a file leaves open, as polynomials: what a graph computes with them (`2·tokens·batch`) is compared and divided without
 * knowing a number.
 */

/** An unknown number, at least 0. */
export interface Unknown {
  readonly id: number
  /** Whether the size of the batch may be in it. */
  readonly hidesBatch: boolean
}

/** Larger ones become a symbol of their own: files must not cost more than their size. */
const MOST_TERMS = 16
const MOST_FACTORS = 12

/** Ids of symbols, in order, as a key → its coefficient, which is not 0. */
type Terms = ReadonlyMap<string, number>

export class Size {
  readonly #terms: Terms
  /** The same for equal sizes. */
  readonly key: string

  private constructor(terms: Terms) {
    this.#terms = terms
    this.key = [...terms]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([ids, factor]) => `${factor}*${ids}`)
      .join('+')
  }

  static of(value: number): Size {
    return new Size(new Map(value === 0 ? [] : [['', value]]))
  }

  static unknown({ id }: Unknown): Size {
    return new Size(new Map([[String(id), 1]]))
  }

  /** The number, where it is one. */
  get value(): number | undefined {
    if (this.#terms.size === 0) return 0
    return this.#terms.size === 1 ? this.#terms.get('') : undefined
  }

  /** Whether it is at least 0 whatever the symbols are. */
  get isNatural(): boolean {
    return [...this.#terms.values()].every((factor) => factor > 0)
  }

  /** The ids of its symbols. */
  get symbols(): ReadonlySet<number> {
    return new Set([...this.#terms.keys()].flatMap(idsOf))
  }

  /** The symbols whose product it is, and a number; undefined for a sum. */
  get factors(): { readonly number: number; readonly symbols: readonly number[] } | undefined {
    const [term, ...others] = this.#terms
    return term && others.length === 0 ? { number: term[1], symbols: idsOf(term[0]) } : undefined
  }

  equals(other: Size): boolean {
    return this.key === other.key
  }

  plus(other: Size): Size | undefined {
    const sum = new Map(this.#terms)
    for (const [ids, factor] of other.#terms) addTo(sum, ids, factor)
    return Size.from(sum)
  }

  minus(other: Size): Size | undefined {
    const sum = new Map(this.#terms)
    for (const [ids, factor] of other.#terms) addTo(sum, ids, -factor)
    return Size.from(sum)
  }

  times(other: Size): Size | undefined {
    const product = new Map<string, number>()
    for (const [ids, factor] of this.#terms)
      for (const [others, by] of other.#terms) addTo(product, merged(ids, others), factor * by)
    return Size.from(product)
  }

  /** The quotient, if there is no rest whatever the symbols are. */
  dividedBy(other: Size): Size | undefined {
    const [by] = leading(other.#terms)
    if (!by) return undefined
    let rest = new Map(this.#terms)
    const quotient = new Map<string, number>()
    for (let step = 0; rest.size > 0; step++) {
      const [lead] = leading(rest)
      const ids = lead && without(lead[0], by[0])
      const factor = lead && lead[1] / by[1]
      if (step > MOST_TERMS || ids === undefined || factor === undefined || !Number.isInteger(factor))
        return undefined
      addTo(quotient, ids, factor)
      const next = new Map(rest)
      for (const [others, own] of other.#terms) addTo(next, merged(ids, others), -factor * own)
      rest = next
    }
    return Size.from(quotient)
  }

  /** @internal Undefined: it would be too large. */
  static from(terms: Terms): Size | undefined {
    const isSmall =
      terms.size <= MOST_TERMS &&
      [...terms].every(([ids, factor]) => Number.isSafeInteger(factor) && idsOf(ids).length <= MOST_FACTORS)
    return isSmall ? new Size(terms) : undefined
  }
}

function addTo(terms: Map<string, number>, ids: string, factor: number): void {
  const sum = (terms.get(ids) ?? 0) + factor
  if (sum === 0) terms.delete(ids)
  else terms.set(ids, sum)
}

function idsOf(key: string): number[] {
  return key === '' ? [] : key.split(',').map(Number)
}

function merged(a: string, b: string): string {
  return [...idsOf(a), ...idsOf(b)].sort((x, y) => x - y).join()
}

/** The factors that are left; undefined where some are not there. */
function without(key: string, gone: string): string | undefined {
  const ids = idsOf(key)
  for (const id of idsOf(gone)) {
    const at = ids.indexOf(id)
    if (at < 0) return undefined
    ids.splice(at, 1)
  }
  return ids.join()
}

/** The largest term, in an order that products keep: by the number of each symbol, the first symbol first. */
function leading(terms: Terms): [string, number][] {
  let best: [string, number] | undefined
  for (const term of terms) if (!best || isLarger(term[0], best[0])) best = term
  return best ? [best] : []
}

function isLarger(a: string, b: string): boolean {
  const [own, other] = [idsOf(a), idsOf(b)]
  for (let i = 0; ; i++) {
    if (i >= own.length) return false
    if (i >= other.length) return true
    if (own[i] !== other[i]) return own[i] < other[i]
  }
}
