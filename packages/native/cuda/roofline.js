// Computes what limits the CUDA kernels on an H200, for bfloat16 activations: the bytes and operations of a token, from formulas, divided by the
// rates of the device. The times are lower bounds, not measurements: launches, latencies and barriers come on top.
//
//   node cuda/roofline.js

const SM = 132
const CLOCK = 1.98e9
const RATES = {
  memory: 4.3e12, // bytes/s that a copy reads and writes; the data sheet says 4.8e12
  pipe: SM * 128 * CLOCK, // bytes/s of shared memory and the level-1 cache, which are one unit
  issue: SM * 128 * CLOCK, // float32 instructions/s: an addition takes as long as a multiplication with an addition
}

/** Instructions of a butterfly without its twiddles. */
const BUTTERFLY = { 2: 4, 3: 16, 4: 16, 5: 40, 6: 52, 8: 56, 16: 168 }

/** Random addresses of a warp fall into the same bank: the mean of the fullest of 16 (8 bytes) and of 32 (4 bytes). */
const CONFLICT = { 8: 3.1, 4: 3.5 }

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0)

/** Returns the radices of n, as src/plan.cc chooses them. */
function radices(n, isTile) {
  const found = (isTile ? [16, 8, 6, 4, 3, 2, 5] : [8, 6, 4, 3, 2, 5]).flatMap((radix) => {
    const factors = []
    for (; n % radix === 0 && n > 1; n /= radix) factors.push(radix)
    return factors
  })
  if (!isTile) return found
  if (found.includes(2) && found.includes(16)) {
    found[found.indexOf(2)] = 4
    found[found.indexOf(16)] = 8
  }
  return found.sort((a, b) => a - b)
}

/** Returns the average number of accesses to the busiest bank when the threads of half a warp read or write one stage. */
function bankConflicts(n, length, radix) {
  const padded = (e) => e + (e >> 4)
  const quotient = length / radix
  let accesses = 0
  let cycles = 0
  for (let first = 0; first < n / radix; first += 16)
    for (let k = 0; k < radix; k++) {
      const banks = new Array(16).fill(0)
      for (let u = first; u < Math.min(first + 16, n / radix); u++)
        banks[padded(Math.floor(u / quotient) * length + (u % quotient) + k * quotient) % 16]++
      cycles += Math.max(...banks)
      accesses++
    }
  return cycles / accesses
}

/** Returns the bytes and instructions of one token of a forward call of a d × d layer, d even. */
function costs(d, entries, { isTile, tokens }) {
  const half = d / 2
  const stages = radices(half, isTile)
  const share = 1 - (1 - 1 / (half + 1)) ** entries // of the frequencies that are used
  const used = (half + 1) * share
  const pairs = (half / 2) * (1 - (1 - share) ** 2) // pairs of frequencies of which one is used
  let length = half
  const staged = stages.map((radix) => {
    const conflicts = bankConflicts(half, length, radix)
    length /= radix
    return { radix, bytes: 8 * half * conflicts, twiddles: length === 1 ? 0 : (half / radix) * (radix - 1) }
  })
  const all = sum(staged.map(({ bytes }) => bytes))
  const twiddles = sum(staged.map(({ twiddles }) => twiddles))
  // Each stage of both transforms reads and writes shared memory. The outermost ones of a tile kernel read and write rows instead; the token kernel
  // copies rows first and last.
  const shared =
    4 * all +
    (isTile ? -2 * staged[0].bytes : 16 * half) +
    2 * 8 * pairs * CONFLICT[8] + // the split reads, and writes the slots
    8 * used +
    8 * entries * CONFLICT[8] + // the sparse step reads slots, and writes the spectrum
    8 * half * CONFLICT[8]
  // Twiddles, the pairs of both sides, terms, and the coefficients, which are copied to shared memory and read there.
  const tables =
    2 * 8 * twiddles + 24 * pairs + 32 * (half / 2) + 8 * entries + 4 * (2 + CONFLICT[4]) * entries
  return {
    memory: 6 * d, // x read, y read and written
    pipe: shared + tables / tokens + 6 * d,
    issue:
      2 * sum(staged.map(({ radix, twiddles }) => (half / radix) * BUTTERFLY[radix] + 4 * twiddles)) +
      2 * entries +
      16 * pairs +
      8 * half,
  }
}

const KERNELS = {
  token: { isTile: false, tokens: 1 },
  'tile, 1 token': { isTile: true, tokens: 1 },
  'tile, 2 tokens': { isTile: true, tokens: 2 },
}
const micro = (seconds) => String(Number((seconds * 1e6).toPrecision(2)))
const names = Object.keys(KERNELS)
console.log(
  `| d | T | memory, µs | ${names.map((name) => `${name}: shared memory / arithmetic, µs`).join(' | ')} |`,
)
console.log(`| --- | --- | --- | ${names.map(() => '---').join(' | ')} |`)
for (const d of [768, 1024, 4096, 8192]) {
  for (const tokens of [1, 32, 512, 4096]) {
    // The multiprocessor with the most blocks decides.
    const cells = Object.values(KERNELS).map((kernel) => {
      const cost = costs(d, 1000, kernel)
      const busiest = Math.ceil(Math.ceil(tokens / kernel.tokens) / SM) * kernel.tokens * SM
      return ['pipe', 'issue'].map((unit) => micro((busiest * cost[unit]) / RATES[unit])).join(' / ')
    })
    console.log(`| ${d} | ${tokens} | ${micro((tokens * 6 * d) / RATES.memory)} | ${cells.join(' | ')} |`)
  }
}
