/**
 * Level 7: 100 steps of AdamW with the gradients of the backend, against PyTorch's trajectory in float64.
 *
 * The limit is 1e-4 at step 100. A step changes a coefficient by about the learning rate times a ratio m/√v, whose relative error is that
 * of the gradients (at most 1e-5, level 5). Errors of one step enter the next. For coefficients of size 1, 100 steps of 0.02 with an
 * error of 1e-5 add up to 2e-5; the rounding of float32 coefficients (100 · 6e-8) adds less.
 */
import { createAdamW } from '@fourierft/core'
import type { Level } from '../level.js'
import { makeLinearCase, withLinear } from '../linear-cases.js'
import { relativeError } from '../measure.js'
import { seededValues } from '../seeded-values.js'

export const TRAINING_LIMIT = 1e-4

export const trainingLevel: Level = {
  level: 7,
  title: 'training',
  trains: true,
  async run({ backend, vectors: { training }, check }) {
    const { layer, seed, tokens, batch, steps, recordedSteps } = training
    const [d1, d2] = layer.shape
    const testCase = makeLinearCase({
      name: 'training',
      layers: [layer],
      tokens,
      bias: true,
      rows: null,
      seed,
    })
    const target = seededValues(seed + 3, tokens * d1, 4)
    const losses = new Float64Array(steps)
    const trajectory: Float32Array[] = []
    let isTrained = false

    await check(`${steps} AdamW steps: every loss`, TRAINING_LIMIT, () =>
      withLinear(backend, testCase, async (linear) => {
        const optimizer = createAdamW({
          learningRate: training.learningRate,
          betas: training.betas,
          epsilon: training.epsilon,
          weightDecay: training.weightDecay,
        })
        const coefficients = seededValues(layer.coefficientsSeed, layer.n)
        for (let step = 0; step < steps; step++) {
          const start = (step * batch) % tokens
          const x = testCase.x.subarray(start * d2, (start + batch) * d2)
          const expectedY = target.subarray(start * d1, (start + batch) * d1)
          const y = await linear.forward(x)
          const gradY = new Float32Array(y.length)
          let loss = 0
          for (let i = 0; i < y.length; i++) {
            const difference = y[i] - expectedY[i]
            loss += difference ** 2
            gradY[i] = (2 * difference) / y.length
          }
          losses[step] = loss / y.length
          const gradients = await linear.backward(x, gradY)
          optimizer.step([coefficients], gradients.coefficients)
          await linear.setCoefficients([coefficients])
          if (recordedSteps.includes(step + 1)) trajectory.push(coefficients.slice())
        }
        isTrained = true
        const errors = training.losses.map((loss, step) => Math.abs(losses[step] - loss) / loss)
        return Math.max(...errors)
      }),
    )
    if (!isTrained) return
    for (const [index, step] of recordedSteps.entries()) {
      const expected = training.trajectory.subarray(index * layer.n, (index + 1) * layer.n)
      await check(`coefficients after step ${step}`, TRAINING_LIMIT, () =>
        relativeError(trajectory[index] ?? new Float32Array(), expected),
      )
    }
  },
}
