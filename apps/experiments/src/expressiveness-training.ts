/** Trains one network of the expressiveness experiment with full batches and Adam at a constant rate, and records the accuracy on the training points. */
import { score } from '@fourierft/quickstart'
import * as tf from '@tensorflow/tfjs-core'
import { type Clusters, clusters } from './clusters.js'
import { hiddenLayerNetwork, type RestOfNetwork } from './hidden-layer-network.js'
import { fourierUpdate, loraUpdate } from './hidden-update.js'
import { expressivenessSettings as settings } from './settings.js'

export type UpdateName = 'FourierFT' | 'LoRA'

export interface ExpressivenessRun {
  readonly seed: number
  /** The number of trained parameters of ΔW. */
  readonly parameters: number
  /** Starts at epoch 0. */
  readonly curve: readonly { readonly epoch: number; readonly accuracy: number }[]
}

/** All runs of one method in one network. */
export interface ExpressivenessOutcome {
  readonly restOfNetwork: RestOfNetwork
  readonly method: UpdateName
  readonly runs: readonly ExpressivenessRun[]
}

export interface ExpressivenessOptions {
  readonly method: UpdateName
  readonly restOfNetwork: RestOfNetwork
  readonly learningRate: number
  readonly epochs: number
  /** Determines the points, the network and the start of ΔW. Both methods get the same points and the same network. */
  readonly seed: number
}

export function trainHiddenLayer(options: ExpressivenessOptions): ExpressivenessRun {
  const { method, restOfNetwork, learningRate, epochs, seed } = options
  const { width, n, scaling, rank, scoredEvery } = settings
  const start = restOfNetwork === 'frozen' ? 'zero' : 'random'
  const update =
    method === 'FourierFT'
      ? fourierUpdate({ width, start, seed }, { n, scaling })
      : loraUpdate({ width, start, seed }, { rank })
  const data = clusters({ ...settings.clusters, seed })
  const network = hiddenLayerNetwork(update, {
    width,
    classes: settings.clusters.classes,
    restOfNetwork,
    seed,
  })
  const optimizer = tf.train.adam(learningRate)
  const { points, targets } = toTensors(data)
  const curve: { epoch: number; accuracy: number }[] = []
  for (let epoch = 0; epoch <= epochs; epoch++) {
    // The logits are those before the step of this epoch; in epoch 0 the network is untrained.
    const logits = step(() => network.logits(points), targets, network.variables, optimizer)
    if (epoch % scoredEvery === 0)
      curve.push({ epoch, accuracy: score(logits.dataSync<'float32'>(), data.labels).accuracy })
    logits.dispose()
  }
  const parameters = update.variables.reduce((count, variable) => count + variable.size, 0)
  network.dispose()
  optimizer.dispose()
  tf.dispose([points, targets])
  return { seed, parameters, curve }
}

/** Returns the first epoch with an accuracy of 100 %; undefined if there is none. */
export const epochOfFullAccuracy = ({ curve }: ExpressivenessRun): number | undefined =>
  curve.find(({ accuracy }) => accuracy === 1)?.epoch

function toTensors({ points, labels, count }: Clusters) {
  const { classes } = settings.clusters
  return {
    points: tf.tensor2d(points, [count, 2]),
    targets: tf.tidy(() => tf.oneHot(tf.tensor1d(labels, 'int32'), classes)),
  }
}

/** Makes one training step. @returns the logits before the step */
function step(
  forward: () => tf.Tensor2D,
  targets: tf.Tensor,
  variables: tf.Variable[],
  optimizer: tf.Optimizer,
): tf.Tensor2D {
  return tf.tidy(() => {
    let logits: tf.Tensor2D | undefined
    const { grads } = tf.variableGrads(() => {
      logits = tf.keep(forward())
      return tf.losses.softmaxCrossEntropy(targets, logits) as tf.Scalar
    }, variables)
    optimizer.applyGradients(grads)
    if (logits === undefined) throw new Error('the network returned no logits')
    return logits
  })
}
