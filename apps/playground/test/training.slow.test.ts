/**
 * Training in ONNX Runtime Web in Chromium: the digits transformer compared with TensorFlow.js, and WebGPU (in software, without a GPU) compared with
 * WebAssembly.
 */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { baseFolder, firstDigits, loadDigits, readCheckpoint } from '@fourierft/quickstart'
import {
  type Checkpoint,
  degrees,
  fourierSettings,
  rotateDigits,
  roundingLimit,
  type Score,
  score,
  training,
  useWasm,
} from '@fourierft/quickstart/browser'
import type { Page } from 'playwright'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Example } from '../src/classifier/examples.js'
import { DigitModel } from '../src/digit-model.js'
import { packDigits, unpackDigits } from '../src/packed-digits.js'
import { type BuiltPage, buildPage } from './build-page.js'
import { type OpenPage, openPage } from './open-page.js'
import { TEST_TIMEOUT } from './test-timeout.js'
import type { Trajectory } from './training-page/trainings.js'

const model = fileURLToPath(new URL('../../../.cache/minilm-0.2.1/model.onnx', import.meta.url))
const skipped = existsSync(model)
  ? ''
  : ' (skipped: fetch the model with node packages/onnxruntime/scripts/minilm.js)'

interface Rounding {
  /** √n of the trained numbers. Numbers with a smaller rate count less. */
  readonly spread: number
  /** The number of additions on the longest path to a logit. */
  readonly additions: number
}

/** Two layers in each of three blocks. */
const digitCoefficients = 6 * fourierSettings.nFrequency

const digitRounding = ({ config }: Checkpoint): Rounding => ({
  spread: Math.sqrt(digitCoefficients),
  additions: roundingLimit(config, [1]) * 2 ** 24,
})

/** MiniLM: width 384, 12 heads, 1536 features inside the perceptron, and texts of at most 16 tokens. */
const encoder: Rounding = {
  // The coefficients have a rate of 0.2, the pooler and the classifier of 0.001.
  spread: Math.sqrt(6 * 1000) + 0.005 * Math.sqrt(384 * 384 + 384 + 2 * 384 + 2),
  // Embeddings' norm; in each of three blocks two norms, attention, perceptron; pooler and classifier.
  additions: 769 + 3 * (2 * 769 + (384 + 32 + 2 * 16 + 384) + (384 + 1536)) + 2 * 384,
}

const shortExamples: readonly Example[] = [
  { text: 'Where is it?', label: 'delivery' },
  { text: 'Charged twice!', label: 'payment' },
]

describe('training in ONNX Runtime Web', () => {
  let built: BuiltPage
  let opened: OpenPage
  let page: Page

  beforeAll(async () => {
    built = await buildPage(fileURLToPath(new URL('training-page/index.html', import.meta.url)))
    opened = await openPage(built.browser, built.outDir)
    page = opened.page
    await page.goto(new URL('test/training-page/', opened.server.resolvedUrls?.local[0]).href)
  }, TEST_TIMEOUT)

  afterAll(async () => {
    await opened?.server.close()
    await built?.close()
  })

  it('digits: WebAssembly follows TensorFlow.js', async () => {
    const [count, testCount] = [30, 500]
    await useWasm()
    const { adaptation, test } = await loadDigits()
    const onPage = (digits: typeof test) => rotateDigits(unpackDigits(packDigits(digits)), degrees)
    const data = {
      checkpoint: await readCheckpoint(baseFolder),
      adaptation: onPage(adaptation),
      test: onPage(firstDigits(test, testCount)),
    }
    const tfjs = new DigitModel(data)
    const scores: Score[] = []
    await tfjs.train({
      steps: count,
      signal: new AbortController().signal,
      onStep: (_, batch) => scores.push(batch),
    })
    const expected = score(await tfjs.testLogits('tuned'), data.test.labels)
    const frozen = score(await tfjs.testLogits('frozen'), data.test.labels)
    tfjs.dispose()

    const settings = { count, batchSize: training.batchSize, testCount }
    const received = await page.evaluate((settings) => window.trainings.digits('wasm', settings), settings)
    const tolerances = lossTolerances(received, digitRounding(data.checkpoint))
    for (const [i, { loss, learningRate }] of received.steps.entries()) {
      // TensorFlow.js adds 1e-7 to the root of the second moment, not 1e-8. That changes the step of a number with the gradient g by at most the part 1e-7/|g|.
      const epsilon = 1e-7 * i * digitCoefficients * learningRate
      expect(Math.abs(loss - (scores[i]?.loss ?? 0))).toBeLessThanOrEqual((tolerances[i] ?? 0) + epsilon)
    }
    // One digit may be so close to the decision boundary that rounding changes its label.
    expect(received.accuracy).toBeGreaterThan(frozen.accuracy + 0.3)
    expect(Math.abs(received.accuracy - expected.accuracy)).toBeLessThanOrEqual(1 / testCount + 1e-9)
  })

  it('digits: five steps on WebGPU follow WebAssembly', async () => {
    const settings = { count: 5, batchSize: 8, testCount: 50 }
    const [wasm, webgpu] = [
      await page.evaluate((settings) => window.trainings.digits('wasm', settings), settings),
      await page.evaluate((settings) => window.trainings.digits('webgpu', settings), settings),
    ]
    expectSameTrajectory(webgpu, wasm, digitRounding(await readCheckpoint(baseFolder)))
  })

  it.skipIf(skipped !== '')(
    `encoder: five steps on WebGPU follow WebAssembly${skipped}`,
    async () => {
      const [wasm, webgpu] = [
        await page.evaluate((rows) => window.trainings.encoder('wasm', 5, rows), shortExamples),
        await page.evaluate((rows) => window.trainings.encoder('webgpu', 5, rows), shortExamples),
      ]
      expectSameTrajectory(webgpu, wasm, encoder)
      expect(wasm.steps.at(-1)?.loss).toBeLessThan(0.75 * (wasm.steps[0]?.loss ?? 0))
    },
    // Without a GPU, every step takes almost a minute on a busy machine.
    3 * TEST_TIMEOUT,
  )
})

function expectSameTrajectory(received: Trajectory, expected: Trajectory, rounding: Rounding): void {
  expect(received.steps).toHaveLength(expected.steps.length)
  for (const [i, tolerance] of lossTolerances(expected, rounding).entries())
    expect(Math.abs((received.steps[i]?.loss ?? 0) - (expected.steps[i]?.loss ?? 0))).toBeLessThanOrEqual(
      tolerance,
    )
}

/**
 * The differences in the loss of each step that rounding to float32 can cause.
 *
 * A sum of A numbers has A errors of random signs, of which six standard deviations are 6·√A·2⁻²⁴. Backpropagation makes paths three times as long. The
 * loss changes by at most twice the error of a logit. An error δ in the gradient g of a number changes the next AdamW step by at most the part 2·δ/|g| of
 * the rate, and thus the loss by 2·rate·δ. For n numbers that is at most 2·rate·√n·‖δ‖, by Cauchy and Schwarz.
 */
function lossTolerances({ steps, largestLogit }: Trajectory, { spread, additions }: Rounding): number[] {
  const relative = 6 * Math.sqrt(3 * additions) * 2 ** -24
  let moved = 0
  return steps.map(({ learningRate, gradientNorm }) => {
    const tolerance = relative * (2 * largestLogit + moved)
    moved += 2 * learningRate * spread * gradientNorm
    return tolerance
  })
}
