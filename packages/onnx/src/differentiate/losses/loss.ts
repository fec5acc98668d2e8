/** What a loss is: nodes at the end of a graph, the labels that they read, and the gradients with which differentiation starts. */
import { FourierFTError } from '@fourierft/core'
import { DOMAIN } from '../../attach/functions/branch-function.js'
import type { NewNode } from '../../model/encode.js'
import type { OnnxNode } from '../../model/graph.js'
import { NodeList } from '../../model/node-list.js'
import { DataType } from '../../model/schema.js'
import type { Backward } from '../backward.js'

/** The values that a loss adds to a graph. Sums of several batches, divided by the sum of their counts, are the loss of all of them. */
export interface BuiltLoss {
  readonly nodes: readonly NewNode[]
  /** float32 scalar: the sum of the losses of all labels. */
  readonly sum: string
  /** float32 scalar: the number of labels that count, or the sum of their weights. */
  readonly count: string
  /** A value of the graph → the value with the gradient of `sum`, of the same shape and type: the result of `list.seed`. */
  readonly seeds: ReadonlyMap<string, string>
}

export interface LossContext {
  readonly list: LossNodes
  /** What is known of the model's values. */
  readonly forward: Backward
}

export interface Loss {
  /** The output of the model that the loss reads. */
  readonly output: string
  /** Inputs of the model that the loss reads. */
  readonly inputs?: readonly string[]
  /** The element type of the labels, and by how many axes they have fewer than the output; undefined for a loss without labels. */
  readonly labels: { readonly dataType: number; readonly missingAxes: number } | undefined
  /**
   * Checks labels before they reach the graph, which would take some of them for others.
   *
   * @param size of the output's last axis; undefined if the file does not fix it
   * @returns what is wrong; undefined if nothing is
   */
  problemOf?(labels: ArrayLike<number | bigint>, size: number | undefined): string | undefined
  build(context: LossContext): BuiltLoss
}

/** Rejects options that a loss does not have. @throws {FourierFTError} `INVALID_OPTION` */
export function checkOptionNames(loss: string, options: object, names: readonly string[]): void {
  const unknown = Object.keys(options).find((name) => !names.includes(name))
  if (unknown !== undefined)
    throw invalidOption(loss, unknown, `only the options ${names.join(', ')}`, unknown)
}

export function invalidOption(
  loss: string,
  option: string,
  expected: string,
  received: unknown,
): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    `${loss}, ${option}: expected ${expected}; received ${JSON.stringify(received)}`,
    { option, expected, received },
  )
}

/** The input with the labels. */
export const LABELS = `${DOMAIN}.labels`

/** The input with the factor of all gradients, in graphs that compute gradients in float16. */
export const LOSS_SCALE = `${DOMAIN}.loss scale`

/** The name of the node that fails if the labels are not as many as the output has. Errors of runtimes contain it. */
export const LABELS_CHECK = `${DOMAIN}.check of labels`
/** The name of the node that fails for an odd number of rows, if a loss reads pairs. */
export const PAIRS_CHECK = `${DOMAIN}.check of pairs`

/** What the nodes of a loss depend on. */
export interface LossOutput {
  /** The element type of the output that the loss reads. */
  readonly dataType: number
  /** Whether gradients are multiplied by the loss scale. */
  readonly isScaled: boolean
  /** The model's version of the standard operators. */
  readonly opset: number
}

/** Nodes that compute a loss in float32. */
export class LossNodes extends NodeList {
  readonly #output: LossOutput

  constructor(output: LossOutput) {
    super(`${DOMAIN}.loss.`)
    this.#output = output
  }

  /** The output's numbers in float32. */
  readonly floats = (output: string): string =>
    this.#output.dataType === DataType.float ? output : this.cast(output, DataType.float)

  /** The gradient, in float32, in the element type of the output. It is multiplied by the loss scale if float16 could not hold it. */
  readonly seed = (gradient: string): string => {
    const { dataType, isScaled } = this.#output
    const scaled = isScaled ? this.multiply(gradient, LOSS_SCALE) : gradient
    return dataType === DataType.float ? scaled : this.cast(scaled, dataType)
  }

  readonly float = (values: number | readonly number[]): string => {
    const isScalar = typeof values === 'number'
    const numbers = Float32Array.from(isScalar ? [values] : values)
    const data = new Uint8Array(numbers.buffer)
    const dims = isScalar ? [] : [numbers.length]
    return this.add('Constant', [], { value: { tensor: { dims, dataType: DataType.float, data } } })
  }

  readonly cast = (value: string, to: number): string => this.add('Cast', [value], { to: { int: to } })

  /** The sum of all numbers. */
  readonly total = (value: string): string => this.add('ReduceSum', [value], { keepdims: { int: 0 } })

  /** The sum over one axis, which keeps size 1. */
  readonly sumOver = (value: string, axis: number): string =>
    this.add('ReduceSum', [value, this.constant([axis])], { keepdims: { int: 1 } })

  /** Copies a node of one output whose attributes are integers. Returns the copy's output. */
  readonly copy = ({ opType, domain, attributes }: OnnxNode, inputs: readonly string[]): string => {
    const output = this.add(opType, inputs)
    const integers = Array.from(attributes.values(), ({ name, int = 0n }) => [name, { int }] as const)
    this.nodes[this.nodes.length - 1] = {
      opType,
      domain,
      inputs,
      outputs: [output],
      attributes: Object.fromEntries(integers),
    }
    return output
  }

  /** The largest number along one axis, which keeps size 1. */
  readonly largestOver = (value: string, axis: number): string =>
    this.#output.opset < 18
      ? this.add('ReduceMax', [value], { axes: { ints: [axis] } })
      : this.add('ReduceMax', [value, this.constant([axis])])

  /** Reshapes a value in a node with that name. It fails if the number of elements differs. */
  readonly checked = (name: string, value: string, shape: string): string => {
    const output = `${name}.output`
    this.nodes.push({ name, opType: 'Reshape', inputs: [value, shape], outputs: [output] })
    return output
  }

  readonly multiply = (a: string, b: string): string => this.add('Mul', [a, b])
  readonly plus = (a: string, b: string): string => this.add('Add', [a, b])
  readonly minus = (a: string, b: string): string => this.add('Sub', [a, b])

  /** The number of numbers, as float32. */
  readonly countOf = (value: string): string => this.cast(this.add('Size', [value]), DataType.float)
}
