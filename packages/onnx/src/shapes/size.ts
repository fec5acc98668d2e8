/** Sizes as polynomials in symbols, such as `2·tokens·batch`, so that the sizes that a graph computes can be compared and divided. */

/** A symbol: an unknown number, at least 0. */
export interface SizeSymbol {
  readonly id: number
  /** Whether the number may contain the size of the batch as a factor or summand. */
  readonly mayContainBatch: boolean
}

/** A number times the numbers of some symbols. */
export interface SizeTerm {
  readonly coefficient: number
  /** Their ids. */
  readonly symbols: readonly number[]
}

/** Larger polynomials become a new symbol, so that the time to analyse a file stays proportional to its size. */
const MAX_TERMS = 16
const MAX_FACTORS = 12

/** From a term's key, its symbol ids sorted and joined by commas, to its coefficient, which is not 0. */
type Terms = ReadonlyMap<string, number>

export class Size {
  readonly #terms: Terms
  /** Equal for equal sizes. */
  readonly key: string

  private constructor(terms: Terms) {
    this.#terms = terms
    this.key = [...terms]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([ids, coefficient]) => `${coefficient}*${ids}`)
      .join('+')
  }

  static of(value: number): Size {
    return new Size(new Map(value === 0 ? [] : [['', value]]))
  }

  static unknown({ id }: SizeSymbol): Size {
    return new Size(new Map([[String(id), 1]]))
  }

  /** The number, if the size has no symbols. */
  get value(): number | undefined {
    if (this.#terms.size === 0) return 0
    return this.#terms.size === 1 ? this.#terms.get('') : undefined
  }

  /** Whether the size is certainly at least 0: false for `x² − x`, which has a negative coefficient. */
  get isNatural(): boolean {
    return [...this.#terms.values()].every((coefficient) => coefficient > 0)
  }

  /** The ids of the symbols. */
  get symbols(): ReadonlySet<number> {
    return new Set([...this.#terms.keys()].flatMap(idsOf))
  }

  /** The products whose sum the size is. */
  get terms(): readonly SizeTerm[] {
    return Array.from(this.#terms, ([ids, coefficient]) => ({ coefficient, symbols: idsOf(ids) }))
  }

  /** The coefficient and the symbols of a size that is a single product; undefined for a sum. */
  get factors(): SizeTerm | undefined {
    const [term, ...others] = this.terms
    return others.length === 0 ? term : undefined
  }

  equals(other: Size): boolean {
    return this.key === other.key
  }

  plus(other: Size): Size | undefined {
    const sum = new Map(this.#terms)
    for (const [ids, coefficient] of other.#terms) addTo(sum, ids, coefficient)
    return Size.from(sum)
  }

  minus(other: Size): Size | undefined {
    const sum = new Map(this.#terms)
    for (const [ids, coefficient] of other.#terms) addTo(sum, ids, -coefficient)
    return Size.from(sum)
  }

  times(other: Size): Size | undefined {
    const product = new Map<string, number>()
    for (const [ids, coefficient] of this.#terms)
      for (const [otherIds, otherCoefficient] of other.#terms)
        addTo(product, joinIds(ids, otherIds), coefficient * otherCoefficient)
    return Size.from(product)
  }

  /** The quotient, if the division is exact for all values of the symbols. */
  dividedBy(other: Size): Size | undefined {
    const divisor = largestTerm(other.#terms)
    if (!divisor) return undefined
    let rest = new Map(this.#terms)
    const quotient = new Map<string, number>()
    for (let step = 0; rest.size > 0; step++) {
      const largest = largestTerm(rest)
      const ids = largest && withoutIds(largest[0], divisor[0])
      const coefficient = largest && largest[1] / divisor[1]
      if (
        step > MAX_TERMS ||
        ids === undefined ||
        coefficient === undefined ||
        !Number.isInteger(coefficient)
      )
        return undefined
      addTo(quotient, ids, coefficient)
      const next = new Map(rest)
      for (const [otherIds, otherCoefficient] of other.#terms)
        addTo(next, joinIds(ids, otherIds), -coefficient * otherCoefficient)
      rest = next
    }
    return Size.from(quotient)
  }

  /** @internal @returns undefined if the polynomial is too large */
  static from(terms: Terms): Size | undefined {
    const isSmall =
      terms.size <= MAX_TERMS &&
      [...terms].every(
        ([ids, coefficient]) => Number.isSafeInteger(coefficient) && idsOf(ids).length <= MAX_FACTORS,
      )
    return isSmall ? new Size(terms) : undefined
  }
}

function addTo(terms: Map<string, number>, ids: string, coefficient: number): void {
  const sum = (terms.get(ids) ?? 0) + coefficient
  if (sum === 0) terms.delete(ids)
  else terms.set(ids, sum)
}

function idsOf(key: string): number[] {
  return key === '' ? [] : key.split(',').map(Number)
}

function joinIds(a: string, b: string): string {
  return [...idsOf(a), ...idsOf(b)].sort((x, y) => x - y).join()
}

/** Returns the key without the removed ids; undefined if it lacks one of them. */
function withoutIds(key: string, removed: string): string | undefined {
  const ids = idsOf(key)
  for (const id of idsOf(removed)) {
    const index = ids.indexOf(id)
    if (index < 0) return undefined
    ids.splice(index, 1)
  }
  return ids.join()
}

/** Returns the largest term, if there is one, in an order that products preserve: lexicographic by symbol ids. */
function largestTerm(terms: Terms): [string, number] | undefined {
  let best: [string, number] | undefined
  for (const term of terms) if (!best || isLarger(term[0], best[0])) best = term
  return best
}

function isLarger(a: string, b: string): boolean {
  const [idsA, idsB] = [idsOf(a), idsOf(b)]
  for (let i = 0; ; i++) {
    if (i >= idsA.length) return false
    if (i >= idsB.length) return true
    if (idsA[i] !== idsB[i]) return idsA[i] < idsB[i]
  }
}
