/**
 * Level 6: unmerging and disabling restore the original bits, and disposing frees all handles. Bits and counts of live handles are compared
 * exactly.
 */
import { type FloatArray, FourierFTError, type Layer } from '@fourierft/core'
import type { AdaptedLinear, Backend } from '@fourierft/core/conformance'
import type { Level } from '../level.js'
import { withLinear } from '../linear-cases.js'
import { differingBits, relativeError } from '../measure.js'
import { layerOf, oracleForward } from '../reference-oracle.js'
import { seededValues } from '../seeded-values.js'
import { deltaLimit } from './delta.js'
import { FORWARD_LIMIT } from './forward.js'

const SHAPE = [24, 40] as const
const TOKENS = 5
const SWAPS = 1000

export const lifeCycleLevel: Level = {
  level: 6,
  title: 'life cycle',
  async run({ backend, check, skip }) {
    const [d1, d2] = SHAPE
    const weight = seededValues(8000, d1 * d2)
    const bias = seededValues(8001, d1)
    const x = seededValues(8002, TOKENS * d2)
    const gradY = seededValues(8003, TOKENS * d1)
    const layers = [8010, 8011].map((seed) => makeLayer(seed))
    const withAdapters = <Result>(use: (linear: AdaptedLinear) => Promise<Result>) =>
      withLinear(backend, { weight, bias, layers }, use)
    // A runtime may overwrite its output arrays later.
    const output = async (linear: AdaptedLinear) => (await linear.forward(x)).slice()
    const weightOf = async (linear: AdaptedLinear) => (await linear.weight()).slice()

    const base = await baseOutput(backend, { weight, bias, layers }, output)
    if (!base.frozen) {
      skip(
        'a layer that never had an adapter',
        `the backend rejects it (${base.reason}); compared with a layer whose adapter was never used`,
      )
    }
    const baseName = base.frozen
      ? 'a layer that never had an adapter'
      : 'a layer whose adapter was never used'
    await check(`disable: the bits of ${baseName}`, 0, () =>
      withAdapters(async (linear) => {
        await linear.forward(x)
        await linear.backward(x, gradY)
        await linear.disable()
        return differingBits(await output(linear), base.y)
      }),
    )
    await check('disable: the output of the base layer', FORWARD_LIMIT, () =>
      withAdapters(async (linear) => {
        await linear.disable()
        const zeroed = layers.map((layer) => ({ ...layer, coefficients: new Float32Array(layer.entries.n) }))
        return relativeError(await linear.forward(x), oracleForward(weight, bias, zeroed, x))
      }),
    )
    await check('enable: the same bits as before disable', 0, () =>
      withAdapters(async (linear) => {
        const before = await output(linear)
        await linear.disable()
        await linear.forward(x)
        await linear.enable()
        return differingBits(await output(linear), before)
      }),
    )
    await check('disable: the weight keeps its bits', 0, () =>
      withAdapters(async (linear) => {
        const before = await weightOf(linear)
        await linear.disable()
        return differingBits(await weightOf(linear), before)
      }),
    )

    if (backend.strategies.includes('merge')) {
      // The error of ΔW, and one rounding of the sum W + ΔW.
      await check('merge: the weight becomes W + ΔW', deltaLimit(SHAPE) + 2 ** -24, () =>
        withAdapters(async (linear) => {
          await linear.merge()
          return relativeError(await weightOf(linear), mergedWeight(weight, layers))
        }),
      )
      await check('merge: the output is unchanged', FORWARD_LIMIT, () =>
        withAdapters(async (linear) => {
          await linear.merge()
          return relativeError(await linear.forward(x), oracleForward(weight, bias, layers, x))
        }),
      )
      await check('unmerge: the weight has its original bits', 0, () =>
        withAdapters(async (linear) => {
          const before = await weightOf(linear)
          let different = 0
          for (let round = 0; round < 3; round++) {
            await linear.merge()
            await linear.unmerge()
            different += differingBits(await weightOf(linear), before)
          }
          return different
        }),
      )
      await check('unmerge: the output has its original bits', 0, () =>
        withAdapters(async (linear) => {
          const before = await output(linear)
          await linear.merge()
          await linear.unmerge()
          return differingBits(await output(linear), before)
        }),
      )
      await check(`unmerge, then disable: the bits of ${baseName}`, 0, () =>
        withAdapters(async (linear) => {
          await linear.merge()
          await linear.unmerge()
          await linear.disable()
          return differingBits(await output(linear), base.y)
        }),
      )
    } else {
      skip('merge and unmerge', 'the backend does not offer the strategy merge')
    }

    await check('arguments keep their bits', 0, async () => {
      const inputs = [weight, bias, x, gradY, ...layers.map(({ coefficients }) => coefficients)]
      const copies = inputs.map((array) => array.slice())
      await withAdapters(async (linear) => {
        await linear.forward(x)
        await linear.backward(x, gradY)
        await linear.setCoefficients(layers.map(({ entries }) => seededValues(8020, entries.n)))
        if (backend.strategies.includes('merge')) {
          await linear.merge()
          await linear.unmerge()
        }
      })
      return inputs.reduce((sum, array, i) => sum + differingBits(array, copies[i] ?? []), 0)
    })

    await check('the same coefficients set again: the same bits', 0, () =>
      withAdapters(async (linear) => {
        const before = await output(linear)
        await linear.setCoefficients(layers.map(({ entries }) => seededValues(8020, entries.n)))
        await linear.forward(x)
        await linear.setCoefficients(layers.map(({ coefficients }) => Float32Array.from(coefficients)))
        return differingBits(await output(linear), before)
      }),
    )

    if (backend.resources === undefined) {
      skip('leaks', 'the backend has no resources(), so live handles cannot be counted')
      return
    }
    const count = async () => (await backend.resources?.()) ?? Number.NaN
    await check(`leaks: live handles after ${SWAPS} swaps of coefficients`, 0, () =>
      withAdapters(async (linear) => {
        const token = seededValues(8030, d2)
        const swap = async (round: number) => {
          await linear.setCoefficients(
            layers.map(({ entries }, i) => seededValues(8040 + 2 * round + i, entries.n)),
          )
          await linear.forward(token)
        }
        // The first uses may fill permanent caches.
        for (let round = 0; round < 3; round++) await swap(round)
        const before = await count()
        for (let round = 0; round < SWAPS; round++) await swap(round)
        return Math.abs((await count()) - before)
      }),
    )
    await check('leaks: live handles after 50 life cycles', 0, async () => {
      const lifeCycle = () =>
        withAdapters(async (linear) => {
          await linear.forward(x)
          await linear.backward(x, gradY)
          await linear.disable()
          await linear.forward(x)
          await linear.enable()
          if (backend.strategies.includes('merge')) {
            await linear.merge()
            await linear.forward(x)
            await linear.unmerge()
          }
        })
      for (let round = 0; round < 3; round++) await lifeCycle()
      const before = await count()
      for (let round = 0; round < 50; round++) await lifeCycle()
      return Math.abs((await count()) - before)
    })
  },
}

