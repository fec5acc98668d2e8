/**
 * Constant tensors (bases, index lists) that belong to entries: made once, kept outside of every `tf.tidy`, dropped when the limit is
 * reached or the owner is done. What was dropped is made again when it is next asked for.
 */
import { type Entries, entriesDigest } from '@fourierft/core'
import { keep, type Tensor } from '@tensorflow/tfjs-core'

interface TableSet {
  readonly tensors: Map<string, Tensor>
  bytes: number
}

const digests = new WeakMap<Entries, string>()

/** Equal for equal shapes and positions, whatever objects hold them. */
export function entriesKey(entries: Entries): string {
  let digest = digests.get(entries)
  if (digest === undefined) {
    digest = `${entries.shape.join('x')}:${entriesDigest(entries)}`
    digests.set(entries, digest)
  }
  return digest
}

/** Constant tensors by entries and name, kept up to a number of bytes; one for each attached model, or one's own for `fourierLinear`. */
export class TableCache {
  readonly #limit: number
  readonly #sets = new Map<string, TableSet>()
  #bytes = 0

  /** @param limit bytes of tables kept at most; the tables of the entries in use are kept even if they alone are larger */
  constructor(limit = 2 ** 28) {
    this.#limit = limit
  }

  /** Bytes of all tables held. */
  get bytes(): number {
    return this.#bytes
  }

  /** The table of that name for these entries, made by `make` if it is not at hand. The cache owns it: do not dispose it. */
  table(entries: Entries, name: string, make: () => Tensor): Tensor {
    const key = entriesKey(entries)
    const set = this.#sets.get(key) ?? { tensors: new Map(), bytes: 0 }
    // Least recently used first: a set that is asked for moves to the end.
    this.#sets.delete(key)
    this.#sets.set(key, set)
    const known = set.tensors.get(name)
    if (known !== undefined) return known
    const made = keep(make())
    set.tensors.set(name, made)
    this.#count(set, 4 * made.size)
    for (const oldest of this.#sets.keys()) {
      if (this.#bytes <= this.#limit || oldest === key) break
      this.#drop(oldest)
    }
    return made
  }

  /** Drops the tables of all entries but these. */
  retain(entries: Iterable<Entries>): void {
    const wanted = new Set(Array.from(entries, entriesKey))
    for (const key of [...this.#sets.keys()]) if (!wanted.has(key)) this.#drop(key)
  }

  /** Drops all tables. The cache can go on being used. */
  dispose(): void {
    this.retain([])
  }

  #count(set: TableSet, bytes: number): void {
    set.bytes += bytes
    this.#bytes += bytes
  }

  #drop(key: string): void {
    const set = this.#sets.get(key)
    if (set === undefined) return
    for (const tensor of set.tensors.values()) tensor.dispose()
    this.#bytes -= set.bytes
    this.#sets.delete(key)
  }
}
