/** Level 6: merging, disabling and disposing leave nothing behind. Exact: bits, and counts of live handles. */
import type { FloatArray, Layer } from '@fourierft/core'
import type { AdaptedLinear, Backend } from '@fourierft/core/conformance'
import type { Level } from '../level.js'
import { differingBits, relativeError } from '../measure.js'
import { layerOf, oracleForward } from '../oracle.js'
import { withLinear } from '../problems.js'
import { values } from '../values.js'
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
    const weight = values(8000, d1 * d2)
    const bias = values(8001, d1)
    const x = values(8002, TOKENS * d2)
    const gradY = values(8003, TOKENS * d1)
    const layers = [8010, 8011].map((seed) => makeLayer(seed))
    const adapted = <Result>(use: (linear: AdaptedLinear) => Promise<Result>) =>
      withLinear(backend, { weight, bias, layers }, use)
    // What a runtime gives it may later overwrite.
    const output = async (linear: AdaptedLinear) => (await linear.forward(x)).slice()
    const held = async (linear: AdaptedLinear) => (await linear.weight()).slice()

    const base = await neverAdapted(backend, { weight, bias, layers }, output)
    if (!base.frozen) {
      skip(
        'a layer that never had an adapter',
        `the backend makes none (${base.reason}); one whose adapter was never used stands for it`,
      )
    }
    const what = base.frozen ? 'a layer that never had an adapter' : 'a layer whose adapter was never used'
    await check(`disable: the bits of ${what}`, 0, () =>
      adapted(async (linear) => {
        await linear.forward(x)
        await linear.backward(x, gradY)
        await linear.disable()
        return differingBits(await output(linear), base.y)
      }),
    )
    await check('disable: the output of the base layer', FORWARD_LIMIT, () =>
      adapted(async (linear) => {
        await linear.disable()
        const silent = layers.map((layer) => ({ ...layer, coefficients: new Float32Array(layer.entries.n) }))
        return relativeError(await linear.forward(x), oracleForward(weight, bias, silent, x))
      }),
    )
    await check('enable: the bits of before disable', 0, () =>
      adapted(async (linear) => {
        const before = await output(linear)
        await linear.disable()
        await linear.forward(x)
        await linear.enable()
        return differingBits(await output(linear), before)
      }),
    )
    await check('disable: the weight keeps its bits', 0, () =>
      adapted(async (linear) => {
        const before = await held(linear)
        await linear.disable()
        return differingBits(await held(linear), before)
      }),
    )

    if (backend.strategies.includes('merge')) {
      // W + ΔW: the error of ΔW, and one rounding of the sum.
      await check('merge: the weight becomes W + ΔW', deltaLimit(SHAPE) + 2 ** -24, () =>
        adapted(async (linear) => {
          await linear.merge()
          return relativeError(await held(linear), mergedWeight(weight, layers))
        }),
      )
      await check('merge: the output stays', FORWARD_LIMIT, () =>
        adapted(async (linear) => {
          await linear.merge()
          return relativeError(await linear.forward(x), oracleForward(weight, bias, layers, x))
        }),
      )
      await check('unmerge: the weight has its original bits', 0, () =>
        adapted(async (linear) => {
          const before = await held(linear)
          let different = 0
          for (let round = 0; round < 3; round++) {
            await linear.merge()
            await linear.unmerge()
            different += differingBits(await held(linear), before)
          }
          return different
        }),
      )
      await check('unmerge: the output has its original bits', 0, () =>
        adapted(async (linear) => {
          const before = await output(linear)
          await linear.merge()
          await linear.unmerge()
          return differingBits(await output(linear), before)
        }),
      )
      await check(`unmerge, then disable: the bits of ${what}`, 0, () =>
        adapted(async (linear) => {
          await linear.merge()
          await linear.unmerge()
          await linear.disable()
          return differingBits(await output(linear), base.y)
        }),
      )
    } else {
      skip('merge and unmerge', 'the backend does not offer the strategy merge')
    }

    await check('the arrays that were handed in keep their bits', 0, async () => {
      const given = [weight, bias, x, gradY, ...layers.map(({ coefficients }) => coefficients)]
      const copies = given.map((array) => array.slice())
      await adapted(async (linear) => {
        await linear.forward(x)
        await linear.backward(x, gradY)
        await linear.setCoefficients(layers.map(({ entries }) => values(8020, entries.n)))
        if (backend.strategies.includes('merge')) {
          await linear.merge()
          await linear.unmerge()
        }
      })
      return given.reduce((sum, array, i) => sum + differingBits(array, copies[i] ?? []), 0)
    })

    await check('the same coefficients set again: the same bits', 0, () =>
      adapted(async (linear) => {
        const before = await output(linear)
        await linear.setCoefficients(layers.map(({ entries }) => values(8020, entries.n)))
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
      adapted(async (linear) => {
        const token = values(8030, d2)
        const swap = async (round: number) => {
          await linear.setCoefficients(
            layers.map(({ entries }, i) => values(8040 + 2 * round + i, entries.n)),
          )
          await linear.forward(token)
        }
        // The first uses may fill caches that stay.
        for (let round = 0; round < 3; round++) await swap(round)
        const before = await count()
        for (let round = 0; round < SWAPS; round++) await swap(round)
        return Math.abs((await count()) - before)
      }),
    )
    await check('leaks: live handles after 50 whole lives', 0, async () => {
      const live = () =>
        adapted(async (linear) => {
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
      for (let round = 0; round < 3; round++) await live()
      const before = await count()
      for (let round = 0; round < 50; round++) await live()
      return Math.abs((await count()) - before)
    })
  },
}

type Frozen = { readonly y: FloatArray } & (
  | { readonly frozen: true }
  | { readonly frozen: false; readonly reason: string }
)

/** The output of the base layer: made without layers, or, where the backend refuses that, disabled before its first use. */
async function neverAdapted(
  backend: Backend,
  problem: { weight: Float32Array; bias: Float32Array; layers: readonly Layer[] },
  output: (linear: AdaptedLinear) => Promise<FloatArray>,
): Promise<Frozen> {
  try {
    return { frozen: true, y: await withLinear(backend, { ...problem, layers: [] }, output) }
  } catch (error) {
    if (!(error instanceof Error && error.name === 'FourierFTError')) throw error
    const y = await withLinear(backend, problem, async (linear) => {
      await linear.disable()
      return output(linear)
    })
    return { frozen: false, reason: error.message, y }
  }
}

function makeLayer(seed: number): Layer {
  return layerOf({ shape: SHAPE, n: 50, seed, coefficientsSeed: seed, scaling: 150 })
}

/** `W + Σ ΔW` in float64: row by row what the oracle gives for unit vectors. */
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
