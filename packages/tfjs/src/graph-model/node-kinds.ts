/** The nodes of a graph that can have adapters, as kinds of layers. To add a kind, add its operation to `PRODUCT_OPERATIONS`. */
import { elu, relu, relu6, sigmoid, type Tensor } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import { adaptedLinear } from '../kinds/adapted-linear.js'
import { convolutionKindOfParts } from '../kinds/convolution.js'
import type { LayerKind } from '../kinds/layer-kind.js'
import type { Activation } from '../layers-internals.js'
import { attribute, type Executor, type GraphNode } from './converter-internals.js'

/** The nodes that multiply by one weight. */
export interface Product {
  readonly module: string
  /** The names of the constants. */
  readonly weight: string
  readonly bias: string | undefined
  readonly nodes: readonly GraphNode[]
}

const ACTIVATIONS: Readonly<Record<string, (x: Tensor) => Tensor>> = { relu, relu6, elu, sigmoid }

export const PRODUCT_OPERATIONS = new Set([
  'MatMul',
  '_FusedMatMul',
  'BatchMatMul',
  'BatchMatMulV2',
  'Conv2D',
  '_FusedConv2D',
])

/** Returns the kind of the layer that a product computes; undefined if it cannot have adapters. */
export function graphNodeKind(
  { weight, bias, nodes }: Product,
  weights: Executor['weightMap'],
  variable: (name: string) => LayerVariable,
): LayerKind | undefined {
  const [first, ...others] = nodes as readonly [GraphNode, ...GraphNode[]]
  // A kind has one bias and one activation, so all nodes of the weight must be equal.
  if (others.some((node) => signature(node) !== signature(first))) return undefined
  const [kernel] = weights[weight] as readonly [Tensor]
  const activation = activationOf(first)
  if (!activation || kernel.dtype !== 'float32') return undefined
  if (bias !== undefined && !Object.hasOwn(weights, bias)) return undefined
  const parts = () => ({
    kernel: variable(weight),
    bias: bias === undefined ? null : variable(bias),
    activation,
  })
  return first.op.includes('Conv2D') ? convolution(first, kernel, parts) : matrix(first, kernel, parts)
}

interface Parts {
  readonly kernel: LayerVariable
  readonly bias: LayerVariable | null
  readonly activation: Activation
}

function matrix(node: GraphNode, { shape }: Tensor, parts: () => Parts): LayerKind | undefined {
  if (shape.length !== 2 || attribute(node, 'transposeA', false) || attribute(node, 'transposeB', false))
    return undefined
  const [inputs, outputs] = shape as [number, number]
  const { kernel, bias, activation } = parts()
  return {
    shape: [outputs, inputs],
    kernel,
    bias,
    isLinear: true,
    allowsAdapterPerRow: true,
    apply: (x, weights, deltas, options) => activation.apply(adaptedLinear(x, weights, deltas, options)),
  }
}

function convolution(node: GraphNode, { shape }: Tensor, parts: () => Parts): LayerKind | undefined {
  const padding = attribute(node, 'pad', '').toLowerCase()
  const format = attribute(node, 'dataFormat', 'NHWC').toUpperCase()
  const strides = attribute<number[]>(node, 'strides', [1, 1, 1, 1])
  const dilations = attribute<number[]>(node, 'dilations', [1, 1, 1, 1])
  if (shape.length !== 4 || format !== 'NHWC' || (padding !== 'same' && padding !== 'valid')) return undefined
  return convolutionKindOfParts({
    ...parts(),
    strides: strides.slice(1, 3),
    dilationRate: dilations.slice(1, 3),
    padding,
    dataFormat: 'channelsLast',
  })
}

/** Returns the activation that is fused with the product; undefined if it is not supported. */
function activationOf(node: GraphNode): Activation | undefined {
  const fused = attribute<string[]>(node, 'fusedOps', []).map((op) => op.toLowerCase())
  const [name, ...others] = fused.filter((op) => op !== 'biasadd' && op !== 'noop' && op !== '')
  if (name === undefined) return { apply: (x) => x }
  const activation = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined
  return activation && others.length === 0 ? { apply: activation } : undefined
}

/** Returns a text that is equal for nodes that differ only in their name and input. */
function signature({ op, inputNames, attrParams }: GraphNode): string {
  const values = Object.entries(attrParams).map(([name, param]) => [name, param?.value])
  return JSON.stringify([op, inputNames.slice(1), values])
}
