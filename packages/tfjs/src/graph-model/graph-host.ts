/**
 * A `GraphModel` as a host of adapters. While an adapter is active, the nodes that multiply by an adapted weight run as custom operations;
 * otherwise they are what they were. Weights are variables while the model is attached, so that merging writes to them.
 */
import { FourierFTError, invalidState } from '@fourierft/core'
import { deregisterOp, type GraphModel, registerOp } from '@tensorflow/tfjs-converter'
import { dispose, elu, keep, relu, relu6, sigmoid, type Tensor, Variable } from '@tensorflow/tfjs-core'
import { LayerVariable } from '@tensorflow/tfjs-layers'
import { convolutionKind } from '../attach/convolution-layer.js'
import { provideEinsumGradient } from '../attach/einsum-gradient.js'
import type { AttachedState, Host, HostModule } from '../attach/host.js'
import type { LayerKind } from '../attach/layer-kind.js'
import { type Activation, variableOf } from '../attach/layers-internals.js'
import { linear } from '../attach/linear.js'
import { override } from '../attach/override.js'
import { attribute, type Executor, executorOf, type GraphNode } from './converter-internals.js'

/** Names of modules that differ from what the graph tells: a record by module name, or a function of it. */
export type GraphModuleNames = Readonly<Record<string, string>> | ((module: string) => string | undefined)

/** The nodes that multiply by one weight. */
interface Product {
  readonly module: string
  /** The names of the constants. */
  readonly weight: string
  readonly bias: string | undefined
  readonly nodes: readonly GraphNode[]
}

const ACTIVATIONS: Readonly<Record<string, (x: Tensor) => Tensor>> = { relu, relu6, elu, sigmoid }

const PRODUCTS = new Set(['MatMul', '_FusedMatMul', 'BatchMatMul', 'BatchMatMulV2', 'Conv2D', '_FusedConv2D'])

/** @throws {FourierFTError} `UNSUPPORTED` (another tfjs-converter), `INVALID_OPTION` where two modules have one name */
export function graphHost(model: GraphModel, moduleNames: GraphModuleNames = {}): Host<GraphModel> {
  const executor = executorOf(model)
  const before = executor.weightMap
  const products = productsOf(executor)
  const taken = products.find(({ weight }) => before[weight]?.[0] instanceof Variable)
  if (taken)
    throw new FourierFTError(
      'INVALID_STATE',
      `module '${taken.module}' is attached already; use the object that attachGraphModel() gave, or detach() it first`,
      { module: taken.module },
    )
  if (Object.values(executor.graph.nodes).some(({ op }) => op === 'Einsum')) provideEinsumGradient()
  const variables = new Map<string, LayerVariable>()
  const variable = (name: string) => {
    const [tensor] = before[name] as readonly [Tensor]
    const known = variables.get(name) ?? new LayerVariable(tensor, 'float32', name, false)
    variables.set(name, known)
    return known
  }
  const kinds = products.map((product) => ({ product, kind: kindOf(product, before, variable) }))
  return {
    model,
    modules: namedModules(kinds, executor, moduleNames),
    prepare: (state) => {
      const restoreCalls = refuseMixtures(model, state)
      const held = Array.from(variables, ([name, weight]): Held => ({ name, current: variableOf(weight) }))
      executor.weightMap = {
        ...before,
        ...Object.fromEntries(held.map(({ name, current }) => [name, [current]])),
      }
      return () => {
        restoreCalls()
        restoreWeights(executor, before, held)
      }
    },
  }
}

/** `executeAsync` waits between nodes. Where another choice has come into effect meanwhile, its output is of neither. */
function refuseMixtures(model: GraphModel, { changes }: AttachedState): () => void {
  const { executeAsync } = model
  return override(model, 'executeAsync', async (...args) => {
    const before = changes()
    const outputs = await executeAsync.apply(model, args)
    if (changes() === before) return outputs
    dispose(outputs)
    throw invalidState(
      'the adapters were changed while executeAsync() was running, so that its output is of no one choice of adapters; call it again',
    )
  })
}

/** A weight while its model is attached. */
interface Held {
  readonly name: string
  readonly current: Variable
}

/** What has been merged for good stays, and takes the original's place; all other variables give way to their originals. */
function restoreWeights(executor: Executor, before: Executor['weightMap'], held: readonly Held[]): void {
  const after = { ...before }
  for (const { name, current } of held) {
    const [original] = before[name] as readonly [Tensor]
    const isMerged = !current.isDisposed && current.dataId !== original.dataId
    if (isMerged) after[name] = [keep(current.clone())]
    // A variable that is disposed of went with the user's model, and its original goes too.
    if (isMerged || current.isDisposed) original.dispose()
    if (!current.isDisposed) current.dispose()
  }
  executor.weightMap = after
}

function productsOf({ graph, weightMap }: Executor): Product[] {
  const byWeight = new Map<string, Product>()
  for (const node of Object.values(graph.nodes)) {
    if (!PRODUCTS.has(node.op)) continue
    const [, weight, bias] = node.inputNames.map(withoutOutput)
    if (weight === undefined || !Object.hasOwn(weightMap, weight)) continue
    const known = byWeight.get(weight)
    byWeight.set(weight, {
      module: moduleOf(weight),
      weight,
      bias: known ? known.bias : bias,
      nodes: [...(known?.nodes ?? []), node],
    })
  }
  return [...byWeight.values()]
}

