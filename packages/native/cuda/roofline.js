// Computes the roofline of the forward kernel on an H100 SXM: the bytes and operations of a token, from formulas, divided by the rates of the data
// sheet. The times are lower bounds, not measurements: launches, latencies and barriers come on top.
//
//   node cuda/roofline.js

const SM = 132
const RATES = {
  memory: 3.35e12, // bytes/s, HBM3
  shared: SM * 128 * 1.755e9, // bytes/s: 128 bytes per SM and clock cycle, at the boost clock of 1.755 GHz
  tables: 5.5e12, // bytes/s of the level-2 cache: an assumption, because the data sheet has no number
  flops: 66.9e12, // float32
}
const BUTTERFLY = { 8: 56, 6: 40, 4: 16, 3: 16, 2: 4 } // additions and multiplications

/** Returns the radices of a transform of n complex numbers, as src/plan.cc chooses them. */
function radices(n) {
  return [8, 6, 4, 3, 2].flatMap((radix) => {
    const factors = []
    for (; n % radix === 0 && n > 1; n /= radix) factors.push(radix)
    return factors
  })
}

/** Returns the bytes and operations of one token of a d x d layer, d even. */
function costs(d, entries) {
  const half = d / 2
  const stages = radices(half)
  const used = (half + 1) * (1 - (1 - 1 / (half + 1)) ** entries) // expected, on each side
  const twiddles = stages.reduce((sum, radix) => sum + (half / radix) * (radix - 1), 0)
  const butterflies = stages.reduce((sum, radix) => sum + (half / radix) * BUTTERFLY[radix], 0)
  return {
    memory: 12 * d, // x read, y read and written
    // Two transforms read and write the whole row at each stage. The rest: load and store, split, sparse step, pack.
    shared: 2 * stages.length * 16 * half + 16 * half + 24 * used + 8 * (entries + used) + 24 * half,
    tables: 2 * 8 * twiddles + 16 * used + 16 * half + 12 * entries + 4 * used,
    flops: 2 * (butterflies + 6 * twiddles) + 4 * entries + 14 * (used + half),
  }
}

const micro = (seconds) => String(Number((seconds * 1e6).toPrecision(2)))
console.log(
  '| d | T | memory | shared memory | tables | arithmetic | dense layer |\n| --- | --- | --- | --- | --- | --- | --- |',
)
for (const d of [768, 1024, 4096]) {
  const cost = costs(d, 1000)
  for (const tokens of [1, 32, 512]) {
    // Each multiprocessor computes one token at a time. If there are fewer tokens than multiprocessors, the others are idle.
    const effectiveTokens = Math.max(tokens, SM)
    const times = ['shared', 'tables', 'flops'].map((resource) =>
      micro((effectiveTokens * cost[resource]) / RATES[resource]),
    )
    const dense = Math.max((4 * d * d + 8 * d * tokens) / RATES.memory, (2 * d * d * tokens) / RATES.flops)
    console.log(
      `| ${d} | ${tokens} | ${micro((tokens * cost.memory) / RATES.memory)} | ${times.join(' | ')} | ${micro(dense)} |`,
    )
  }
}
