/** Pseudo-random inputs of the checks. `oracle/make_vectors.py` generates the same numbers, so they are not stored. */

/** Applies the finaliser of MurmurHash3, in which every bit of the input affects every bit of the output. */
function mix(word: number): number {
  let h = word | 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}

/**
 * Returns `count` pseudo-random numbers, spread evenly over `[−scale, scale)`.
 *
 * @param seed an integer in `[0, 2³²)`
 * @param scale a power of two, so that float32 holds the numbers exactly
 */
export function seededValues(seed: number, count: number, scale = 1): Float32Array {
  const start = mix(seed)
  const unit = scale / 2 ** 23
  const result = new Float32Array(count)
  for (let i = 0; i < count; i++) {
    result[i] = ((mix(Math.imul(i, 0x9e3779b1) + start) >>> 8) - 2 ** 23) * unit
  }
  return result
}
