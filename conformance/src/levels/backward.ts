/**
 * Level 5: `∂L/∂c` and `∂L/∂x` for `L = Σ gradY · y`, against PyTorch's autograd, the float64 oracle, and finite differences of the
 * oracle's forward pass.
 *
 * The limit is 1e-5 of the largest number of each gradient. Its derivation is that of level 4; the sums are the same.
 */
import type { LinearGradients } from '@fourierft/core/conformance'
import type { Level } from '../level.js'
import {
  type LinearCase,
  linearCases,
  makeLinearCase,
  selectStrategies,
  TOKENS,
  withLinear,
} from '../linear-cases.js'
import { relativeError } from '../measure.js'
import { type OracleGradients, oracleBackward, oracleForward } from '../reference-oracle.js'

export const BACKWARD_LIMIT = 1e-5

export const backwardLevel: Level = {
  level: 5,
  title: 'backward',
  trains: true,
  async run(context) {
    const { backend, vectors, quick, check } = context
    const strategies = selectStrategies(context)

    const compare = async (
      name: string,
      testCase: LinearCase,
      expected: OracleGradients | LinearGradients,
    ) => {
      const { x, gradY, rows } = testCase
      for (const strategy of strategies) {
        await check(`${strategy}, ${name}`, BACKWARD_LIMIT, () =>
          withLinear(backend, testCase, async (linear) =>
            gradientError(await linear.backward(x, gradY, { strategy, ...(rows && { rows }) }), expected),
          ),
        )
      }
    }

    for (const vector of vectors.linear)
      await compare(`autograd: ${vector.name}`, makeLinearCase(vector), vector)
    for (const tokens of quick ? TOKENS.slice(0, 3) : TOKENS) {
      for (const testCase of linearCases({ tokens, quick })) {
        const { name, weight, layers, x, gradY, rows } = testCase
        await compare(name, testCase, oracleBackward(weight, layers, x, gradY, rows))
      }
    }

    const small = makeDifferencesCase()
    await compare('finite differences of the oracle', small, finiteDifferences(small))

    for (const strategy of strategies) {
      await check(`${strategy}, after setCoefficients`, BACKWARD_LIMIT, () =>
        withLinear(backend, small, async (linear) => {
          await linear.backward(small.x, small.gradY, { strategy })
          const layers = small.layers.map((layer) => ({
            ...layer,
            coefficients: layer.coefficients.map((c) => 0.5 - c),
          }))
          await linear.setCoefficients(layers.map(({ coefficients }) => Float32Array.from(coefficients)))
          const expected = oracleBackward(small.weight, layers, small.x, small.gradY)
          return gradientError(await linear.backward(small.x, small.gradY, { strategy }), expected)
        }),
      )
    }
  },
}

function gradientError(actual: LinearGradients, expected: OracleGradients | LinearGradients): number {
  if (actual.coefficients.length !== expected.coefficients.length) {
    throw new Error(
      `∂L/∂c: expected ${expected.coefficients.length} arrays, received ${actual.coefficients.length}`,
    )
  }
  let largest = relativeError(actual.x, expected.x)
  expected.coefficients.forEach((gradient, index) => {
    const error = relativeError(actual.coefficients[index] ?? new Float64Array(), gradient)
    if (!(error <= largest)) largest = error
  })
  return largest
}

function makeDifferencesCase(): LinearCase {
  const shape = [10, 14] as const
  return makeLinearCase({
    name: 'finite differences',
    layers: [
      { shape, n: 9, seed: 3, coefficientsSeed: 7900, scaling: 20 },
      { shape, n: 5, seed: 4, coefficientsSeed: 7901, scaling: 30 },
    ],
    tokens: 3,
    bias: true,
    rows: null,
    seed: 7910,
  })
}

/**
 * Differentiates `L` by central differences. `L` is linear in `c` for a fixed `x`, and in `x` for a fixed `c`, so a difference with the
 * step 1 has no truncation error. Two float64 sums are rounded; the error of 1e-13 is negligible beside the limit.
 */
export function finiteDifferences({ weight, bias, layers, x, gradY }: LinearCase): OracleGradients {
  const loss = (changed: LinearCase['layers'], input: Float64Array) => {
    const y = oracleForward(weight, bias, changed, input)
    return y.reduce((sum, value, i) => sum + value * gradY[i], 0)
  }
  const exact = Float64Array.from(x)
  const coefficients = layers.map((layer, index) =>
    Float64Array.from(layer.coefficients, (_, l) => {
      const moved = (step: number) => {
        const c = Float64Array.from(layer.coefficients)
        c[l] = c[l] + step
        return layers.map((other, i) => (i === index ? { ...layer, coefficients: c } : other))
      }
      return (loss(moved(1), exact) - loss(moved(-1), exact)) / 2
    }),
  )
  const gradX = exact.map((_, i) => {
    const moved = (step: number) => exact.map((value, other) => (other === i ? value + step : value))
    return (loss(layers, moved(1)) - loss(layers, moved(-1))) / 2
  })
  return { coefficients, x: gradX }
}