function withoutOutput(name: string): string {
  return name.replace(/:\d+$/, '')
}

/**
 * The module of a weight: its name in the graph without the operations at its end (`/MatMul/ReadVariableOp`) and without the call of the
 * signature at its beginning (`StatefulPartitionedCall/`), points for strokes: `model/dense/MatMul/ReadVariableOp` is `model.dense`.
 */
export function moduleOf(weight: string): string {
  const parts = weight.split('/')
  while (parts.length > 1 && /^(?:StatefulPartitionedCall|PartitionedCall)(?:_\d+)?$/.test(parts[0]))
    parts.shift()
  const operation =
    /^(?:ReadVariableOp|MatMul|BatchMatMul(?:V2)?|Tensordot|Conv[12]D|convolution|Einsum|ExpandDims|Reshape|Cast|Const|kernel|weights?|read|dim)(?:_\d+)?$/
  while (parts.length > 1 && operation.test(parts.at(-1) as string)) parts.pop()
  return parts.join('.')
}

/** Undefined for products that this package cannot change. */
function kindOf(
  { weight, bias, nodes }: Product,
  weights: Executor['weightMap'],
  variable: (name: string) => LayerVariable,
): LayerKind | undefined {
  const [first, ...others] = nodes as readonly [GraphNode, ...GraphNode[]]
  // One kind has one bias and one activation.
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
    takesRows: true,
    apply: (x, weights, changes, options) => activation.apply(linear(x, weights, changes, options)),
  }
}

function convolution(node: GraphNode, { shape }: Tensor, parts: () => Parts): LayerKind | undefined {
  const padding = attribute(node, 'pad', '').toLowerCase()
  const format = attribute(node, 'dataFormat', 'NHWC').toUpperCase()
  const strides = attribute<number[]>(node, 'strides', [1, 1, 1, 1])
  const dilations = attribute<number[]>(node, 'dilations', [1, 1, 1, 1])
  if (shape.length !== 4 || format !== 'NHWC' || (padding !== 'same' && padding !== 'valid')) return undefined
  return convolutionKind({
    ...parts(),
    strides: strides.slice(1, 3),
    dilationRate: dilations.slice(1, 3),
    padding,
    dataFormat: 'channelsLast',
  })
}

/** What is fused behind the product: a bias, an activation, both or nothing. */
function activationOf(node: GraphNode): Activation | undefined {
  const fused = attribute<string[]>(node, 'fusedOps', []).map((op) => op.toLowerCase())
  const [name, ...more] = fused.filter((op) => op !== 'biasadd' && op !== 'noop' && op !== '')
  if (name === undefined) return { apply: (x) => x }
  const activation = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined
  return activation && more.length === 0 ? { apply: activation } : undefined
}

function signature({ op, inputNames, attrParams }: GraphNode): string {
  const values = Object.entries(attrParams).map(([name, param]) => [name, param?.value])
  return JSON.stringify([op, inputNames.slice(1), values])
}

let operations = 0

function namedModules(
  kinds: readonly { readonly product: Product; readonly kind: LayerKind | undefined }[],
  executor: Executor,
  moduleNames: GraphModuleNames,
): HostModule[] {
  const names = new Set<string>()
  return kinds.map(({ product, kind }): HostModule => {
    const { module, nodes } = product
    const given =
      typeof moduleNames === 'function'
        ? moduleNames(module)
        : Object.hasOwn(moduleNames, module)
          ? moduleNames[module]
          : undefined
    const name = given ?? module
    if (names.has(name))
      throw new FourierFTError(
        'INVALID_OPTION',
        `moduleNames: two weights of the graph are called '${name}'; give each its own name`,
        { option: 'moduleNames', module: name },
      )
    names.add(name)
    return {
      name,
      owner: executor.graph.nodes[nodes[0].name],
      kind,
      typeName: `${nodes[0]?.op} of another form`,
      hasWeights: true,
      isBuilt: true,
      intercept: (apply, isIdle) => {
        const restore = nodes.map((node) => interceptNode(node, apply, isIdle))
        return () => {
          for (const each of restore) each()
        }
      },
    }
  })
}

/** The node is a custom operation whenever it is not idle: the executor looks each time that it runs. */
function interceptNode(node: GraphNode, apply: (x: Tensor) => Tensor, isIdle: () => boolean): () => void {
  const operation = `FourierFT.${operations++}`
  registerOp(operation, ({ inputs }) => apply(inputs[0]))
  const { op, category } = node
  const restore = [
    computed(node, 'op', () => (isIdle() ? op : operation)),
    computed(node, 'category', () => (isIdle() ? category : 'custom')),
  ]
  return () => {
    for (const each of restore) each()
    deregisterOp(operation)
  }
}

function computed<K extends 'op' | 'category'>(node: GraphNode, key: K, get: () => string): () => void {
  const before = Object.getOwnPropertyDescriptor(node, key) as PropertyDescriptor
  Object.defineProperty(node, key, { get, configurable: true, enumerable: true })
  return () => Object.defineProperty(node, key, before)
}
