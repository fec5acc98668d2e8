/** Nodes of a body that is being written: each operator's output gets a name of its own. */
import type { NewAttribute, NewNode } from './encode.js'
import { DataType } from './schema.js'

export class NodeList {
  readonly nodes: NewNode[] = []
  readonly #prefix: string

  /** @param prefix of all names that are made; lists whose nodes see one another need different ones */
  constructor(prefix = '') {
    this.#prefix = prefix
  }

  /** A node with one output. Returns the output's name. */
  readonly add = (
    opType: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, NewAttribute>>,
  ): string => {
    const output = `${this.#prefix}${opType}_${this.nodes.length}`
    this.named([output], opType, inputs, attributes)
    return output
  }

  /** A node whose outputs have the names that are given. */
  readonly named = (
    outputs: readonly string[],
    opType: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, NewAttribute>> = {},
  ): void => {
    this.nodes.push({ opType, inputs, outputs, attributes })
  }

  /** An int64 constant, by default a vector. */
  readonly constant = (values: readonly number[], dims: readonly number[] = [values.length]): string => {
    const data = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
    return this.add('Constant', [], { value: { tensor: { dims, dataType: DataType.int64, data } } })
  }

  /** The tensor in another shape: `sizes` are names of vectors that together make it. */
  readonly reshape = (tensor: string, sizes: readonly string[]): string =>
    this.add('Reshape', [tensor, this.add('Concat', sizes, { axis: { int: 0 } })])

  /** The size of one axis of the tensor, as a vector. */
  readonly sizeOf = (tensor: string, axis: number): string =>
    this.add('Gather', [this.add('Shape', [tensor]), this.constant([axis])])
}
