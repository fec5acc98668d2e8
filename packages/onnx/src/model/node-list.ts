/** Collects the nodes of a new graph or function, and gives each operator's output a unique name. */
import type { NewAttribute, NewNode } from './encode.js'
import { DataType } from './schema.js'

export class NodeList {
  readonly nodes: NewNode[] = []
  readonly #prefix: string

  /** @param prefix the start of all new names; lists whose nodes see each other's values need different prefixes */
  constructor(prefix = '') {
    this.#prefix = prefix
  }

  /** Adds a node with one output. Returns the output's name. */
  readonly add = (
    opType: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, NewAttribute>>,
  ): string => {
    const output = `${this.#prefix}${opType}_${this.nodes.length}`
    this.named([output], opType, inputs, attributes)
    return output
  }

  /** Adds a node whose outputs have these names. */
  readonly named = (
    outputs: readonly string[],
    opType: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, NewAttribute>> = {},
  ): void => {
    this.nodes.push({ opType, inputs, outputs, attributes })
  }

  /** Adds an int64 constant, by default a vector. */
  readonly constant = (values: readonly number[], dims: readonly number[] = [values.length]): string => {
    const data = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
    return this.add('Constant', [], { value: { tensor: { dims, dataType: DataType.int64, data } } })
  }

  /** Reshapes the tensor. The new shape is the concatenation of the vectors that `sizes` names. */
  readonly reshape = (tensor: string, sizes: readonly string[]): string =>
    this.add('Reshape', [tensor, this.add('Concat', sizes, { axis: { int: 0 } })])

  /** Computes the size of one axis of the tensor, as a vector. */
  readonly sizeOf = (tensor: string, axis: number): string =>
    this.add('Gather', [this.add('Shape', [tensor]), this.constant([axis])])
}
