/**
 * Collects the standard operators that replace one fused node, and knows the values that the node reads. Scores and their softmax are
 * computed in float32, also for float16 nodes, as ONNX Runtime's kernels for processors do.
 */
import { FourierFTError } from '@fourierft/core'
import { DOMAIN } from '../../attach/functions/branch-function.js'
import type { NewAttribute, NewNode } from '../../model/encode.js'
import type { OnnxNode } from '../../model/graph.js'
import { constantOf, producerOf } from '../../model/names-in-scope.js'
import { NodeList } from '../../model/node-list.js'
import { DataType } from '../../model/schema.js'
import type { Backward } from '../backward.js'
import { operatorName } from '../gradient-rules.js'
import { encodeScalar } from '../scalar.js'

/** The lowest finite float32. As an addend it removes a score: softmax gives exactly 0 for it. */
export const LOWEST = -(2 - 2 ** -23) * 2 ** 127

const BOOLEAN_OPERATORS: ReadonlySet<string> = new Set(
  'Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not IsNaN IsInf'.split(' '),
)

/** Writes the nodes that compute the outputs of a node. @throws {FourierFTError} `UNSUPPORTED` for a form that it does not cover */
export type Unfold = (unfolding: Unfolding) => void

/** Names, separated by spaces. */
interface KnownForm {
  readonly attributes: string
  readonly inputs: string
}

export interface UnfoldingContext {
  /** What is known of the values of the graph. */
  readonly values: Backward
  /** Masks and positions that earlier nodes computed, by what they depend on. Layers of one model share them. */
  readonly shared: Map<string, string>
}

export class Unfolding {
  readonly node: OnnxNode
  /** The element type of the node's float inputs. */
  readonly type: number
  readonly #values: Backward
  readonly #shared: Map<string, string>
  readonly #list: NodeList

  constructor(node: OnnxNode, { values, shared }: UnfoldingContext) {
    this.node = node
    this.#values = values
    this.#shared = shared
    this.type = values.typeOf(node.inputs[0] ?? '')
    const first = node.outputs.find((name) => name !== '') ?? node.name
    this.#list = new NodeList(`${first}.${DOMAIN}.unfolded.`)
  }

  get nodes(): readonly NewNode[] {
    return this.#list.nodes
  }

  /** The name of an input; `''` if it is missing. */
  input(index: number): string {
    return this.node.inputs[index] ?? ''
  }

  /** The name of an output; `''` if it is missing. */
  output(index: number): string {
    return this.node.outputs[index] ?? ''
  }

  integer(name: string, missing = 0): number {
    const value = this.node.attribute(name)?.int
    return value === undefined ? missing : Number(value)
  }

  /** An attribute that counts heads. @throws {FourierFTError} `UNSUPPORTED` if it is missing or not positive */
  headCount(name: string): number {
    const count = this.integer(name)
    if (count > 0) return count
    throw this.unsupported(`does not have a positive ${name}`)
  }

  float(name: string, missing = 0): number {
    return this.node.attribute(name)?.float ?? missing
  }

  /** The error for a form of the operator that is not covered. @param problem continues a sentence that begins with the node */
  unsupported(problem: string): FourierFTError {
    const { file } = this.node.graph
    const operator = operatorName(this.node)
    return new FourierFTError(
      'UNSUPPORTED',
      `${file}: node ${JSON.stringify(this.node.name)} (${operator}) ${problem}, and has no gradient rule for that`,
      {
        file,
        received: operator,
        advice: 'adapt layers after this node only, or export the model without this operator',
      },
    )
  }

  /**
   * Later versions of an operator may have more attributes and inputs, which change what it computes.
   *
   * @throws {FourierFTError} `UNSUPPORTED` if the node has one that is not known
   */
  checkForm({ attributes, inputs }: KnownForm): void {
    const known = attributes.split(' ')
    const unknown = [...this.node.attributes.keys()].find((name) => !known.includes(name))
    if (unknown !== undefined) throw this.unsupported(`has the attribute ${unknown}`)
    const names = inputs.split(' ')
    const index = this.node.inputs.findIndex((name, i) => i >= names.length && name !== '')
    if (index >= 0) throw this.unsupported(`has an input ${index}; ${names.length} inputs are known`)
  }

  // What is known of the node's inputs

  /** @throws {FourierFTError} `UNSUPPORTED` if the rank cannot be found */
  rankOf(value: string): number {
    return this.#values.rankOf(value, this.node)
  }

  /** The size of one axis of a value of the graph, if it is a number; negative axes count from the end. */
  sizeOf(value: string, axis: number): number | undefined {
    return this.#values.dimsOf(value)?.at(axis)?.size.value
  }

