/**
 * The parts of tfjs-converter that this package uses and that are not in its public types. They are collected here, and checked when they
 * are first used: the executor of a loaded model, the nodes of its graph, and the tensors of its weights.
 */
import { FourierFTError } from '@fourierft/core'
import { type GraphModel, version_converter } from '@tensorflow/tfjs-converter'
import type { Tensor } from '@tensorflow/tfjs-core'

/** A node as the executor runs it. With the `category` `custom` it runs the operation that `registerOp` registered as `op`. */
export interface GraphNode {
  readonly name: string
  op: string
  category: string
  /** The inputs as `name` or `name:output`, without control dependencies. */
  readonly inputNames: readonly string[]
  readonly attrParams: Readonly<Record<string, { readonly value?: unknown } | undefined>>
}

export interface Executor {
  readonly graph: {
    readonly nodes: Readonly<Record<string, GraphNode>>
    readonly functions?: Readonly<Record<string, unknown>> | null
  }
  /** The setter tells the executor which tensors are weights that it must not free. */
  weightMap: Readonly<Record<string, readonly Tensor[]>>
}

/** @throws {FourierFTError} `UNSUPPORTED` if this version of tfjs-converter builds its models differently */
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
    `@tensorflow/tfjs-converter ${version_converter}: the GraphModel has no executor with the expected nodes`,
    {
      advice: 'load the model before you attach it, and install version 4.22, which this package supports',
      expected: 'executor',
      received: version_converter,
    },
  )
}

/** Returns the value of an attribute, as the executor has parsed it. */
export function attribute<T>(node: GraphNode, name: string, fallback: T): T {
  const value = node.attrParams[name]?.value
  return value === undefined || value === null ? fallback : (value as T)
}
