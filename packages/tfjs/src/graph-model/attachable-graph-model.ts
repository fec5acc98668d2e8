/**
 * A `GraphModel` as a host of adapters. While an adapter is active, the nodes that multiply by an adapted weight run as custom operations;
 * otherwise they are what they were. Weights are variables while the model is attached, so that merging writes to them.
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

/** Names of modules that differ from what the graph tells: a record by module name, or a function of it. */
export type GraphModuleNames = Readonly<Record<string, string>> | ((module: string) => string | undefined)

/** @throws {FourierFTError} `UNSUPPORTED` (another tfjs-converter), `INVALID_OPTION` where two modules have one name */
export function attachableGraphModel(
  model: GraphModel,
  moduleNames: GraphModuleNames = {},
): AttachableModel<GraphModel> {
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
  const kinds = products.map((product) => ({ product, kind: graphNodeKind(product, before, variable) }))
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
  return overrideProperty(model, 'executeAsync', async (...args) => {
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
    if (!PRODUCT_OPERATIONS.has(node.op)) continue
    const [, weight, bias] = node.inputNames.map(withoutOutput)
    if (weight === undefined || !Object.hasOwn(weightMap, weight)) continue
    const known = byWeight.get(weight)
    byWeight.set(weight, {
      module: moduleNameOf(weight),
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
export function moduleNameOf(weight: string): string {
  const parts = weight.split('/')
  while (parts.length > 1 && /^(?:StatefulPartitionedCall|PartitionedCall)(?:_\d+)?$/.test(parts[0]))
    parts.shift()
  const operation =
    /^(?:ReadVariableOp|MatMul|BatchMatMul(?:V2)?|Tensordot|Conv[12]D|convolution|Einsum|ExpandDims|Reshape|Cast|Const|kernel|weights?|read|dim)(?:_\d+)?$/
  while (parts.length > 1 && operation.test(parts.at(-1) as string)) parts.pop()
  return parts.join('.')
}

let operations = 0

function namedModules(
  kinds: readonly { readonly product: Product; readonly kind: LayerKind | undefined }[],
  executor: Executor,
  moduleNames: GraphModuleNames,
): AttachableModule[] {
  const names = new Set<string>()
  return kinds.map(({ product, kind }): AttachableModule => {
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
