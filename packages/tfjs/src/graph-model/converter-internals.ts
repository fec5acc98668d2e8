/**
 * What this package uses of tfjs-converter beyond its public types, in one place and checked when it is first needed: the executor of a
 * loaded model, the nodes of its graph, and the tensors of its weights.
 */
import { FourierFTError } from '@fourierft/core'
import { type GraphModel, version_converter } from '@tensorflow/tfjs-converter'
import type { Tensor } from '@tensorflow/tfjs-core'

/** A node as the executor runs it. `category` `custom` sends it to what `registerOp` knows under `op`. */
export interface GraphNode {
  readonly name: string
  op: string
  category: string
  /** `name` or `name:output` of what comes in, control dependencies left out. */
  readonly inputNames: readonly string[]
  readonly attrParams: Readonly<Record<string, { readonly value?: unknown } | undefined>>
}

export interface Executor {
  readonly graph: {
    readonly nodes: Readonly<Record<string, GraphNode>>
    readonly functions?: Readonly<Record<string, unknown>> | null
  }
  /** Setting it tells the executor which tensors are weights, and not to be freed. */
  weightMap: Readonly<Record<string, readonly Tensor[]>>
}

/** @throws {FourierFTError} `UNSUPPORTED` for a tfjs-converter whose models are made differently */
export function executorOf(model: GraphModel): Executor {
  const { executor } = model as unknown as { executor?: Partial<Executor> }
  const node = Object.values(executor?.graph?.nodes ?? {})[0]
  if (
    executor?.weightMap &&
    node &&
    Array.isArray(node.inputNames) &&
    typeof node.category === 'string' &&
    typeof node.attrParams === 'object'
  )
    return executor as Executor
  throw new FourierFTError(
    'UNSUPPORTED',
    `@tensorflow/tfjs-converter ${version_converter}: a GraphModel without an executor whose nodes this package knows; it was made for 4.22. ` +
      'A model has to be loaded before it is attached',
    { expected: 'executor', received: version_converter },
  )
}

/** The value of an attribute, as the executor has read it. */
export function attribute<T>(node: GraphNode, name: string, otherwise: T): T {
  const value = node.attrParams[name]?.value
  return value === undefined || value === null ? otherwise : (value as T)
}
