/**
 * The implementation of `AttachableModel` for a `GraphModel`. While an adapter is active, the nodes that multiply by an adapted weight run
 * as custom operations; otherwise they run unchanged. Weights are variables while the model is attached, so that `mergeAdapter` can write
 * to them.
 */
import { FourierFTError, invalidState } from '@fourierft/core'
import { deregisterOp, type GraphModel, registerOp } from '@tensorflow/tfjs-converter'
import { dispose, keep, type Tensor, Variable } from '@tensorflow/tfjs-core'
import { LayerVariable } from '@tensorflow/tfjs-layers'
import type { AttachableModel, AttachableModule, AttachedState } from '../attach/attachable-model.js'
import { overrideProperty } from '../attach/override-property.js'
import type { LayerKind } from '../kinds/layer-kind.js'
import { variableOf } from '../layers-internals.js'
import { provideEinsumGradient } from '../ops/einsum-gradient.js'
import { type Executor, executorOf, type GraphNode } from './converter-internals.js'
import { graphNodeKind, PRODUCT_OPERATIONS, type Product } from './node-kinds.js'

/** Other names for modules than those of the graph: a record by module name, or a function of the module name. */
export type GraphModuleNames = Readonly<Record<string, string>> | ((module: string) => string | undefined)

/**
 * @throws {FourierFTError} `INVALID_STATE` if the model is already attached, `UNSUPPORTED` (another tfjs-converter), `INVALID_OPTION` if
 *   two modules have the same name
 */
export function attachableGraphModel(
  model: GraphModel,
  moduleNames: GraphModuleNames = {},
): AttachableModel<GraphModel> {
  const executor = executorOf(model)
  const before = executor.weightMap
  const products = productsOf(executor)
  const attached = products.find(({ weight }) => before[weight]?.[0] instanceof Variable)
  if (attached)
    throw new FourierFTError('INVALID_STATE', `module '${attached.module}' is already attached`, {
      advice: 'use the object that attachGraphModel() returned, or detach() it first',
      module: attached.module,
    })
  if (Object.values(executor.graph.nodes).some(({ op }) => op === 'Einsum')) provideEinsumGradient()
  const variables = new Map<string, LayerVariable>()
  const variable = (name: string) => {
    const [tensor] = before[name] as readonly [Tensor]
    const weight = variables.get(name) ?? new LayerVariable(tensor, 'float32', name, false)
    variables.set(name, weight)
    return weight
  }
  const kinds = products.map((product) => ({ product, kind: graphNodeKind(product, before, variable) }))
  return {
    model,
    modules: namedModules(kinds, executor, moduleNames),
    prepare: (state) => {
      const restoreExecuteAsync = rejectMixedOutputs(model, state)
      const weights = Array.from(
        variables,
        ([name, weight]): AttachedWeight => ({ name, current: variableOf(weight) }),
      )
      executor.weightMap = {
        ...before,
        ...Object.fromEntries(weights.map(({ name, current }) => [name, [current]])),
      }
      return () => {
        restoreExecuteAsync()
        restoreWeights(executor, before, weights)
      }
    },
  }
}

/** Makes `executeAsync`, which waits between nodes, throw if the active adapters change while it runs. */
function rejectMixedOutputs(model: GraphModel, { changes }: AttachedState): () => void {
  const { executeAsync } = model
  return overrideProperty(model, 'executeAsync', async (...args) => {
    const before = changes()
    const outputs = await executeAsync.apply(model, args)
    if (changes() === before) return outputs
    dispose(outputs)
    throw invalidState(
      'the active adapters changed while executeAsync() was running, so its output mixes several adapters',
      'call it again',
    )
  })
}

/** A weight of an attached model. */
interface AttachedWeight {
  readonly name: string
  readonly current: Variable
}

