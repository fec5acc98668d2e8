/**
 * The first `n` values of the random permutation of `N` values that PyTorch's `randperm` makes on a CPU, in memory
 * for `n` values. PyTorch has two algorithms and uses the second from `N` = 214748364 on. The same seed gives
 * entirely different permutations in the two.
 */
import type { MersenneTwister } from './mersenne-twister.js'

/** `⌊(2³² − 1)/20⌋`: from this `N` on, PyTorch draws 64 bits for each value. */
export const WIDE_DRAWS_FROM = 214748364

/** The whole permutation is kept in an array if `N` is at most this many times `n`. */
const DENSE_RATIO = 16

/**
 * Shuffles by Fisher–Yates from the front: step `i` draws `z = u32 mod (N − i)` and swaps positions `i` and `i + z`.
 * Steps after step `n` leave the first `n` positions unchanged.
 *
 * @param length `N`, at most 2³²
 * @param n `1 … N`
 */
export function permutationFromFront(random: MersenneTwister, length: number, n: number): Uint32Array {
  return length <= DENSE_RATIO * n ? swapInArray(random, length, n) : swapDisplacedOnly(random, length, n)
}

function swapInArray(random: MersenneTwister, length: number, n: number): Uint32Array {
  const values = new Uint32Array(length)
  for (let i = 0; i < length; i++) values[i] = i
  for (let i = 0; i < n; i++) {
    const other = i + (random.nextUint32() % (length - i))
    const value = values[other]
    values[other] = values[i]
    values[i] = value
  }
  return values.slice(0, n)
}

/** Makes the same swaps, but stores only values that moved. A position that is in neither `first` nor `displaced` holds its own index. */
function swapDisplacedOnly(random: MersenneTwister, length: number, n: number): Uint32Array {
  const first = new Uint32Array(n)
  for (let i = 0; i < n; i++) first[i] = i
  const displaced = new Map<number, number>()
  for (let i = 0; i < n; i++) {
    const other = i + (random.nextUint32() % (length - i))
    const value = first[i]
    if (other < n) {
      first[i] = first[other]
      first[other] = value
    } else {
      first[i] = displaced.get(other) ?? other
      displaced.set(other, value)
    }
  }
  return first
}

/**
 * Shuffles by Fisher–Yates inside out, with 64-bit draws: step `i` draws `z = u64 mod (i + 1)`, position `i` takes the
 * value at position `z`, then position `z` takes `i`. Every step can change the first `n` positions, so all `N`
 * steps are drawn; a step after `n` matters only if `z < n`.
 *
 * @param length `N`, at most 2³²
 * @param n `1 … N`
 */
export function permutationInsideOut(random: MersenneTwister, length: number, n: number): Uint32Array {
  const first = new Uint32Array(n)
  for (let i = 0; i < n; i++) {
    const z = drawBelow(random, i + 1)
    first[i] = first[z]
    first[z] = i
  }
  for (let i = n; i < length; i++) {
    const z = drawBelow(random, i + 1)
    if (z < n) first[z] = i
  }
  return first
}

/**
 * Returns `u64 mod m` for `m ≤ 2³²`; the high 32 bits of `u64` are drawn first. Horner's rule over pieces of 32, 16 and 16
 * bits keeps every intermediate result below 2⁴⁸.
 */
function drawBelow(random: MersenneTwister, m: number): number {
  const high = random.nextUint32()
  const low = random.nextUint32()
  const carried = remainder(remainder(high, m) * 65536 + (low >>> 16), m)
  return remainder(carried * 65536 + (low & 0xffff), m)
}

/**
 * Returns `a mod m`, exact for integers `a < 2⁵³`, and much faster than `%`, because there is no machine
 * instruction for `%` on doubles. `floor` gives the exact quotient: a quotient that is not an integer is at least `1/m` below the next
 * integer, and `a/m` is rounded by less than `2⁻⁵³·a/m < 1/m`.
 */
function remainder(a: number, m: number): number {
  return a - Math.floor(a / m) * m
}
