/** The methods that the experiments attach to query and value of the digits transformer. */
import { type EntriesChoice, uniformEntries } from '@fourierft/core'
import {
  type AttachedMethod,
  addBranch,
  attachLora,
  fourierSettings,
  kernelShape,
  targetLayers,
  targetModules,
} from '@fourierft/quickstart'
import { attach } from '@fourierft/tfjs'
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { type BasisName, basisDelta, makeBasis } from './basis.js'

/** A method attached to a model. Experiments train and remove it, but never save it. */
export type TrainableMethod = Pick<AttachedMethod, 'variables' | 'detach'>

const { scaling } = fourierSettings

/** Attaches FourierFT. @param entries default: uniform entries from the seed */
export function attachFourier(
  model: LayersModel,
  { n, seed, entries }: { n: number; seed: number; entries?: EntriesChoice },
): TrainableMethod {
  const adapters = attach(model)
  adapters.addAdapter(
    'default',
    { targetModules, nFrequency: n, scaling, randomLocSeed: seed, initWeights: true },
    entries && { entries },
  )
  return { variables: adapters.trainableVariables, detach: () => adapters.detach() }
}

/** Attaches LoRA with scaling 1 at every rank, so that only the learning rate determines the length of a step. */
export function attachLoraOfRank(
  model: LayersModel,
  { rank, seed }: { rank: number; seed: number },
): TrainableMethod {
  const { pairs, detach } = attachLora(model, { targetModules, rank, alpha: rank, seed })
  return { variables: pairs.flatMap(({ a, b }) => [a, b]), detach }
}

/** Attaches FourierFT with another basis. As in FourierFT, all layers share one basis and one set of entries. */
export function attachBasis(
  model: LayersModel,
  { basis: name, n, seed }: { basis: BasisName; n: number; seed: number },
): TrainableMethod {
  const layers = targetLayers(model, targetModules)
  const [first] = layers
  if (first === undefined) throw new Error(`the model has no layer named ${targetModules.join(' or ')}`)
  const [inputs, outputs] = kernelShape(first)
  const basis = makeBasis(name, uniformEntries({ shape: [outputs, inputs], n, seed }), seed)
  const attached = layers.map((layer) => {
    const coefficients = tf.tidy(() => tf.variable(tf.zeros([n])))
    const removeBranch = addBranch(layer, (x) =>
      tf.matMul(x, basisDelta(basis, tf.mul(coefficients, scaling)), false, true),
    )
    return { coefficients, removeBranch }
  })
  return {
    variables: attached.map(({ coefficients }) => coefficients),
    detach() {
      for (const { coefficients, removeBranch } of attached) {
        removeBranch()
        coefficients.dispose()
      }
      basis.dispose()
    },
  }
}
