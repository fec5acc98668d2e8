/**
 * A cache for constant tensors (bases, index lists) of entries. `tf.tidy` does not free them; they are freed when the cache exceeds its
 * limit or its owner disposes of it, and computed again when they are next needed.
 */
import { type Entries, entriesDigest } from '@fourierft/core'
import { keep, type Tensor } from '@tensorflow/tfjs-core'

interface TableSet {
  readonly tensors: Map<string, Tensor>
  bytes: number
}

const digests = new WeakMap<Entries, string>()

/** Returns a key that is equal for equal shapes and positions. */
export function entriesKey(entries: Entries): string {
  let digest = digests.get(entries)
  if (digest === undefined) {
    digest = `${entries.shape.join('x')}:${entriesDigest(entries)}`
    digests.set(entries, digest)
  }
  return digest
}

/** Constant tensors by entries and name, up to a number of bytes. Each attached model has a cache; you can pass one to `fourierLinear`. */
export class TableCache {
  readonly #limit: number
  readonly #sets = new Map<string, TableSet>()
  #bytes = 0

  /** @param limit the largest number of bytes to keep; the tables of the entries used last are kept even if they exceed it */
  constructor(limit = 2 ** 28) {
    this.#limit = limit
  }

  /** Bytes of all tables in the cache. */
  get bytes(): number {
    return this.#bytes
  }

  /** Returns the table of that name for these entries; `make` computes it if it is not in the cache. The cache owns it: do not dispose of it. */
  table(entries: Entries, name: string, make: () => Tensor): Tensor {
    const key = entriesKey(entries)
    const set = this.#sets.get(key) ?? { tensors: new Map(), bytes: 0 }
    // The map is sorted by last use, oldest first: a set that is used moves to the end.
    this.#sets.delete(key)
    this.#sets.set(key, set)
    const cached = set.tensors.get(name)
    if (cached !== undefined) return cached
    const table = keep(make())
    set.tensors.set(name, table)
    this.#count(set, 4 * table.size)
    for (const oldest of this.#sets.keys()) {
      if (this.#bytes <= this.#limit || oldest === key) break
      this.#drop(oldest)
    }
    return table
  }

  /** Frees the tables of all other entries. */
  retain(entries: Iterable<Entries>): void {
    const wanted = new Set(Array.from(entries, entriesKey))
    for (const key of [...this.#sets.keys()]) if (!wanted.has(key)) this.#drop(key)
  }

  /** Frees all tables. The cache remains usable. */
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
