/** Heads whose number of labels (the *width*) may change: only operators that work at any width are between the layer and the outputs. */
import type { OnnxGraph } from '../model/graph.js'
import type { LinearLayer } from './linear-layer.js'
import { productsOf } from './products.js'
import { outputNodeOf } from './quantised-pair.js'

/** Operators that keep the shape of their input and accept any width. */
const ANY_WIDTH: ReadonlySet<string> = new Set([
  'Cast',
  'Clip',
  'Exp',
  'HardSigmoid',
  'Identity',
  'LeakyRelu',
  'Log',
  'LogSoftmax',
  'Neg',
  'Relu',
  'Sigmoid',
  'Softmax',
  'Softplus',
  'Tanh',
])

/**
 * Returns the values between the layer's products and the model's outputs, whose last dimension is the layer's `outFeatures`. Undefined if another
 * operator reads one of them, if the layer is in a subgraph, or if it is a part of a larger product.
 */
export function valuesOfFreeWidth(layer: LinearLayer): readonly string[] | undefined {
  const values = new Set<string>()
  for (const product of productsOf(layer)) {
    const productValues = valuesAfter(product)
    if (!productValues) return undefined
    for (const value of productValues) values.add(value)
  }
  return [...values]
}

function valuesAfter(product: LinearLayer): readonly string[] | undefined {
  const { graph, part } = product
  const [output] = outputNodeOf(product).outputs
  if (part || graph.parent || !output) return undefined
  const values = [output]
  for (const value of values) {
    const readers = graph.consumersOf(value)
    if (readers.length === 0 && !graph.isOutput(value)) return undefined
    for (const reader of readers) {
      const [result] = reader.outputs
      const keepsShape = reader.graph === graph && reader.domain === '' && ANY_WIDTH.has(reader.opType)
      // The other inputs of `Clip` are limits, which are single numbers.
      if (!keepsShape || !result || reader.inputs[0] !== value) return undefined
      if (!values.includes(result)) values.push(result)
    }
  }
  return values
}

/** Changes the width of values whose width is declared in the file. */
export function setWidth(
  graph: OnnxGraph,
  values: readonly string[],
  width: (old: number) => number | string,
): void {
  for (const { name, dims } of [...graph.outputs, ...graph.valueInfos]) {
    const old = dims?.at(-1)
    if (typeof old === 'number' && values.includes(name)) graph.setLastDim(name, width(old))
  }
}
