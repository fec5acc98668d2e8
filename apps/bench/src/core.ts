/** Measurements of `@fourierft/core`: plain TypeScript on one thread. */
import {
  addBackward,
  addForward,
  chooseStrategy,
  createLayer,
  delta,
  type Layer,
  type Shape,
  uniformEntries,
} from '@fourierft/core'
import { coreBackend } from '@fourierft/core/conformance'
import {
  type Case,
  type Clock,
  formatRatio,
  interleave,
  median,
  printRatios,
  printSection,
  type RunLength,
  ratio,
} from './measure.js'
import { naiveDelta, naiveEntries, naiveForward } from './naive.js'

const N = 1000

/** All cases run on one thread. */
const CLOCK: Clock = 'processor'

export async function benchmarkCore(runLength: RunLength): Promise<void> {
  await deltas(runLength)
  await forwards(runLength)
  await strategies(runLength)
  await overFrozenLayer(runLength)
  await adapterForEachRow(runLength)
  await sampling(runLength)
}

async function deltas(runLength: RunLength): Promise<void> {
  printSection(
    'ΔW',
    `n = ${N}; as multiples of delta(): PEFT's algorithm, and writing as many bytes to new memory`,
  )
  for (const d of runLength === 'quick' ? [512] : [1024, 4096]) {
    const layer = randomLayer([d, d], N)
    await printRatios(
      `${d}×${d}`,
      [
        { name: 'delta()', run: () => void delta(layer) },
        { name: "PEFT's algorithm", run: () => void naiveDelta(layer) },
        { name: 'write', run: () => void new Float32Array(d * d).fill(1) },
      ],
      runLength,
      CLOCK,
    )
  }
}

async function forwards(runLength: RunLength): Promise<void> {
  printSection('Forward pass of the branch', `n = ${N}; PEFT's algorithm as a multiple of addForward()`)
  for (const [d, tokens] of runLength === 'quick'
    ? [[512, 1]]
    : [1024, 4096].flatMap((d) => [1, 32].map((t) => [d, t]))) {
    const layer = randomLayer([d, d], N)
    const x = noise(tokens * d, 1)
    const y = new Float32Array(tokens * d)
    await printRatios(
      `${d}×${d}, T = ${tokens}`,
      [
        { name: 'addForward()', run: () => addForward([layer], x, y) },
        { name: "PEFT's algorithm", run: () => naiveForward(layer, x, y) },
      ],
      runLength,
      CLOCK,
    )
  }
}

/** Sizes around the crossovers of the strategies, and sizes of models. */
const STRATEGY_SIZES: readonly (readonly [d1: number, d2: number, tokens: number, n: number])[] = [
  [8, 8, 512, 8],
  [8, 8, 512, 64],
  [16, 16, 32, 64],
  [16, 16, 512, 64],
  [32, 32, 512, 16],
  [32, 32, 512, 200],
  [64, 64, 512, 200],
  [64, 64, 512, 1000],
  [128, 128, 512, 1000],
  [256, 256, 32, 1],
  [256, 256, 32, 4],
  [101, 101, 64, 8],
  [101, 101, 64, 32],
  [768, 768, 32, 1],
  [768, 768, 32, 3],
  [768, 768, 1, 1000],
  [768, 3072, 32, 1000],
  [1009, 1009, 8, 16],
  [1009, 1009, 8, 64],
  [4096, 4096, 4, 1],
]

/** A strategy that is more than this many times slower than the fastest is not measured, because it would disturb the others. */
const TOO_SLOW = 50

async function strategies(runLength: RunLength): Promise<void> {
  printSection(
    'Strategies',
    `forward, then forward + backward, as multiples of the fastest (out: more than ${TOO_SLOW}); the last column is the choice of auto`,
  )
  for (const [d1, d2, tokens, n] of runLength === 'quick' ? STRATEGY_SIZES.slice(0, 4) : STRATEGY_SIZES) {
    const layer = randomLayer([d1, d2], n)
    const x = noise(tokens * d2, 1)
    const y = new Float32Array(tokens * d1)
    const gradients = { coefficients: [new Float32Array(n)], x: new Float32Array(tokens * d2) }
    const auto = chooseStrategy({ tokens, shape: [d1, d2], n })
    for (const pass of ['forward', 'both'] as const) {
      const cases = (['dense', 'factored', 'spectral'] as const).map((strategy) => ({
        name: strategy,
        run: () => {
          addForward([layer], x, y, { strategy })
          if (pass === 'both') addBackward([layer], x, y, gradients, { strategy })
        },
      }))
      const ratios = await ratiosToFastest(cases, runLength)
      const columns = cases.map(({ name }) => `${name} ${(ratios.get(name) ?? 'out').padEnd(20)}`)
      const title = pass === 'forward' ? `${d1}×${d2}, T = ${tokens}, n = ${n}` : ''
      console.log(`  ${title.padEnd(30)}${columns.join('')}auto: ${auto} ${ratios.get(auto) ?? 'out'}`)
    }
  }
}

