/** Trains and scores several ways to adapt the demo's transformer to rotated digits, each with several seeds. */
import {
  baseFolder,
  countParameters,
  type DigitSet,
  degrees,
  fineTune,
  firstDigits,
  loadDigits,
  loadWeights,
  predict,
  readCheckpoint,
  rotateDigits,
  type Score,
  type Spread,
  score,
  spread,
  targetLayers,
  targetModules,
  training,
  visionTransformer,
} from '@fourierft/quickstart'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { TrainableMethod } from './attached-methods.js'
import type { RunOptions } from './experiment.js'

/** A method with its settings. */
export interface MethodConfig {
  readonly name: string
  readonly learningRate: number
  attach(model: LayersModel, seed: number): TrainableMethod
}

export interface Outcome {
  readonly name: string
  readonly learningRate: number
  /** The number of trained parameters in one layer. */
  readonly parametersPerLayer: number
  readonly accuracy: Spread
  readonly loss: Spread
}

export interface ComparisonOptions extends RunOptions {
  /** Validation digits to choose learning rates, test digits for results. */
  readonly scoredOn: 'validation' | 'test'
}

/** With `quick`: the number of digits to train on for one epoch, and to score. */
const quickDigits = { adaptation: 64, scored: 100 }

/** Returns outcomes in the order of `configs`. Writes progress to standard error. */
export async function compareOnDigits(
  configs: readonly MethodConfig[],
  { seeds, quick, scoredOn }: ComparisonOptions,
): Promise<Outcome[]> {
  const checkpoint = await readCheckpoint(baseFolder)
  const model = visionTransformer(checkpoint.config)
  loadWeights(model, checkpoint)
  const digits = await loadDigits()
  const take = (set: DigitSet, quickCount: number) =>
    rotateDigits(quick ? firstDigits(set, quickCount) : set, degrees)
  const adaptation = take(digits.adaptation, quickDigits.adaptation)
  const scored = take(digits[scoredOn], quickDigits.scored)
  const epochs = quick ? 1 : training.epochs

  const outcomes: Outcome[] = []
  for (const { name, learningRate, attach } of configs) {
    const scores: Score[] = []
    let parametersPerLayer = 0
    for (const seed of seeds) {
      const { variables, detach } = attach(model, seed)
      parametersPerLayer = countParameters(variables) / targetLayers(model, targetModules).length
      await fineTune(model, variables, { ...training, epochs, digits: adaptation, learningRate, seed })
      const result = score(predict(model, scored), scored.labels)
      detach()
      console.error(
        `${name}, rate ${learningRate}, seed ${seed}: ${scoredOn} loss ${result.loss.toFixed(3)}, ${(100 * result.accuracy).toFixed(1)} %`,
      )
      scores.push(result)
    }
    outcomes.push({
      name,
      learningRate,
      parametersPerLayer,
      accuracy: spread(scores.map(({ accuracy }) => accuracy)),
      loss: spread(scores.map(({ loss }) => loss)),
    })
  }
  model.dispose()
  return outcomes
}
