/** Shapes that are partly unknown, and the axes along which they have the rows of the batch. */
import { Size, type SizeSymbol } from './size.js'

/** One axis of a tensor. */
export interface Dim {
  readonly size: Size
  /** Set if the rows of the batch are along this axis: it has `before` groups, each with all rows in their order, in equal runs. */
  readonly rows?: Rows
  /** Whether the tensor was repeated along this axis, so that it is the same for every index. */
  readonly isRepeated?: boolean
}

export interface Rows {
  readonly before: Size
  readonly batch: Batch
}

/** The batch of some inputs. */
export interface Batch {
  /** The number of rows. */
  readonly size: Size
  /** The input whose axis has this size. */
  readonly input: string
  readonly axis: number
}

export type Dims = readonly Dim[]

export interface Assumptions {
  /** Whether all batches without a name like `batch` have the same size, and an axis of unknown size that meets a batch is not longer. */
  readonly hasOneBatch: boolean
}

/** Tensors with more dims are not analysed; models have fewer. */
export const MAX_DIMS = 16

const ONE = Size.of(1)

/** The sizes of a model, and which of them may contain the batch. */
export class Sizes {
  readonly #symbols = new Map<number, SizeSymbol>()
  readonly #named = new Map<string, Size>()
  readonly #batches = new Map<string, Batch>()
  /** The ids of symbols that are sizes of batches. */
  readonly #batchIds = new Set<number>()
  readonly #hasOneBatch: boolean

  constructor({ hasOneBatch }: Assumptions) {
    this.#hasOneBatch = hasOneBatch
  }

  number(value: number): Dim {
    return { size: Size.of(value) }
  }

