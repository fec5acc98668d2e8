/**
 * Brings a model into a form that can be differentiated: without model-local functions and without choices between the targets and the
 * outputs, in an opset that has the operators of the backward graph.
 */
import type { OnnxModel } from '../../model/model.js'
import { valuesRead } from '../differentiate.js'
import { inlineFunctions } from './inline-functions.js'
import { inlineIfs } from './inline-if.js'
import { Names } from './names.js'
import { raiseOpset } from './raise-opset.js'
import { removeUnused } from './remove-unused.js'

export interface PrepareOptions {
  /** The inputs, or other values, whose gradients are wanted. */
  readonly targets: readonly string[]
}

/**
 * Prepares the model for `differentiate`. Inputs that no node reads any more, such as those of a decoder's cache, are removed. The model
 * gives the same outputs, bit for bit, as the original gives with adapters and without a cache.
 *
 * @throws {FourierFTError} `UNSUPPORTED` for parts of the model that cannot be brought into that form, which the message names. The model is
 *   then unchanged.
 */
export function prepareTraining(model: OnnxModel, { targets }: PrepareOptions): void {
  const { graph } = model
  model.transaction(() => {
    const names = new Names(model)
    const readBefore = inputsRead(model)
    inlineFunctions(model, names)
    inlineIfs(model, targets, names)
    removeUnused(
      model,
      graph.outputs.map(({ name }) => name),
    )
    const readAfter = inputsRead(model)
    const kept = new Set(targets)
    graph.removeInputs(new Set([...readBefore].filter((name) => !readAfter.has(name) && !kept.has(name))))
    raiseOpset(model, names)
  })
}

/** The inputs that a node reads, or that are outputs. */
function inputsRead({ graph }: OnnxModel): ReadonlySet<string> {
  const read = new Set(graph.nodes.flatMap(valuesRead))
  return new Set(
    graph.inputs.map(({ name }) => name).filter((name) => read.has(name) || graph.isOutput(name)),
  )
}