  /** A text that is equal for axes of equal size; undefined if nothing is known of the size. */
  sizeKey(value: string, axis: number): string | undefined {
    return this.#values.dimsOf(value)?.at(axis)?.size.key
  }

  /** Whether two axes are certainly as long as each other. */
  hasEqualSizes(a: string, b: string, axis: number): boolean {
    const key = this.sizeKey(a, axis)
    return key !== undefined && key === this.sizeKey(b, axis)
  }

  /** Whether a value of the graph is Boolean: by its description in the file, or by the operators that compute it. */
  isBoolean(value: string): boolean {
    const { graph } = this.node
    let name = value
    // The limit ends the search in a broken file in which a value is computed from itself.
    for (let step = 0; step < 64; step++) {
      const type = graph.valueInfo(name)?.dataType ?? constantOf(graph, name)?.dataType
      if (type !== undefined && type !== 0) return type === DataType.bool
      const producer = producerOf(graph, name)
      if (!producer || BOOLEAN_OPERATORS.has(producer.opType)) return producer !== undefined
      if (producer.opType === 'Cast') return Number(producer.attribute('to')?.int) === DataType.bool
      name = producer.inputs[producer.opType === 'Where' || producer.opType === 'CastLike' ? 1 : 0] ?? ''
    }
    return false
  }

  // New nodes

  readonly op = (
    opType: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, NewAttribute>>,
  ): string => this.#list.add(opType, inputs, attributes)

  readonly add = (a: string, b: string) => this.op('Add', [a, b])
  readonly subtract = (a: string, b: string) => this.op('Sub', [a, b])
  readonly multiply = (a: string, b: string) => this.op('Mul', [a, b])

  /** Gives a new value the name of an output of the node, in the type of the node. Nothing is written for an output that is missing. */
  result(index: number, value: string, isFloat32 = false): void {
    const name = this.output(index)
    if (name === '') return
    if (isFloat32 && this.type !== DataType.float)
      this.#list.named([name], 'Cast', [value], { to: { int: this.type } })
    else this.#list.named([name], 'Identity', [value])
  }

  /** An int64 constant, by default a vector. */
  integers(values: readonly number[], dims?: readonly number[]): string {
    if (!values.every(Number.isSafeInteger)) throw this.unsupported('has sizes that are not integers')
    return this.#list.constant(values, dims)
  }

  /** A constant number, by default of float32. */
  number(value: number, dataType: number = DataType.float): string {
    const tensor = { dims: [], dataType, data: encodeScalar(value, dataType) }
    return this.op('Constant', [], { value: { tensor } })
  }

  /** In `sizes` 0 keeps the axis of that index, and −1 stands for the rest. */
  reshape(value: string, sizes: readonly number[]): string {
    return this.op('Reshape', [value, this.integers(sizes)])
  }

  transpose(value: string, axes: readonly number[]): string {
    return this.op('Transpose', [value], { perm: { ints: axes } })
  }

  unsqueeze(value: string, axes: readonly number[]): string {
    return this.op('Unsqueeze', [value, this.integers(axes)])
  }

  concat(values: readonly string[], axis: number): string {
    return this.op('Concat', values, { axis: { int: axis } })
  }

  /** The parts `[start, end)` of an axis. */
  slice(value: string, start: string, end: string, axis: number): string {
    return this.op('Slice', [value, start, end, this.integers([axis])])
  }

  /** Cuts an axis into parts of these sizes. */
  split(value: string, sizes: readonly number[], axis: number): string[] {
    const id = this.integers(sizes)
    const outputs = sizes.map((_, i) => `${id}.${i}`)
    this.#list.named(outputs, 'Split', [value, id], { axis: { int: axis } })
    return outputs
  }

  cast(value: string, type: number): string {
    return this.op('Cast', [value], { to: { int: type } })
  }

  /** A float input of the node, or a value that was computed from some in their type, in float32. */
  float32(value: string): string {
    return this.type === DataType.float ? value : this.cast(value, DataType.float)
  }

  /** The size of an axis when the graph runs, as a scalar. */
  runtimeSize(value: string, axis: number): string {
    return this.op('Gather', [this.op('Shape', [value]), this.integers([axis], [])], { axis: { int: 0 } })
  }

  /** 0, 1, … below a scalar. */
  range(size: string): string {
    return this.op('Range', [this.integers([0], []), size, this.integers([1], [])])
  }

  /**
   * A value that nodes with the same key share; the first of them computes it.
   *
   * @param key what the value depends on. If a part is undefined, the value is not shared.
   */
  share(key: readonly (string | number | undefined)[], compute: () => string): string {
    if (key.includes(undefined)) return compute()
    const text = JSON.stringify(key)
    const known = this.#shared.get(text)
    if (known !== undefined) return known
    const value = compute()
    this.#shared.set(text, value)
    return value
  }
}
