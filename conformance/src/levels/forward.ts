/**
 * Level 4: `y = (W + Σ ΔW) x + b` with every strategy.
 *
 * The limit is 1e-5 of `max|y|`. Relative to its result, a sum of d float32 products of similar size has an error of about √d roundings of
 * 2⁻²⁴ (at worst d). Three sums in sequence (transform, entries, transform back) with d = 768 have about 3·√768 = 83 roundings, which is
 * 5e-6.
 */
import type { Level } from '../level.js'
import { linearCases, makeLinearCase, selectStrategies, TOKENS, withLinear } from '../linear-cases.js'
import { relativeError } from '../measure.js'
import { layerOf, oracleForward } from '../reference-oracle.js'
import { seededValues } from '../seeded-values.js'

export const FORWARD_LIMIT = 1e-5

export const forwardLevel: Level = {
  level: 4,
  title: 'forward',
  async run(context) {
    const { backend, vectors, quick, check, skip } = context
    const strategies = selectStrategies(context)

    for (const vector of vectors.linear) {
      const testCase = makeLinearCase(vector)
      const { x, rows } = testCase
      for (const strategy of strategies) {
        await check(`${strategy}, PyTorch: ${vector.name}`, FORWARD_LIMIT, () =>
          withLinear(backend, testCase, async (linear) =>
            relativeError(await linear.forward(x, { strategy, ...(rows && { rows }) }), vector.y),
          ),
        )
      }
    }

    for (const tokens of quick ? TOKENS.slice(0, 3) : TOKENS) {
      for (const testCase of linearCases({ tokens, quick })) {
        const { name, weight, bias, layers, x, rows } = testCase
        const expected = oracleForward(weight, bias, layers, x, rows)
        for (const strategy of strategies) {
          await check(`${strategy}, ${name}`, FORWARD_LIMIT, () =>
            withLinear(backend, testCase, async (linear) =>
              relativeError(await linear.forward(x, { strategy, ...(rows && { rows }) }), expected),
            ),
          )
        }
        if (rows === undefined && backend.strategies.includes('merge')) {
          await check(`merge, ${name}`, FORWARD_LIMIT, () =>
            withLinear(backend, testCase, async (linear) => {
              await linear.merge()
              return relativeError(await linear.forward(x), expected)
            }),
          )
        }
      }
    }
    if (!backend.strategies.includes('merge')) skip('merge', 'the backend does not offer this strategy')

    const spec = { shape: [40, 56], n: 60, seed: 777, coefficientsSeed: 7800, scaling: 150 } as const
    const branch = { weight: new Float32Array(40 * 56), bias: null, layers: [layerOf(spec)] }
    const x = seededValues(7801, 5 * 56)
    for (const strategy of strategies) {
      await check(`${strategy}, only the branch (a weight of zeros)`, FORWARD_LIMIT, () =>
        withLinear(backend, branch, async (linear) =>
          relativeError(
            await linear.forward(x, { strategy }),
            oracleForward(branch.weight, null, branch.layers, x),
          ),
        ),
      )
      await check(`${strategy}, after setCoefficients`, FORWARD_LIMIT, () =>
        withLinear(backend, branch, async (linear) => {
          await linear.forward(x, { strategy })
          await linear.setCoefficients([seededValues(7803, spec.n)])
          const layers = [layerOf({ ...spec, coefficientsSeed: 7803 })]
          return relativeError(
            await linear.forward(x, { strategy }),
            oracleForward(branch.weight, null, layers, x),
          )
        }),
      )
    }
  },
}
