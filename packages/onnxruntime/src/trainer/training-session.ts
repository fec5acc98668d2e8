/** The session that computes losses and gradients: the training graph of one adapter. */
import {
  type AttachedInputs,
  attachBranches,
  type Loss,
  makeTrainingGraph,
  type OnnxModel,
  type TrainingGraph,
} from '@fourierft/onnx'
import type { InferenceSession } from 'onnxruntime-common'
import { layersByKey } from '../matched-layers.js'
import type { Ort } from '../ort.js'
import type { Enqueue } from '../runtime-queue.js'
import type { SessionAdapter } from '../session-adapter.js'

export interface TrainingSession {
  readonly session: InferenceSession
  readonly Tensor: Ort['Tensor']
  readonly enqueue: Enqueue
  /** The inputs of the adapter. */
  readonly inputs: AttachedInputs
  readonly graph: TrainingGraph
}

/** Turns a model into the training graph of one adapter. */
export function attachForTraining(
  model: OnnxModel,
  adapter: SessionAdapter,
  loss: Loss,
): { readonly inputs: AttachedInputs; readonly graph: TrainingGraph } {
  const layerAt = layersByKey(model)
  const branches = Array.from(adapter.layers, ([key, { name, entries }]) => ({
    module: name,
    entries,
    layer: layerAt(key),
  }))
  const replaceable = Array.from(adapter.replacedModules, ([key, { module, isResized }]) => ({
    module,
    layer: layerAt(key),
    hasFreeWidth: isResized,
  }))
  const inputs = attachBranches(model, branches, { replaceable })
  const weights = Array.from(inputs.weights.values(), ({ weight, bias }) =>
    bias ? [weight, bias] : [weight],
  )
  const targets = [...inputs.coefficients.values(), ...weights.flat()]
  return { inputs, graph: makeTrainingGraph(model, { loss, targets }) }
}
