/**
 * Heads whose number of labels may change: layers whose output reaches the model's outputs through nothing but operators that do not care
 * how wide it is.
 */
import type { OnnxGraph } from '../model/graph.js'
import type { LinearLayer } from './linear-layer.js'
import { productsOf } from './products.js'
import { outputNodeOf } from './quantised-pair.js'

/** Operators of one input whose output has the shape of that input. */
const SHAPELESS: ReadonlySet<string> = new Set([
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
 * The values whose last dimension is the layer's `outFeatures`, from the outputs of its products to outputs of the model; undefined where
 * something else reads one of them, or where the layer is inside another graph or a part of a larger product.
 */
export function valuesOfFreeWidth(layer: LinearLayer): readonly string[] | undefined {
  const values = new Set<string>()
  for (const product of productsOf(layer)) {
    const own = valuesBehind(product)
    if (!own) return undefined
    for (const value of own) values.add(value)
  }
  return [...values]
}

function valuesBehind(product: LinearLayer): readonly string[] | undefined {
  const { graph, part } = product
  const [output] = outputNodeOf(product).outputs
  if (part || graph.parent || !output) return undefined
  const values = [output]
  for (const value of values) {
    const readers = graph.consumersOf(value)
    if (readers.length === 0 && !graph.isOutput(value)) return undefined
    for (const reader of readers) {
      const [result] = reader.outputs
      const passes = reader.graph === graph && reader.domain === '' && SHAPELESS.has(reader.opType)
      // Another input of `Clip` would be a limit, which is a single number.
      if (!passes || !result || reader.inputs[0] !== value) return undefined
      if (!values.includes(result)) values.push(result)
    }
  }
  return values
}

/** Writes another width for values, where the file says one. */
export function setWidth(
  graph: OnnxGraph,
  values: readonly string[],
  width: (old: number) => number | string,
): void {
  const known = [...graph.outputs, ...graph.valueInfos]
  for (const { name, dims } of known) {
    const old = dims?.at(-1)
    if (typeof old === 'number' && values.includes(name)) graph.setLastDim(name, width(old))
  }
}
