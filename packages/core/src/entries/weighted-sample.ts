/**
 * A weighted sample without replacement, in one pass, with memory for the sample only. Each item has a clock that
 * rings at time `E/w`, where `E` is exponentially distributed and `w` is the weight of the item. The first `n`
 * clocks to ring give the sample, in the same order as `n` draws from the items that are left, each draw in
 * proportion to their weights.
 *
 * @see P. S. Efraimidis, P. G. Spirakis, "Weighted random sampling with a reservoir", Information Processing
 *   Letters 97 (2006)
 */
import { log } from './exponential.js'
import type { MersenneTwister } from './mersenne-twister.js'

/**
 * Draws a weighted sample without replacement.
 *
 * @param count number of items, `0 … count − 1`
 * @param weightOf weight of an item: 0 (never drawn), or in `10⁻³⁰⁵ … 1`
 * @param n size of the sample
 * @returns distinct items in the order in which they were drawn; fewer than `n` if fewer have a weight above 0
 */
export function weightedSample(
  random: MersenneTwister,
  count: number,
  weightOf: (item: number) => number,
  n: number,
): Uint32Array {
  const earliest = new EarliestRings(n)
  for (let item = 0; item < count; item++) {
    const weight = weightOf(item)
    if (weight === 0) continue
    const v = uniform(random)
    // E = −ln(1 − v) is at least v, so most items are rejected without a logarithm.
    if (v < earliest.deadline * weight) earliest.offer(-log(1 - v) / weight, item)
  }
  return earliest.takeItems()
}

/** Draws a multiple of 2⁻⁵³ in `[0, 1)`, uniformly. */
function uniform(random: MersenneTwister): number {
  const high = random.nextUint32() >>> 5
  const low = random.nextUint32() >>> 6
  return (high * 2 ** 26 + low) / 2 ** 53
}

/** Keeps the items with the `capacity` earliest times, in a binary heap with the latest of them on top. */
class EarliestRings {
  /** An item with a later time is not kept. */
  deadline = Number.POSITIVE_INFINITY
  readonly #times: Float64Array
  readonly #items: Uint32Array
  #size = 0

  constructor(capacity: number) {
    this.#times = new Float64Array(capacity)
    this.#items = new Uint32Array(capacity)
  }

  offer(time: number, item: number): void {
    if (this.#size < this.#times.length) {
      this.#rise(this.#size++, time, item)
    } else if (time < this.deadline) {
      this.#sink(time, item)
    } else {
      return
    }
    if (this.#size === this.#times.length) this.deadline = this.#times[0]
  }

  /** Removes all items and returns them, earliest first. */
  takeItems(): Uint32Array {
    const sorted = new Uint32Array(this.#size)
    while (this.#size > 0) {
      const last = --this.#size
      sorted[last] = this.#items[0]
      this.#sink(this.#times[last], this.#items[last])
    }
    return sorted
  }

  /** Fills the free slot `index`, then moves the item up past all earlier ones. */
  #rise(index: number, time: number, item: number): void {
    let slot = index
    while (slot > 0) {
      const parent = (slot - 1) >> 1
      if (this.#times[parent] >= time) break
      this.#move(parent, slot)
      slot = parent
    }
    this.#times[slot] = time
    this.#items[slot] = item
  }

  /** Replaces the top, then moves the item down past all later ones. */
  #sink(time: number, item: number): void {
    const times = this.#times
    let slot = 0
    for (let child = 1; child < this.#size; child = 2 * slot + 1) {
      if (child + 1 < this.#size && times[child + 1] > times[child]) child++
      if (times[child] <= time) break
      this.#move(child, slot)
      slot = child
    }
    times[slot] = time
    this.#items[slot] = item
  }

  #move(source: number, target: number): void {
    this.#times[target] = this.#times[source]
    this.#items[target] = this.#items[source]
  }
}
