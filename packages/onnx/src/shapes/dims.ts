/** Shapes of which not everything is known, and where in them the rows of the batch lie. */
import { Size, type Unknown } from './size.js'

/** One axis of a tensor. */
export interface Dim {
  readonly size: Size
  /** The rows of the batch are along this axis: `before` groups, each of which has all rows in their order, in equal runs. */
  readonly rows?: Rows
  /** The tensor is the same all along this axis, which has been made by repetition. */
  readonly isRepeated?: boolean
}

export interface Rows {
  readonly before: Size
  readonly batch: Batch
}

/** The batch of some inputs. */
export interface Batch {
  /** Of how many rows. */
  readonly size: Size
  /** Where a graph tells the size: an axis of an input. */
  readonly input: string
  readonly axis: number
}

export type Dims = readonly Dim[]

/** More than tensors have. */
export const MOST_DIMS = 16

const ONE = Size.of(1)

/** What is known of all sizes of a model. */
export class Sizes {
  readonly #unknowns = new Map<number, Unknown>()
  readonly #named = new Map<string, Size>()
  readonly #batches = new Map<string, Batch>()
  /** The unknowns that are sizes of batches. */
  readonly #ofBatches = new Set<number>()

  number(value: number): Dim {
    return { size: Size.of(value) }
  }

