/**
 * The generator MT19937 of Matsumoto and Nishimura. PyTorch's CPU generator uses its stream of 32-bit integers.
 *
 * @see M. Matsumoto, T. Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998)
 */

const WORDS = 624
const SHIFT = 397
const TWIST = 0x9908b0df

export class MersenneTwister {
  readonly #state = new Int32Array(WORDS)
  #next = WORDS

  /** @param seed taken modulo 2³² */
  constructor(seed: number) {
    const state = this.#state
    let word = seed | 0
    state[0] = word
    for (let i = 1; i < WORDS; i++) {
      word = (Math.imul(1812433253, word ^ (word >>> 30)) + i) | 0
      state[i] = word
    }
  }

  /** Returns the next integer, uniform on `0 … 2³² − 1`. */
  nextUint32(): number {
    if (this.#next === WORDS) this.#twist()
    let word = this.#state[this.#next++]
    word ^= word >>> 11
    word ^= (word << 7) & 0x9d2c5680
    word ^= (word << 15) & 0xefc60000
    return (word ^ (word >>> 18)) >>> 0
  }

  /** Replaces the state with the next 624 words of the recurrence. */
  #twist(): void {
    const state = this.#state
    let current = state[0]
    for (let i = 0; i < WORDS; i++) {
      const following = state[i + 1 < WORDS ? i + 1 : 0]
      const mixed = (current & 0x80000000) | (following & 0x7fffffff)
      const partner = state[i + SHIFT < WORDS ? i + SHIFT : i + SHIFT - WORDS]
      // A mask instead of an `if`: the processor would mispredict half of the jumps on a random bit.
      state[i] = partner ^ (mixed >>> 1) ^ (-(mixed & 1) & TWIST)
      current = following
    }
    this.#next = 0
  }
}
