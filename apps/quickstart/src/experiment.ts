/** One run of one method: train what is attached, score the test digits as it goes and at the end, save. */
import { stat } from 'node:fs/promises'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { DigitSet } from './digits.js'
import { fineTune, predict } from './fine-tune.js'
import { type Adaptation, countParameters, type Method } from './methods.js'
import { type Score, score } from './score.js'

/** The test score after so many steps. */
export interface CurvePoint extends Score {
  readonly step: number
}

export interface Run {
  readonly method: string
  /** Numbers that were trained. */
  readonly parameters: number
  /** Size of the file that holds them. */
  readonly bytes: number
  /** From step 0, which is the frozen model, to the last. */
  readonly curve: readonly CurvePoint[]
  /** Of the training alone, without the scoring. */
  readonly seconds: number
}

export interface ExperimentOptions {
  readonly adaptation: DigitSet
  readonly test: DigitSet
  readonly epochs: number
  readonly batchSize: number
  readonly seed: number
  /** Where the result is saved. */
  readonly folder: string
  /** After each step, with the score of its batch. */
  readonly onStep: (step: number, steps: number, batch: Score) => void | Promise<void>
}

/** When the test digits are scored, in parts of the training: closer together where the loss falls fast. */
const scoredAt = [1 / 32, 1 / 8, 1 / 4, 1 / 2, 1]

/** @param frozen the score of the model that nothing is attached to, where every curve begins */
export async function runMethod(
  model: LayersModel,
  { name, learningRate }: Method,
  { variables, save }: Adaptation,
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
      if (!scoredAt.some((part) => Math.ceil(part * steps) === step)) return
      const pause = performance.now()
      curve.push({ step, ...score(predict(model, test), test.labels) })
      scoring += performance.now() - pause
    },
  })
  const seconds = (performance.now() - begin - scoring) / 1000
  const { size: bytes } = await stat(await save(folder))
  return { method: name, parameters: countParameters(variables), bytes, curve, seconds }
}