  /** The same for the same name. */
  named(name: string, hidesBatch: boolean): Size {
    const known = this.#named.get(name)
    if (known) return known
    const unknown = { id: this.#unknowns.size, hidesBatch }
    this.#unknowns.set(unknown.id, unknown)
    const size = Size.unknown(unknown)
    this.#named.set(name, size)
    return size
  }

  /** A size of which nothing is known, not even whether the batch is in it. */
  open(): Size {
    return this.named(`open ${this.#unknowns.size}`, true)
  }

  /** What is computed of other sizes in a way that is not followed. */
  computed(how: string, ...of: readonly Size[]): Size {
    return this.named(
      `computed ${how} ${of.map(({ key }) => key).join(' ')}`,
      of.some((size) => this.mayHoldBatch(size)),
    )
  }

  addBatch(batch: Batch): void {
    const key = batch.size.key
    if (!this.#batches.has(key)) this.#batches.set(key, batch)
    for (const id of batch.size.symbols) this.#ofBatches.add(id)
  }

  mayHoldBatch(size: Size): boolean {
    return this.holdsBatch(size) || [...size.symbols].some((id) => this.#unknowns.get(id)?.hidesBatch)
  }

  /** Whether a batch is in it for certain. */
  holdsBatch(size: Size): boolean {
    return [...size.symbols].some((id) => this.#ofBatches.has(id))
  }

  /** An axis of that size: one of the size of the batch is along its rows. */
  dim(size: Size | undefined, isRepeated = false): Dim {
    if (size === undefined) return { size: this.open() }
    const batch = size.value === undefined ? this.#batches.get(size.key) : undefined
    const own = batch ? { size, rows: { before: ONE, batch } } : { size }
    return isRepeated ? { ...own, isRepeated } : own
  }

  plus(a: Size, b: Size): Size {
    return a.plus(b) ?? this.computed('+', a, b)
  }

  minus(a: Size, b: Size): Size {
    return a.minus(b) ?? this.computed('-', a, b)
  }

  times(a: Size, b: Size): Size {
    return a.times(b) ?? this.computed('*', a, b)
  }

  product(sizes: readonly Size[]): Size {
    return sizes.reduce((product, size) => this.times(product, size), ONE)
  }

  /** Rounded towards 0. */
  quotient(a: Size, b: Size): Size {
    const exact = a.dividedBy(b)
    if (exact) return exact
    if (a.value !== undefined && b.value) return Size.of(Math.trunc(a.value / b.value))
    return this.computed('/', a, b)
  }

  /** One axis of two tensors that are stretched to one another. */
  stretched(a: Dim, b: Dim): Dim {
    if (a.size.equals(b.size)) return this.#same(a, b)
    if (a.size.value === 1) return b
    if (b.size.value === 1) return a
    const [isOpen, isOtherOpen] = [a, b].map(({ size }) => this.mayHoldBatch(size) && !this.holdsBatch(size))
    if (isOpen !== isOtherOpen) return isOpen ? b : a
    // At run time they are equal, or one of them is 1.
    if (a.size.value !== undefined) return a
    if (b.size.value !== undefined) return b
    return this.mayHoldBatch(a.size) || this.mayHoldBatch(b.size) ? { size: this.open() } : a
  }

  #same(a: Dim, b: Dim): Dim {
    if (!a.rows || b.isRepeated) return a.rows || !b.rows ? a : b
    if (!b.rows || a.isRepeated) return b.rows ? b : a
    const isSame = a.rows.batch === b.rows.batch && a.rows.before.equals(b.rows.before)
    return isSame ? a : { size: this.open() }
  }

  /** Of tensors that are stretched to one another; undefined where one is unknown. */
  broadcast(all: readonly (Dims | undefined)[]): Dims | undefined {
    return all.reduce((a, b) => {
      if (!a || !b) return undefined
      const rank = Math.max(a.length, b.length)
      return Array.from({ length: rank }, (_, i) => {
        const [x, y] = [a[i - rank + a.length], b[i - rank + b.length]]
        return x && y ? this.stretched(x, y) : (x ?? y)
      })
    })
  }

  /** The same tensor in another shape. */
  reshaped(old: Dims, sizes: readonly Size[]): Dims {
    const made: Dim[] = sizes.map((size) => ({ size }))
    if (old.length > MOST_DIMS || made.length > MOST_DIMS) return made.map(() => ({ size: this.open() }))
    const before = prefixes(
      this,
      old.map(({ size }) => size),
    )
    const after = prefixes(this, sizes)
    for (let [i, j] = [0, 0]; i < old.length; ) {
      const [to, end] = nextEqual(before, after, i, j)
      this.#regroup(old.slice(i, to), made, j, end)
      ;[i, j] = [to, end]
    }
    return made
  }

  /** Fills the axes `[from, to)` of the new shape, which hold what the old ones do. */
  #regroup(old: Dims, made: Dim[], from: number, to: number): void {
    const [own, ...others] = old.filter(({ size }) => size.value !== 1)
    const at = made.findIndex(({ size }, i) => i >= from && i < to && size.value !== 1)
    const isOne = made.slice(from, to).filter(({ size }) => size.value !== 1).length === 1
    if (own && others.length === 0 && isOne && own.size.equals(made[at]?.size)) {
      made[at] = own
      return
    }
    const marked = old.findIndex(({ rows }) => rows)
    // In what order is not known; but an axis of as many numbers as there are rows has one for each.
    if (marked < 0) for (let k = from; k < to; k++) made[k] = this.dim(made[k]?.size)
    const rows = old[marked]?.rows
    if (!rows || old.some((dim, i) => i !== marked && this.mayHoldBatch(dim.size) && !isConstant(dim))) return
    const before = this.times(rows.before, this.product(old.slice(0, marked).map(({ size }) => size)))
    let passed = ONE
    for (let k = from; k < to; k++) {
      const { size } = made[k]
      const own = before.dividedBy(passed)
      const isAllOfIt = own && size.dividedBy(this.times(own, rows.batch.size)) !== undefined
      // Nothing is before the rows: the first axis has them, whatever is in it besides.
      const isFirst = own?.value === 1 && this.mayHoldBatch(size) && !this.holdsBatch(size)
      if (own && (isAllOfIt || isFirst)) {
        made[k] = { size, rows: { ...rows, before: own } }
        return
      }
      passed = this.times(passed, size)
    }
  }
}

function isConstant({ size }: Dim): boolean {
  return size.value !== undefined
}

/** The products of the first 0, 1, … sizes. */
function prefixes(sizes: Sizes, all: readonly Size[]): Size[] {
  const products = [ONE]
  for (const size of all) products.push(sizes.times(products.at(-1) as Size, size))
  return products
}

/** The nearest places behind `i` and `j` up to which as many numbers lie; the ends, if there are none. */
function nextEqual(a: readonly Size[], b: readonly Size[], i: number, j: number): [number, number] {
  for (let to = i + 1; to < a.length; to++)
    for (let end = j + 1; end < b.length; end++) if (a[to]?.equals(b[end])) return [to, end]
  return [a.length - 1, b.length - 1]
}