/** Puts the original weights back, except for merged weights, which replace the originals. */
function restoreWeights(
  executor: Executor,
  before: Executor['weightMap'],
  weights: readonly AttachedWeight[],
): void {
  const after = { ...before }
  for (const { name, current } of weights) {
    const [original] = before[name] as readonly [Tensor]
    const isMerged = !current.isDisposed && current.dataId !== original.dataId
    if (isMerged) after[name] = [keep(current.clone())]
    // If the user has disposed of the model, and so of the variable, dispose of the original as well.
    if (isMerged || current.isDisposed) original.dispose()
    if (!current.isDisposed) current.dispose()
  }
  executor.weightMap = after
}

/** Groups the nodes that multiply by a constant weight, by weight. */
function productsOf({ graph, weightMap }: Executor): Product[] {
  const byWeight = new Map<string, Product>()
  for (const node of Object.values(graph.nodes)) {
    if (!PRODUCT_OPERATIONS.has(node.op)) continue
    const [, weight, bias] = node.inputNames.map(withoutOutput)
    if (weight === undefined || !Object.hasOwn(weightMap, weight)) continue
    const earlier = byWeight.get(weight)
    byWeight.set(weight, {
      module: moduleNameOf(weight),
      weight,
      bias: earlier ? earlier.bias : bias,
      nodes: [...(earlier?.nodes ?? []), node],
    })
  }
  return [...byWeight.values()]
}

/** Removes the index of the output: `node:0` is `node`. */
function withoutOutput(name: string): string {
  return name.replace(/:\d+$/, '')
}

/**
 * Returns the module name of a weight: its name in the graph without the operations at the end (`/MatMul/ReadVariableOp`) and without the call of
 * the signature at the beginning (`StatefulPartitionedCall/`), with dots for slashes: `model/dense/MatMul/ReadVariableOp` is
 * `model.dense`.
 */
export function moduleNameOf(weight: string): string {
  const parts = weight.split('/')
  while (parts.length > 1 && /^(?:StatefulPartitionedCall|PartitionedCall)(?:_\d+)?$/.test(parts[0]))
    parts.shift()
  const operation =
    /^(?:ReadVariableOp|MatMul|BatchMatMul(?:V2)?|Tensordot|Conv[12]D|convolution|Einsum|ExpandDims|Reshape|Cast|Const|kernel|weights?|read|dim)(?:_\d+)?$/
  while (parts.length > 1 && operation.test(parts.at(-1) as string)) parts.pop()
  return parts.join('.')
}

/** Numbers the custom operations, because their names are global. */
let operationCount = 0

function namedModules(
  kinds: readonly { readonly product: Product; readonly kind: LayerKind | undefined }[],
  executor: Executor,
  moduleNames: GraphModuleNames,
): AttachableModule[] {
  const names = new Set<string>()
  return kinds.map(({ product, kind }): AttachableModule => {
    const { module, nodes } = product
    const otherName =
      typeof moduleNames === 'function'
        ? moduleNames(module)
        : Object.hasOwn(moduleNames, module)
          ? moduleNames[module]
          : undefined
    const name = otherName ?? module
    if (names.has(name))
      throw new FourierFTError(
        'INVALID_OPTION',
        `moduleNames: two weights of the graph have the name '${name}'`,
        { advice: 'give each weight its own name', option: 'moduleNames', module: name },
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
          for (const undo of restore) undo()
        }
      },
    }
  })
}

/** Makes the node a custom operation unless it is idle: the executor reads `op` and `category` each time it runs. */
function interceptNode(node: GraphNode, apply: (x: Tensor) => Tensor, isIdle: () => boolean): () => void {
  const operation = `FourierFT.${operationCount++}`
  registerOp(operation, ({ inputs }) => apply(inputs[0]))
  const { op, category } = node
  const restore = [
    defineGetter(node, 'op', () => (isIdle() ? op : operation)),
    defineGetter(node, 'category', () => (isIdle() ? category : 'custom')),
  ]
  return () => {
    for (const undo of restore) undo()
    deregisterOp(operation)
  }
}

function defineGetter<K extends 'op' | 'category'>(node: GraphNode, key: K, get: () => string): () => void {
  const before = Object.getOwnPropertyDescriptor(node, key) as PropertyDescriptor
  Object.defineProperty(node, key, { get, configurable: true, enumerable: true })
  return () => Object.defineProperty(node, key, before)
}
