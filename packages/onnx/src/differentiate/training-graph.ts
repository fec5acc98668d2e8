/** The training graph of a model: its forward pass, a loss, and the gradients of the adapters' inputs as outputs. */
import { FourierFTError } from '@fourierft/core'
import { DOMAIN } from '../attach/functions/branch-function.js'
import { gradientFunction } from '../attach/functions/gradient-function.js'
import type { OnnxModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { Analysis } from '../shapes/batch-axis.js'
import { Backward } from './backward.js'
import { activeValues, differentiate } from './differentiate.js'
import type { MemoryPolicy } from './keep-or-recompute.js'
import { LABELS, LOSS_SCALE, type Loss, LossNodes } from './losses/loss.js'
import { checkOrder } from './prepare/check-order.js'
import { prepareTraining } from './prepare/prepare-training.js'
import { removeUnused } from './prepare/remove-unused.js'
import { isFloatType } from './scalar.js'
import type { StepMemory } from './step-memory.js'

export interface TrainingGraphOptions {
  readonly loss: Loss
  /** Inputs of the graph whose gradients are wanted: coefficients, and weights and biases of replaced layers. */
  readonly targets: readonly string[]
  /**
   * Default: true. A graph without gradients also has the model's output that the loss reads: for evaluation. A graph with gradients need not
   * compute all of that output.
   */
  readonly gradients?: boolean
  /** What the backward pass reads again is kept (`fast`, the default), or mostly computed again (`lean`). */
  readonly memory?: MemoryPolicy
}

/** The names of the outputs of a training graph. */
export interface TrainingGraph {
  /** float32 scalar: the sum of the losses of all labels. */
  readonly loss: string
  /** float32 scalar: the number of labels that count. The loss of a batch is `loss / count`. */
  readonly count: string
  /** The input with the labels; undefined if the loss has none. */
  readonly labels: string | undefined
  /**
   * The input, a float32 scalar, by which all gradients are multiplied: their float16 numbers would else be rounded to 0. undefined if no gradient
   * is computed in float16.
   */
  readonly lossScale: string | undefined
  /** The size of the last axis of the output that the loss reads; undefined if the file does not fix it. */
  readonly outputSize: number | undefined
  /** Target → the output with the gradient of `loss`, times the loss scale, in the target's shape. Targets that do not affect the loss are missing. */
  readonly gradients: ReadonlyMap<string, string>
  /** Estimates the memory of a run. */
  readonly stepMemory: StepMemory
}

/**
 * Turns a model with attached branches into its training graph. Inference graphs stay as they are: make it from a copy of the model.
 *
 * @throws {FourierFTError} `INVALID_OPTION` if the model has no such output, or no target affects it; `UNSUPPORTED` for an operator without a
 *   gradient rule; `INVALID_ONNX` for a file whose nodes are not in an order of execution. The model is then unchanged.
 */
export function makeTrainingGraph(
  model: OnnxModel,
  { loss, targets, gradients: hasGradients = true, memory = 'fast' }: TrainingGraphOptions,
): TrainingGraph {
  const { graph } = model
  const names = graph.outputs.map(({ name }) => name)
  if (!names.includes(loss.output))
    throw new FourierFTError(
      'INVALID_OPTION',
      `loss: ${model.file} has no output ${JSON.stringify(loss.output)}; it has ${names.join(', ')}`,
      { file: model.file, option: 'loss', expected: names, received: loss.output },
    )
  const inputs = graph.inputs.map(({ name }) => name)
  const missing = loss.inputs?.find((name) => !inputs.includes(name))
  if (missing !== undefined)
    throw new FourierFTError(
      'INVALID_OPTION',
      `loss: ${model.file} has no input ${JSON.stringify(missing)}; it has ${inputs.join(', ')}`,
      { file: model.file, option: 'loss', expected: inputs, received: missing },
    )
  return model.transaction(() => {
    removeUnused(model, [loss.output])
    checkOrder(graph)
    prepareTraining(model, { targets })
    const forward = new Backward(graph, { analysis: new Analysis(model), opset: 0, target: '' })
    const dataType = forward.typeOf(loss.output)
    const described = graph.outputs.find(({ name }) => name === loss.output)?.dims
    const lastSize = described?.at(-1)
    const outputSize =
      typeof lastSize === 'number' ? lastSize : forward.dimsOf(loss.output)?.at(-1)?.size.value
    if (!isFloatType(dataType))
      throw new FourierFTError(
        'INVALID_OPTION',
        `loss: the output ${JSON.stringify(loss.output)} of ${model.file} has integers, which have no gradient`,
        { file: model.file, option: 'loss', received: loss.output },
      )
    if (loss.labels) {
      const rank = (described ?? forward.dimsOf(loss.output))?.length
      const { dataType, missingAxes } = loss.labels
      const dims =
        rank === undefined
          ? undefined
          : Array.from({ length: rank - missingAxes }, (_, i) => `${LABELS}_${i}`)
      graph.addInput({ name: LABELS, dataType, dims })
    }
    const isScaled =
      hasGradients &&
      Array.from(activeValues(graph, targets)).some((value) => forward.typeOf(value) === DataType.float16)
    const opset = model.opsetImports.get('') ?? 0
    const built = loss.build({ list: new LossNodes({ dataType, isScaled, opset }), forward })
    const lossScale = built.nodes.some(({ inputs }) => inputs.includes(LOSS_SCALE)) ? LOSS_SCALE : undefined
    if (lossScale) graph.addInput({ name: lossScale, dataType: DataType.float, dims: [] })
    const last = graph.nodes.at(-1)
    if (last) graph.insertAfter(last, built.nodes)
    const { gradients, stepMemory } = hasGradients
      ? differentiate(model, { seeds: built.seeds, targets, memory })
      : { gradients: new Map<string, string>(), stepMemory: () => 0 }
    if (hasGradients && !model.functions.some(({ name }) => name === 'FourierFTGrad'))
      model.addFunction(gradientFunction(model.opsetImports.get('') ?? 0))
    const rename = (value: string, name: string): string => {
      const end = graph.nodes.at(-1)
      if (end) graph.insertAfter(end, [{ opType: 'Identity', inputs: [value], outputs: [name] }])
      graph.addOutput({ name })
      return name
    }
    const training = {
      loss: rename(built.sum, `${DOMAIN}.loss`),
      count: rename(built.count, `${DOMAIN}.count`),
      labels: loss.labels && LABELS,
      lossScale,
      outputSize,
      stepMemory,
      gradients: new Map(
        Array.from(gradients, ([target, value]) => [
          target,
          rename(value, `${DOMAIN}.gradient of ${target}`),
        ]),
      ),
    }
    const results = hasGradients ? training.gradients.values() : [loss.output]
    removeUnused(model, [training.loss, training.count, ...results])
    return training
  })
}