  /** Returns an unknown size: the same one for the same name. */
  named(name: string, mayContainBatch: boolean): Size {
    const known = this.#named.get(name)
    if (known) return known
    const symbol = { id: this.#symbols.size, mayContainBatch }
    this.#symbols.set(symbol.id, symbol)
    const size = Size.unknown(symbol)
    this.#named.set(name, size)
    return size
  }

  /** Returns a new size about which nothing is known, not even whether it contains the batch. */
  unknown(): Size {
    return this.named(`unknown ${this.#symbols.size}`, true)
  }

  /** Returns a size that depends on others in a way that is not modelled: the same one for the same arguments. */
  computed(how: string, ...operands: readonly Size[]): Size {
    return this.named(
      `computed ${how} ${operands.map(({ key }) => key).join(' ')}`,
      operands.some((size) => this.mayContainBatch(size)),
    )
  }

  addBatch(batch: Batch): void {
    const key = batch.size.key
    if (!this.#batches.has(key)) this.#batches.set(key, batch)
    for (const id of batch.size.symbols) this.#batchIds.add(id)
  }

  mayContainBatch(size: Size): boolean {
    return this.containsBatch(size) || [...size.symbols].some((id) => this.#symbols.get(id)?.mayContainBatch)
  }

  /** Whether the size certainly contains a batch. */
  containsBatch(size: Size): boolean {
    return [...size.symbols].some((id) => this.#batchIds.has(id))
  }

  /** Returns an axis of this size. If it is the size of a batch, the axis has the rows of that batch. */
  dim(size: Size | undefined, isRepeated = false): Dim {
    if (size === undefined) return { size: this.unknown() }
    const batch = size.value === undefined ? this.#batches.get(size.key) : undefined
    const dim = batch ? { size, rows: { before: ONE, batch } } : { size }
    return isRepeated ? { ...dim, isRepeated } : dim
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

  /** Returns the quotient, rounded towards 0. */
  quotient(a: Size, b: Size): Size {
    const exact = a.dividedBy(b)
    if (exact) return exact
    if (a.value !== undefined && b.value) return Size.of(Math.trunc(a.value / b.value))
    return this.computed('/', a, b)
  }

  /** Returns one axis of two tensors after broadcasting. */
  broadcastAxis(a: Dim, b: Dim): Dim {
    if (a.size.equals(b.size)) return this.#broadcastEqual(a, b)
    if (a.size.value === 1) return b
    if (b.size.value === 1) return a
    if (!this.#hasOneBatch) return this.#broadcastExactly(a, b)
    const [isUnknown, isOtherUnknown] = [a, b].map(
      ({ size }) => this.mayContainBatch(size) && !this.containsBatch(size),
    )
    if (isUnknown !== isOtherUnknown) return isUnknown ? b : a
    // At run time the sizes are equal, or one of them is 1.
    if (a.size.value !== undefined) return a
    if (b.size.value !== undefined) return b
    return this.mayContainBatch(a.size) || this.mayContainBatch(b.size) ? { size: this.unknown() } : a
  }

  /** At run time the sizes are equal, or one of them is 1: the result has the size of either. */
  #broadcastExactly(a: Dim, b: Dim): Dim {
    if (a.size.value !== undefined) return a
    if (b.size.value !== undefined) return b
    return { size: this.computed('broadcast', a.size, b.size) }
  }

  #broadcastEqual(a: Dim, b: Dim): Dim {
    if (!a.rows || b.isRepeated) return a.rows || !b.rows ? a : b
    if (!b.rows || a.isRepeated) return b.rows ? b : a
    const isSame = a.rows.batch === b.rows.batch && a.rows.before.equals(b.rows.before)
    return isSame ? a : { size: this.unknown() }
  }

  /** Returns the dims of several tensors after broadcasting; undefined if those of one tensor are unknown. */
  broadcast(tensors: readonly (Dims | undefined)[]): Dims | undefined {
    return tensors.reduce((a, b) => {
      if (!a || !b) return undefined
      const rank = Math.max(a.length, b.length)
      return Array.from({ length: rank }, (_, i) => {
        const [x, y] = [a[i - rank + a.length], b[i - rank + b.length]]
        return x && y ? this.broadcastAxis(x, y) : (x ?? y)
      })
    })
  }

  /** Returns the dims of a tensor after a reshape to these sizes. */
  reshaped(old: Dims, sizes: readonly Size[]): Dims {
    const dims: Dim[] = sizes.map((size) => ({ size }))
    if (old.length > MAX_DIMS || dims.length > MAX_DIMS) return dims.map(() => ({ size: this.unknown() }))
    const before = prefixProducts(
      this,
      old.map(({ size }) => size),
    )
    const after = prefixProducts(this, sizes)
    for (let [i, j] = [0, 0]; i < old.length; ) {
      const [nextI, nextJ] = nextEqual(before, after, i, j)
      this.#regroup(old.slice(i, nextI), dims, j, nextJ)
      ;[i, j] = [nextI, nextJ]
    }
    return dims
  }

  /** Fills the axes `[start, end)` of the new shape, which have the same numbers as the old ones. */
  #regroup(old: Dims, dims: Dim[], start: number, end: number): void {
    const [oldAxis, ...others] = old.filter(({ size }) => size.value !== 1)
    const index = dims.findIndex(({ size }, i) => i >= start && i < end && size.value !== 1)
    const isOneAxis = dims.slice(start, end).filter(({ size }) => size.value !== 1).length === 1
    if (oldAxis && others.length === 0 && isOneAxis && oldAxis.size.equals(dims[index]?.size)) {
      dims[index] = oldAxis
      return
    }
    const rowAxis = old.findIndex(({ rows }) => rows)
    // An axis with as many numbers as the batch has rows is taken to have one for each row.
    if (rowAxis < 0) for (let k = start; k < end; k++) dims[k] = this.dim(dims[k]?.size)
    const rows = old[rowAxis]?.rows
    if (!rows || old.some((dim, i) => i !== rowAxis && this.mayContainBatch(dim.size) && !isConstant(dim)))
      return
    const before = this.times(rows.before, this.product(old.slice(0, rowAxis).map(({ size }) => size)))
    let precedingSize = ONE
    for (let k = start; k < end; k++) {
      const { size } = dims[k]
      const groups = before.dividedBy(precedingSize)
      const hasAllRows = groups && size.dividedBy(this.times(groups, rows.batch.size)) !== undefined
      // No groups come before the rows, so this axis has them, whatever else it contains.
      const isFirst = groups?.value === 1 && this.mayContainBatch(size) && !this.containsBatch(size)
      if (groups && (hasAllRows || isFirst)) {
        dims[k] = { size, rows: { ...rows, before: groups } }
        return
      }
      precedingSize = this.times(precedingSize, size)
    }
  }
}

function isConstant({ size }: Dim): boolean {
  return size.value !== undefined
}

/** Returns the products of the first 0, 1, … factors. */
function prefixProducts(sizes: Sizes, factors: readonly Size[]): Size[] {
  const products = [ONE]
  for (const size of factors) products.push(sizes.times(products.at(-1) as Size, size))
  return products
}

/** Returns the nearest indices after `i` and `j` at which the products are equal; the last indices if there are no such ones. */
function nextEqual(a: readonly Size[], b: readonly Size[], i: number, j: number): [number, number] {
  for (let nextI = i + 1; nextI < a.length; nextI++)
    for (let nextJ = j + 1; nextJ < b.length; nextJ++) if (a[nextI]?.equals(b[nextJ])) return [nextI, nextJ]
  return [a.length - 1, b.length - 1]
}
