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
import { integerOf } from '../rule.js'

/** Operators of one input that compute each number from the number at its position. */
const UNARY: ReadonlySet<string> = new Set(
  'Identity Relu Erf Tanh Sigmoid Sqrt Neg Exp Gelu com.microsoft:Gelu com.microsoft:FastGelu'.split(' '),
)
const BINARY: ReadonlySet<string> = new Set(['Add', 'Sub', 'Mul', 'Div'])

const PREFIX = 'fourierft.selected'

export function selectEarly(model: OnnxModel): void {
  const candidates = model.graph.nodes.filter(({ opType, domain }) => opType === 'Gather' && domain === '')
  for (const selection of candidates) {
    const found = findSelected(model, selection)
    if (found) moveSelection(model, selection, found)
  }
}

interface Selected {
  readonly axis: number
  readonly index: number
  /** The nodes that compute only the selected token, in an order of execution, with their inputs that have the axis. */
  readonly nodes: ReadonlyMap<OnnxNode, readonly number[]>
}

function findSelected(model: OnnxModel, selection: OnnxNode): Selected | undefined {
  const { graph } = model
  const opset = model.opsetImports.get('') ?? 0
  const [value, indices] = selection.inputs as [string, string]
  const producer = graph.index.producers.get(value)
  if (!producer || !isRowWise(producer)) return undefined
  const values = new Backward(graph, { analysis: new Analysis(model), opset, target: '' })
  const index = constantOf(graph, indices) && values.constantIntegers(indices)
  const rank = values.dimsOf(value)?.length
  if (index?.length !== 1 || rank === undefined) return undefined
  const given = integerOf(selection, 'axis', 0)
  const axis = given < 0 ? given + rank : given
  if (axis >= rank - 1) return undefined
  const nodes = new Map<OnnxNode, readonly number[]>()
  for (const node of graph.nodes.toReversed()) {
    const [output] = node.outputs
    const readers = output === undefined ? [] : graph.consumersOf(output)
    const isOnlyForSelected =
      readers.length > 0 &&
      !graph.isOutput(output) &&
      readers.every((reader) => nodes.has(reader) || (reader === selection && reader.inputs[1] !== output))
    const inputs = isOnlyForSelected ? inputsWithAxis(values, node, { axis, rank }) : undefined
    if (inputs) nodes.set(node, inputs)
  }
  const hasProduct = [...nodes.keys()].some(({ opType }) => opType === 'MatMul')
  return hasProduct ? { axis, index: index[0], nodes: new Map([...nodes].reverse()) } : undefined
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

function moveSelection({ graph }: OnnxModel, selection: OnnxNode, { axis, index, nodes }: Selected): void {
  const prefix = `${PREFIX}.${selection.outputs[0]}`
  const integers = (name: string, dims: readonly number[], value: number) => {
    const data = new Uint8Array(BigInt64Array.of(BigInt(value)).buffer)
    graph.addInitializer({ name, dims, dataType: DataType.int64, data })
    return name
  }
  const position = integers(`${prefix}.index`, [1], index)
  const computed = new Set([...nodes.keys()].flatMap(({ outputs }) => outputs))
  const selected = new Map<string, string>()
  for (const [node, inputs] of nodes)
    for (const i of inputs) {
      const value = node.inputs[i]
      if (computed.has(value)) continue
      const name = selected.get(value) ?? `${prefix}.${selected.size}`
      if (!selected.has(value)) {
        selected.set(value, name)
        const attributes = { axis: { int: axis } }
        graph.insertBefore(node, [
          { name, opType: 'Gather', inputs: [value, position], outputs: [name], attributes },
        ])
      }
      node.setInput(i, name)
    }
  const dims = constantOf(graph, selection.inputs[1])?.dims ?? []
  selection.setInput(1, integers(`${prefix}.first`, dims, 0))
  graph.removeValueInfos(computed)
}