type BaseOutput = { readonly y: FloatArray } & (
  | { readonly frozen: true }
  | { readonly frozen: false; readonly reason: string }
)

/** Returns the output of a layer without adapters or, if the backend rejects such a layer, with adapters disabled before the first use. */
async function baseOutput(
  backend: Backend,
  testCase: { weight: Float32Array; bias: Float32Array; layers: readonly Layer[] },
  output: (linear: AdaptedLinear) => Promise<FloatArray>,
): Promise<BaseOutput> {
  try {
    return { frozen: true, y: await withLinear(backend, { ...testCase, layers: [] }, output) }
  } catch (error) {
    if (!FourierFTError.isInstance(error)) throw error
    const y = await withLinear(backend, testCase, async (linear) => {
      await linear.disable()
      return output(linear)
    })
    return { frozen: false, reason: error.message, y }
  }
}

function makeLayer(seed: number): Layer {
  return layerOf({ shape: SHAPE, n: 50, seed, coefficientsSeed: seed, scaling: 150 })
}

/** Returns `W + Σ ΔW` in float64, from the oracle's outputs for unit vectors. */
function mergedWeight(weight: Float32Array, layers: readonly Layer[]): Float64Array {
  const [d1, d2] = SHAPE
  const unit = new Float64Array(d2 * d2)
  for (let q = 0; q < d2; q++) unit[q * d2 + q] = 1
  const columns = oracleForward(weight, null, layers, unit)
  return Float64Array.from(
    { length: d1 * d2 },
    (_, i) => columns[(i % d2) * d1 + Math.floor(i / d2)] ?? Number.NaN,
  )
}
