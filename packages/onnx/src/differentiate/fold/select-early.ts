/**
 * Selects one token before the layers that compute it, instead of after them. A classifier reads only the first token of an encoder's output, so the
 * layers after the last attention need not compute the others, and their backward pass does not carry zeros through whole matrix products.
 */
import type { OnnxNode } from '../../model/graph.js'
import type { OnnxModel } from '../../model/model.js'
import { constantOf } from '../../model/names-in-scope.js'
import { DataType } from '../../model/schema.js'
import { Analysis } from '../../shapes/batch-axis.js'
import { Backward } from '../backward.js'
import { operatorName } from '../gradient-rules.js'
import { axisFromStart, integerOf } from '../rule.js'

/** Operators of one input that compute each number from the number at its position. */
const UNARY: ReadonlySet<string> = new Set(
  'Identity Relu Erf Tanh Sigmoid Sqrt Neg Exp Gelu com.microsoft:Gelu com.microsoft:FastGelu'.split(' '),
)
const BINARY: ReadonlySet<string> = new Set(['Add', 'Sub', 'Mul', 'Div'])

const PREFIX = 'fourierft.selected'

export function selectEarly(model: OnnxModel): void {
  const { graph } = model
  const opset = model.opsetImports.get('') ?? 0
  // The dims stay right: a move changes only those of values that no other selection depends on.
  let values: Backward | undefined
  /** The values that have only the selected token from now on, so that the descriptions of the file are wrong. */
  const moved = new Set<string>()
  for (const selection of graph.nodes) {
    const producer = graph.index.producers.get(selection.inputs[0] ?? '')
    if (operatorName(selection) !== 'Gather' || !producer || !isRowWise(producer)) continue
    values ??= new Backward(graph, { analysis: new Analysis(model), opset, target: '' })
    const found = findSelected(values, selection)
    if (!found) continue
    moveSelection(selection, found)
    for (const node of found.nodes.keys()) for (const output of node.outputs) moved.add(output)
  }
  // All at once, because each removal reads the whole graph.
  if (moved.size > 0) graph.removeValueInfos(moved)
}

interface Selected {
  readonly axis: number
  readonly index: number
  /** The nodes that compute only the selected token, with their inputs that have the axis. */
  readonly nodes: ReadonlyMap<OnnxNode, readonly number[]>
}

function findSelected(values: Backward, selection: OnnxNode): Selected | undefined {
  const { graph } = selection
  const [value, indices] = selection.inputs as [string, string]
  const index = constantOf(graph, indices) && values.constantIntegers(indices)
  const rank = values.dimsOf(value)?.length
  if (index?.length !== 1 || rank === undefined) return undefined
  const axis = axisFromStart(integerOf(selection, 'axis', 0), rank)
  if (axis >= rank - 1) return undefined
  const nodes = new Map<OnnxNode, readonly number[]>()
  const isInside = (reader: OnnxNode) => nodes.has(reader) || reader === selection
  // A value comes up again after each of its readers, until all of them are known to compute only the selected token.
  const pending = [value]
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const node = graph.index.producers.get(name)
    if (!node || nodes.has(node) || graph.isOutput(name)) continue
    if (!graph.consumersOf(name).every(isInside)) continue
    const inputs = inputsWithAxis(values, node, { axis, rank })
    if (!inputs) continue
    nodes.set(node, inputs)
    pending.push(...inputs.map((i) => node.inputs[i]))
  }
  const hasProduct = [...nodes.keys()].some(({ opType }) => opType === 'MatMul')
  return hasProduct ? { axis, index: index[0], nodes } : undefined
}

function isRowWise(node: OnnxNode): boolean {
  const name = operatorName(node)
  return UNARY.has(name) || BINARY.has(name) || name === 'MatMul' || name === 'LayerNormalization'
}

/** The inputs of a node that have the axis, if the node computes each token from the same token; else undefined. */
function inputsWithAxis(
  values: Backward,
  node: OnnxNode,
  { axis, rank }: { readonly axis: number; readonly rank: number },
): readonly number[] | undefined {
  const { inputs, outputs } = node
  if (!isRowWise(node) || outputs.length !== 1 || values.dimsOf(outputs[0])?.length !== rank) return undefined
  const name = operatorName(node)
  const ranks = inputs.map((input) => values.dimsOf(input)?.length)
  if (UNARY.has(name)) return [0]
  if (name === 'MatMul') return ranks[0] === rank && ranks[1] === 2 ? [0] : undefined
  if (name === 'LayerNormalization') {
    const first = integerOf(node, 'axis', -1)
    return ranks[0] === rank && (first === -1 || first === rank - 1) ? [0] : undefined
  }
  const size = values.dimsOf(outputs[0])?.[axis]?.size
  const found: number[] = []
  for (const [i, input] of inputs.entries()) {
    const dims = values.dimsOf(input)
    if (!dims || !size) return undefined
    const own = dims[axis - (rank - dims.length)]?.size
    if (own === undefined || own.value === 1) continue
    if (!own.equals(size)) return undefined
    found.push(i)
  }
  return found.length > 0 ? found : undefined
}

function moveSelection(selection: OnnxNode, { axis, index, nodes }: Selected): void {
  const { graph } = selection
  const prefix = `${PREFIX}.${selection.outputs[0]}`
  const integers = (name: string, dims: readonly number[], value: number) => {
    const data = new Uint8Array(BigInt64Array.of(BigInt(value)).buffer)
    graph.addInitializer({ name, dims, dataType: DataType.int64, data })
    return name
  }
  const position = integers(`${prefix}.index`, [1], index)
  const computed = new Set([...nodes.keys()].flatMap(({ outputs }) => outputs))
  const selected = new Map<string, string>()
  const select = (value: string): string => {
    const name = `${prefix}.${selected.size}`
    selected.set(value, name)
    const attributes = { axis: { int: axis } }
    const node = { name, opType: 'Gather', inputs: [value, position], outputs: [name], attributes }
    const producer = graph.index.producers.get(value)
    if (producer) graph.insertAfter(producer, [node])
    else graph.insertBefore(graph.nodes[0], [node])
    return name
  }
  for (const [node, inputs] of nodes)
    for (const i of inputs) {
      const value = node.inputs[i]
      if (!computed.has(value)) node.setInput(i, selected.get(value) ?? select(value))
    }
  const dims = constantOf(graph, selection.inputs[1])?.dims ?? []
  selection.setInput(1, integers(`${prefix}.first`, dims, 0))
}
