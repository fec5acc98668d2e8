/**
 * Raises models of the opsets 11 to 15 to opset 16, the first one in which all operators of the backward graph exist. The outputs do not
 * change by a bit; in opset 17 they would, because ONNX Runtime then fuses the layer normalisations of float16 models.
 *
 * All operators of opset 11 that have another version in the opsets 12 to 17:
 *
 * | operators | since | change | done here |
 * | --- | --- | --- | --- |
 * | Squeeze, Unsqueeze, ReduceSum | 13 | `axes` is an input | the attribute becomes a constant |
 * | Split | 13 | `split` is an input | the attribute becomes a constant |
 * | Softmax, LogSoftmax, Hardmax | 13 | one axis, by default the last, instead of all axes from `axis`, by default 1 | joined axes are one axis during the operator |
 * | Dropout | 12, 13 | `ratio` is an input, the mask of inference is all true | the attribute is removed; a mask that is read is rejected |
 * | BatchNormalization | 14, 15 | training is an attribute, not a number of outputs | training is rejected |
 * | Resize | 13 | `roi` and `scales` are optional, no `tf_half_pixel_for_nn` | unused inputs are omitted; that mode is rejected |
 * | RoiAlign | 16 | the coordinates are shifted by half a pixel by default | the attribute is set to the former default |
 * | ArgMax, ArgMin | 12, 13 | new `select_last_index`, by default off | nothing |
 * | Clip, Max, Min, ReduceMax, ReduceMin, MaxPool | 12, 13 | more types | nothing |
 * | Constant | 12, 13 | new attributes | nothing |
 * | GatherND | 12, 13 | new `batch_dims`, by default 0 | nothing |
 * | Pow | 12, 13, 15 | more types | nothing |
 * | DequantizeLinear, QuantizeLinear | 13 | new `axis`, which a scalar scale does not use | nothing |
 * | Reshape | 13, 14 | new `allowzero`, by default off | nothing |
 * | GRU, LSTM, RNN | 14 | new `layout`, by default the former one | nothing |
 * | Shape | 13, 15 | new `start` and `end`, by default all axes | nothing |
 * | ScatterElements, ScatterND | 13, 16 | new `reduction`, by default none | nothing |
 * | If, Loop, Scan, Identity | 13 to 16 | more types | nothing |
 * | Add, Div, Mul, Sub, Relu | 13, 14 | more types | nothing |
 * | CumSum | 14 | more types | nothing |
 * | LeakyRelu, PRelu, Where | 16 | more types | nothing |
 * | Abs, Cast, Ceil, Concat, DepthToSpace, Equal, Erf, Exp, Expand, Flatten, Floor, Gather, GatherElements, Gemm, Greater, IsNaN, LRN, Less, Log, MatMul, Mean, MeanVarianceNormalization, Mod, Neg, NonZero, Pad, Reciprocal, ReduceL1, ReduceL2, ReduceLogSum, ReduceLogSumExp, ReduceMean, ReduceProd, ReduceSumSquare, Sigmoid, Sign, Size, Slice, SpaceToDepth, Sqrt, Sum, Tanh, Tile, Transpose | 13 | more types | nothing |
 *
 * Of the operators that opset 12 added, GreaterOrEqual and LessOrEqual (16), NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss (13) have
 * a later version; it has more types. Scatter and Upsample are not in opset 11 any more.
 *
 * @see https://github.com/onnx/onnx/blob/main/docs/Changelog.md
 */
import { FourierFTError } from '@fourierft/core'
import { DOMAIN } from '../../attach/functions/branch-function.js'
import type { OnnxNode } from '../../model/graph.js'
import type { OnnxModel } from '../../model/model.js'
import { DataType } from '../../model/schema.js'
import { Analysis } from '../../shapes/batch-axis.js'
import { MIN_OPSET } from '../differentiate.js'
import { integerOf } from '../rule.js'
import type { Names } from './names.js'

const MIN_RAISED = 11
/** The IR version of opset 16. */
const IR_VERSION = 8

/**
 * @param names of the model's values
 * @throws {FourierFTError} `UNSUPPORTED` for an opset below 11, and for a node whose form opset 16 does not have, which the message names
 */
export function raiseOpset(model: OnnxModel, names: Names): void {
  const opset = model.opsetImports.get('') ?? 0
  if (opset >= MIN_OPSET) return
  if (opset < MIN_RAISED)
    throw new FourierFTError(
      'UNSUPPORTED',
      `${model.file} uses opset ${opset}; training needs opset ${MIN_RAISED} or later`,
      {
        file: model.file,
        expected: MIN_RAISED,
        received: opset,
        advice: `export the model again with opset ${MIN_RAISED} or later`,
      },
    )
  const context = new RaiseContext(model, names)
  for (const graph of model.graph.graphs())
    for (const node of [...graph.nodes]) {
      const change = node.domain === '' ? CHANGES.get(node.opType) : undefined
      if (change && change.since > opset) change.raise(node, context)
    }
  model.setOpset(MIN_OPSET)
  model.raiseIrVersion(IR_VERSION)
}