/** Returns the ratios to the fastest case, by name, without the cases that are too slow. */
async function ratiosToFastest(cases: readonly Case[], runLength: RunLength): Promise<Map<string, string>> {
  const trial = (await interleave(cases, 'quick', CLOCK)).map((times) => Math.min(...times))
  const measured = cases.filter((_, i) => trial[i] <= TOO_SLOW * Math.min(...trial))
  const times = await interleave(measured, runLength, CLOCK)
  const medians = times.map(median)
  const fastest = times[medians.indexOf(Math.min(...medians))]
  return new Map(measured.map(({ name }, i) => [name, formatRatio(ratio(times[i], fastest))]))
}

async function overFrozenLayer(runLength: RunLength): Promise<void> {
  printSection(
    'The adapted layer',
    `n = ${N}, dense product in plain TypeScript; enabled as a multiple of disabled: first forward, then backward`,
  )
  const backend = coreBackend()
  for (const [d, tokens] of runLength === 'quick'
    ? [[768, 1]]
    : [768, 1024, 4096].flatMap((d) => [1, 32].map((t) => [d, t]))) {
    const weight = noise(d * d, 3)
    const x = noise(tokens * d, 1)
    const g = noise(tokens * d, 2)
    const base = await backend.linear(weight, null, [randomLayer([d, d], N)])
    await base.disable()
    const adapted = await backend.linear(weight, null, [randomLayer([d, d], N)])
    const forward = await interleave(
      [base, adapted].map((linear) => ({ name: '', run: async () => void (await linear.forward(x)) })),
      runLength,
      CLOCK,
    )
    const backward = await interleave(
      [base, adapted].map((linear) => ({ name: '', run: async () => void (await linear.backward(x, g)) })),
      runLength,
      CLOCK,
    )
    const columns = [forward, backward].map(([disabled, enabled]) => formatRatio(ratio(enabled, disabled)))
    console.log(`  ${`${d}×${d}, T = ${tokens}`.padEnd(26)}${columns.join('   ')}`)
    await base.dispose()
    await adapted.dispose()
  }
}

async function adapterForEachRow(runLength: RunLength): Promise<void> {
  printSection('One adapter for each row', `64 rows, n = ${N}; 64 adapters as a multiple of one`)
  for (const d of runLength === 'quick' ? [768] : [768, 4096]) {
    const first = randomLayer([d, d], N)
    const layers = Array.from({ length: 64 }, (_, a) => createLayer({ ...first, coefficients: noise(N, a) }))
    const x = noise(64 * d, 1)
    const y = new Float32Array(64 * d)
    const rows = Int32Array.from(layers.keys())
    await printRatios(
      `${d}×${d}`,
      [
        { name: 'one', run: () => addForward([first], x, y) },
        { name: '64 adapters', run: () => addForward(layers, x, y, { rows }) },
      ],
      runLength,
      CLOCK,
    )
  }
}

async function sampling(runLength: RunLength): Promise<void> {
  printSection('Sampling entries', `n = ${N}; shuffling all positions as a multiple of uniformEntries()`)
  for (const d of runLength === 'quick' ? [512] : [768, 4096]) {
    const shape: Shape = [d, d]
    await printRatios(
      `${d}×${d}`,
      [
        { name: 'uniformEntries()', run: () => void uniformEntries({ shape, n: N, seed: 2024 }) },
        { name: 'all positions', run: () => void naiveEntries([d, d], N, 2024) },
      ],
      runLength,
      CLOCK,
    )
  }
}

function randomLayer(shape: Shape, n: number): Layer {
  const entries = uniformEntries({ shape, n, seed: 2024 })
  return createLayer({ name: 'layer', shape, entries, coefficients: noise(n, 7), scaling: 150 })
}

function noise(length: number, seed: number): Float32Array {
  let state = seed >>> 0
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}
