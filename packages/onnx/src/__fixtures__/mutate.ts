/** Makes broken copies of a file, the same in each run. */

/** A random integer in [0, below). */
export type RandomInteger = (below: number) => number

/** Creates a generator of random integers. @see the constants of Numerical Recipes' linear congruential generator */
export function randomIntegers(seed: number): RandomInteger {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** A changed bit, a changed byte, a file cut short, a part left out, a part repeated, and an integer without an end. */
export type Fault = 'bit' | 'byte' | 'cut' | 'omission' | 'repetition' | 'endless integer'

/** Returns a copy with one to `maxFaults` faults, each drawn from `faults`. */
export function mutate(
  source: Uint8Array,
  random: RandomInteger,
  { maxFaults, faults }: { readonly maxFaults: number; readonly faults: readonly Fault[] },
): Uint8Array {
  let bytes = Uint8Array.from(source)
  for (let count = 1 + random(maxFaults); count > 0; count--) {
    const start = random(bytes.length + 1)
    const end = Math.min(bytes.length, start + random(64))
    const fault = faults[random(faults.length)]
    if (fault === 'bit' && start < bytes.length) bytes[start] ^= 1 << random(8)
    else if (fault === 'byte' && start < bytes.length) bytes[start] = random(256)
    else if (fault === 'cut') bytes = bytes.slice(0, start)
    else if (fault === 'omission') bytes = joined(bytes.subarray(0, start), bytes.subarray(end))
    else if (fault === 'repetition') bytes = joined(bytes.subarray(0, end), bytes.subarray(start))
    else if (fault === 'endless integer') bytes.fill(0xff, start, Math.min(end, start + 5))
  }
  return bytes
}

function joined(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(parts))
}
