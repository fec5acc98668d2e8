/**
 * A weighted sample without replacement, in one pass and memory for the sample alone. Each place has a clock
 * that rings after an exponential time of rate `w`, at `E/w`; the first `n` clocks to ring are the sample, in
 * the order of drawing one place after another in proportion to the weights of those that are left.
 *
 * @see P. S. Efraimidis, P. G. Spirakis, "Weighted random sampling with a reservoir", Information Processing
 *   Letters 97 (2006)
 */
import { log } from './exponential.js'
import type { MersenneTwister } from './mersenne-twister.js'

/**
 * @param count number of places, `0 … count − 1`
 * @param weightOf weight of a place: 0, never drawn, or in `10⁻³⁰⁵ … 1`
 * @param n size of the sample
 * @returns distinct places in the order in which they were drawn; fewer than `n` where fewer have a weight
 */
export function weightedSample(
  random: MersenneTwister,
  count: number,
  weightOf: (place: number) => number,
  n: number,
): Uint32Array {
  const earliest = new EarliestRings(n)
  for (let place = 0; place < count; place++) {
    const weight = weightOf(place)
    if (weight === 0) continue
    const v = uniform(random)
    // E = −ln(1 − v) is at least v: most places are out before the logarithm.
    if (v < earliest.deadline * weight) earliest.offer(-log(1 - v) / weight, place)
  }
  return earliest.places()
}

/** Uniform on the multiples of 2⁻⁵³ in `[0, 1)`. */
function uniform(random: MersenneTwister): number {
  const high = random.nextUint32() >>> 5
  const low = random.nextUint32() >>> 6
  return (high * 2 ** 26 + low) / 2 ** 53
}

/** The `capacity` earliest of all times offered: a binary heap with the latest of them on top. */
class EarliestRings {
  /** A later time than this is not among the earliest. */
  deadline = Number.POSITIVE_INFINITY
  readonly #times: Float64Array
  readonly #places: Uint32Array
  #size = 0

  constructor(capacity: number) {
    this.#times = new Float64Array(capacity)
    this.#places = new Uint32Array(capacity)
  }

  offer(time: number, place: number): void {
    if (this.#size < this.#times.length) {
      this.#rise(this.#size++, time, place)
    } else if (time < this.deadline) {
      this.#sink(time, place)
    } else {
      return
    }
    if (this.#size === this.#times.length) this.deadline = this.#times[0]
  }

  /** All places kept, earliest first; the heap is empty afterwards. */
  places(): Uint32Array {
    const sorted = new Uint32Array(this.#size)
    while (this.#size > 0) {
      const last = --this.#size
      sorted[last] = this.#places[0]
      this.#sink(this.#times[last], this.#places[last])
    }
    return sorted
  }

  /** Puts a time into the free slot `index`, or above it. */
  #rise(index: number, time: number, place: number): void {
    let slot = index
    while (slot > 0) {
      const parent = (slot - 1) >> 1
      if (this.#times[parent] >= time) break
      this.#move(parent, slot)
      slot = parent
    }
    this.#times[slot] = time
    this.#places[slot] = place
  }

  /** Replaces the top by a time, which settles below all later ones. */
  #sink(time: number, place: number): void {
    const times = this.#times
    let slot = 0
    for (let child = 1; child < this.#size; child = 2 * slot + 1) {
      if (child + 1 < this.#size && times[child + 1] > times[child]) child++
      if (times[child] <= time) break
      this.#move(child, slot)
      slot = child
    }
    times[slot] = time
    this.#places[slot] = place
  }

  #move(from: number, to: number): void {
    this.#times[to] = this.#times[from]
    this.#places[to] = this.#places[from]
  }
}
