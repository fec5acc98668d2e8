/** Runs one method: trains the attached variables, scores the test digits during and after the training, and saves the result. */
import { stat } from 'node:fs/promises'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { DigitSet } from './digits.js'
import { fineTune, predict } from './fine-tune.js'
import { type AttachedMethod, countParameters, type Method } from './methods.js'
import { type Score, score } from './score.js'

/** The test score after a number of steps. */
export interface CurvePoint extends Score {
  readonly step: number
}

export interface Run {
  readonly method: string
  /** Number of trained parameters. */
  readonly parameters: number
  /** Size of the file with the parameters. */
  readonly bytes: number
  /** From step 0 (the frozen model) to the last step. */
  readonly curve: readonly CurvePoint[]
  /** Time of the training without the scoring. */
  readonly seconds: number
}

export interface ExperimentOptions {
  readonly adaptation: DigitSet
  readonly test: DigitSet
  readonly epochs: number
  readonly batchSize: number
  readonly seed: number
  /** The folder for the result. */
  readonly folder: string
  /** Called after each step with the score of the step's batch. */
  readonly onStep: (step: number, steps: number, batch: Score) => void | Promise<void>
}

/** The fractions of the training after which the test digits are scored; more at the beginning, when the loss falls fast. */
const scoredFractions = [1 / 32, 1 / 8, 1 / 4, 1 / 2, 1]

/** @param frozen the score of the model without an adapter, the start of every curve */
export async function runMethod(
  model: LayersModel,
  { name, learningRate }: Method,
  { variables, save }: AttachedMethod,
  frozen: Score,
  options: ExperimentOptions,
): Promise<Run> {
  const { adaptation, test, folder, onStep, ...training } = options
  const curve: CurvePoint[] = [{ step: 0, ...frozen }]
  const begin = performance.now()
  let scoring = 0
  await fineTune(model, variables, {
    ...training,
    digits: adaptation,
    learningRate,
    async onStep(step, steps, batch) {
      await onStep(step, steps, batch)
      if (!scoredFractions.some((fraction) => Math.ceil(fraction * steps) === step)) return
      const pause = performance.now()
      curve.push({ step, ...score(predict(model, test), test.labels) })
      scoring += performance.now() - pause
    },
  })
  const seconds = (performance.now() - begin - scoring) / 1000
  const { size: bytes } = await stat(await save(folder))
  return { method: name, parameters: countParameters(variables), bytes, curve, seconds }
}
