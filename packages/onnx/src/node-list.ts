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
  ): string => this.named(`${this.#prefix}${opType}_${this.nodes.length}`, opType, inputs, attributes)

  /** A node whose output has the name that is given. */
  readonly named = (
    output: string,
    opType: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, NewAttribute>> = {},
  ): string => {
    this.nodes.push({ opType, inputs, outputs: [output], attributes })
    return output
  }

  /** An int64 constant, by default a vector. */
  readonly constant = (values: readonly number[], dims: readonly number[] = [values.length]): string => {
    const data = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
    return this.add('Constant', [], { value: { tensor: { dims, dataType: DataType.int64, data } } })
  }

  /** The tensor in another shape: `sizes` are names of vectors that together make it. */
  readonly reshape = (tensor: string, sizes: readonly string[]): string =>
    this.add('Reshape', [tensor, this.add('Concat', sizes, { axis: { int: 0 } })])
}