class RaiseContext {
  readonly names: Names
  readonly #model: OnnxModel
  readonly #analysis: Analysis
  readonly #vectors = new Map<string, string>()

  constructor(model: OnnxModel, names: Names) {
    this.names = names
    this.#model = model
    this.#analysis = new Analysis(model)
  }

  /** The name of an int64 vector that all graphs see. */
  vector(values: BigInt64Array): string {
    const key = values.join('_')
    const known = this.#vectors.get(key)
    if (known !== undefined) return known
    const name = this.names.free(`${DOMAIN}.integers.${key}`)
    const data = new Uint8Array(BigInt64Array.from(values).buffer)
    this.#model.graph.addInitializer({ name, dims: [values.length], dataType: DataType.int64, data })
    this.#vectors.set(key, name)
    return name
  }

  rankOf(node: OnnxNode, value: string): number | undefined {
    return this.#analysis.known(node.graph, value).dims?.length
  }
}

type Raise = (node: OnnxNode, context: RaiseContext) => void

const CHANGES: ReadonlyMap<string, { readonly since: number; readonly raise: Raise }> = new Map([
  ['Squeeze', { since: 13, raise: attributeToInput('axes') }],
  ['Unsqueeze', { since: 13, raise: attributeToInput('axes') }],
  ['ReduceSum', { since: 13, raise: attributeToInput('axes') }],
  ['Split', { since: 13, raise: attributeToInput('split') }],
  ['Softmax', { since: 13, raise: overJoinedAxes }],
  ['LogSoftmax', { since: 13, raise: overJoinedAxes }],
  ['Hardmax', { since: 13, raise: overJoinedAxes }],
  ['Dropout', { since: 12, raise: dropout }],
  ['BatchNormalization', { since: 14, raise: batchNormalisation }],
  ['Resize', { since: 13, raise: resize }],
  ['RoiAlign', { since: 16, raise: roiAlign }],
])

function attributeToInput(name: string): Raise {
  return (node, context) => {
    const values = node.attribute(name)?.ints
    if (!values || values.length === 0) return
    node.addInput(context.vector(values))
    node.removeAttribute(name)
  }
}

/** Before opset 13 these operators saw a matrix: all axes from `axis` on were its columns. */
function overJoinedAxes(node: OnnxNode, context: RaiseContext): void {
  const { graph, inputs, outputs } = node
  const [x, y] = [inputs[0], outputs[0]]
  const axis = integerOf(node, 'axis', 1)
  const rank = context.rankOf(node, x)
  node.setAttribute('axis', { int: -1 })
  if (axis === -1 || axis + 1 === rank) return
  const [flat, flatResult, shape] = ['flat', 'result', 'shape'].map((name) =>
    context.names.free(`${y}.${name}`),
  )
  graph.insertBefore(node, [
    { opType: 'Shape', inputs: [x], outputs: [shape] },
    { opType: 'Flatten', inputs: [x], outputs: [flat], attributes: { axis: { int: axis } } },
  ])
  node.setInput(0, flat)
  node.setOutput(0, flatResult)
  graph.insertAfter(node, [
    { opType: 'Reshape', inputs: [flatResult, shape], outputs: [y], attributes: { allowzero: { int: 1 } } },
  ])
}

function dropout(node: OnnxNode): void {
  const { graph } = node
  const mask = node.outputs[1] ?? ''
  if (mask !== '' && (graph.isOutput(mask) || graph.consumersOf(mask).length > 0))
    throw cannotRaise(
      node,
      `gives the mask ${JSON.stringify(mask)}, which later opsets compute in another way`,
    )
  node.removeAttribute('ratio')
}

function batchNormalisation(node: OnnxNode): void {
  if (node.outputs.slice(1).some((name) => name !== ''))
    throw cannotRaise(node, 'computes the statistics of the batch, as in training')
}

function resize(node: OnnxNode): void {
  const mode = node.attribute('coordinate_transformation_mode')?.string
  if (mode === 'tf_half_pixel_for_nn')
    throw cannotRaise(node, `has coordinate_transformation_mode ${mode}, which later opsets do not have`)
  if (mode !== 'tf_crop_and_resize' && node.inputs.length > 1) node.setInput(1, '')
  if (node.inputs[3]) node.setInput(2, '')
}

function roiAlign(node: OnnxNode): void {
  node.setAttribute('coordinate_transformation_mode', { string: 'output_half_pixel' })
}

/** @param problem continues a sentence that begins with the node */
function cannotRaise(node: OnnxNode, problem: string): FourierFTError {
  const { file } = node.graph
  return new FourierFTError(
    'UNSUPPORTED',
    `${file}: node ${JSON.stringify(node.name)} (${node.opType}) ${problem}, so the model cannot be raised to opset ${MIN_OPSET} for training`,
    {
      file,
      received: node.opType,
      advice: `export the model again with opset ${MIN_OPSET} or later`,
    },
  )
}
