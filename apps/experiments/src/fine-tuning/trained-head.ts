/** The head that `attach` adds to a model, with weights that are inputs of the graph: for the methods that `GraphTrainer` trains. */
import { type Adapter, readSavedModule } from '@fourierft/core'
import {
  addHead,
  DataType,
  type HeadConfig,
  headFor,
  headModules,
  LOGITS,
  type OnnxModel,
} from '@fourierft/onnx'
import type { TrainedInput } from './graph-trainer.js'

/**
 * Adds the head of the architecture.
 *
 * @param adapter has the weights of the head from which the training starts
 * @returns the inputs: the weights, transposed, and the biases
 */
export function addTrainedHead(
  model: OnnxModel,
  { config, adapter, learningRate }: { config: HeadConfig; adapter: Adapter; learningRate: number },
): TrainedInput[] {
  const { graph } = model
  const head = headFor('text-classification', config, graph.outputs)
  addHead(model, head)
  return headModules(head).flatMap((module) => {
    const [weightName, biasName] = [`new_head.${module}.weight_transposed`, `new_head.${module}.bias`]
    const [inFeatures, outFeatures] = graph.initializers.get(weightName)?.dims ?? []
    if (inFeatures === undefined || outFeatures === undefined)
      throw new Error(`the model has no ${weightName}`)
    const { weight, bias } = readSavedModule(adapter, module, {
      shape: [outFeatures, inFeatures],
      hasBias: true,
      hasFreeWidth: module === head.output,
    })
    const out = weight.length / inFeatures
    if (module === head.output) graph.setLastDim(LOGITS, out)
    graph.removeInitializers(new Set([weightName, biasName]))
    const input = (name: string, dims: readonly number[], values: Float32Array): TrainedInput => {
      graph.addInput({ name, dataType: DataType.float, dims })
      return { name, dims, values, learningRate }
    }
    return [
      input(weightName, [inFeatures, out], transpose(weight, out, inFeatures)),
      input(biasName, [out], Float32Array.from(bias as Float32Array)),
    ]
  })
}

/** @param values `[rows, columns]` */
function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)])
}
