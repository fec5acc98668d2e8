/**
 * The backward half of a training graph while it is built: new nodes, and what is known of the forward values. The rules of all operators
 * write with it, so that broadcasting is undone, types are followed and shapes are asked for in one place.
 */
import { FourierFTError } from '@fourierft/core'
import { DOMAIN } from '../attach/functions/branch-function.js'
import type { NewAttribute, NewNode } from '../model/encode.js'
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import { constantOf, producerOf } from '../model/names-in-scope.js'
import { DataType } from '../model/schema.js'
import type { OnnxTensor } from '../model/tensor.js'
import type { Analysis } from '../shapes/batch-axis.js'
import type { Dims } from '../shapes/dims.js'
import { encodeScalar, isFloatType, isHalfType } from './scalar.js'

type Attributes = Readonly<Record<string, NewAttribute>>

/** The prefix of all names of the backward graph. */
const PREFIX = `${DOMAIN}.gradient.`

export interface BackwardOptions {
  /** Of the forward graph. */
  readonly analysis: Analysis
  /** The model's version of the standard operators, at least 16. */
  readonly opset: number
  /** One of the values whose gradients are wanted. */
  readonly target: string
}

export class Backward {
  readonly graph: OnnxGraph
  /** The new nodes, in an order of execution. */
  readonly nodes: NewNode[] = []
  readonly #analysis: Analysis
  readonly #types = new Map<string, number>()
  readonly #cached = new Map<string, string>()
  /** The new nodes by output. */
  readonly #producers = new Map<string, NewNode>()
  /** The number of nodes that have names. */
  #named = 0

  readonly #opset: number
  readonly #target: string

  constructor(graph: OnnxGraph, { analysis, opset, target }: BackwardOptions) {
    this.graph = graph
    this.#analysis = analysis
    this.#opset = opset
    this.#target = target
  }

  /** Adds a node with one output. Returns the output's name. */
  readonly op = (opType: string, inputs: readonly string[], attributes: Attributes = {}): string => {
    const [output] = this.ops(opType, inputs, 1, attributes) as [string]
    return output
  }

  /** Adds a node with several outputs. Returns their names. */
  ops(
    opType: string,
    inputs: readonly string[],
    count: number,
    attributes: Attributes = {},
    domain = '',
  ): string[] {
    // A small file may have a node whose gradient has very many nodes.
    this.graph.budget?.check('node', this.nodes.length + 1, this.graph)
    const outputs = this.newNames(opType, count)
    const node = {
      name: outputs[0],
      opType,
      inputs,
      outputs,
      attributes,
      ...(domain !== '' && { domain }),
    }
    this.nodes.push(node)
    for (const output of outputs) this.#producers.set(output, node)
    return outputs
  }

  /** Names for the outputs of a node that is added later. */
  newNames(opType: string, count: number): string[] {
    const id = `${PREFIX}${opType}_${this.#named++}`
    return Array.from({ length: count }, (_, i) => (i === 0 ? id : `${id}.${i}`))
  }

  /** Adds a node once: later calls with the same arguments give the same value. */
  once(opType: string, inputs: readonly string[], attributes: Attributes = {}): string {
    const key = JSON.stringify([opType, inputs, attributes], (_, value) =>
      value instanceof Uint8Array ? Array.from(value) : value,
    )
    const known = this.#cached.get(key)
    if (known !== undefined) return known
    const output = this.op(opType, inputs, attributes)
    this.#cached.set(key, output)
    return output
  }

  /** An int64 vector, or a scalar if `dims` is empty. */
  integers(values: readonly number[], dims: readonly number[] = [values.length]): string {
    const data = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
    return this.once('Constant', [], { value: { tensor: { dims, dataType: DataType.int64, data } } })
  }

  /** A constant number of the element type of a forward value. */
  number(value: number, like: string): string {
    const dataType = this.typeOf(like)
    const data = encodeScalar(value, dataType)
    return this.once('Constant', [], { value: { tensor: { dims: [], dataType, data } } })
  }

  readonly add = (a: string, b: string) => this.op('Add', [a, b])
  readonly subtract = (a: string, b: string) => this.op('Sub', [a, b])
  readonly multiply = (a: string, b: string) => this.op('Mul', [a, b])
  readonly divide = (a: string, b: string) => this.op('Div', [a, b])

  /** The number times the value; `like` has the value's type. */
  scale(value: string, factor: number, like: string): string {
    return factor === 1 ? value : this.multiply(value, this.number(factor, like))
  }

  /** The value where the condition holds, 0 elsewhere. */
  where(condition: string, value: string, like: string): string {
    return this.op('Where', [condition, value, this.number(0, like)])
  }

  /** The value divided by a norm, and 0 where the norm is 0, as for norms in PyTorch; `like` has the type of both. */
  divideByNorm(value: string, norm: string, like: string): string {
    const zero = this.number(0, like)
    return this.op('Where', [this.op('Equal', [norm, zero]), zero, this.divide(value, norm)])
  }

  /**
   * The integer 1 as a vector, computed from the shape of a target when the graph runs. Multiplied into a computation of constants, it keeps
   * runtimes from storing the result, which would be a second copy of a weight.
   */
  runtimeOne(): string {
    return this.once('Min', [
      this.once('Reshape', [this.once('Size', [this.#target]), this.integers([1])]),
      this.integers([1]),
    ])
  }

  shapeOf(value: string): string {
    return this.once('Shape', [value])
  }

  /** The size of one axis, as a vector of one integer. */
  sizeOf(value: string, axis: number): string {
    return this.once('Gather', [this.shapeOf(value), this.integers([axis])], { axis: { int: 0 } })
  }

  zerosLike(value: string): string {
    const dataType = this.typeOf(value)
    const tensor = { dims: [1], dataType, data: encodeScalar(0, dataType) }
    return this.op('ConstantOfShape', [this.shapeOf(value)], { value: { tensor } })
  }

  /** Gives a gradient the shape of a forward value with as many numbers. */
  reshapeLike(gradient: string, value: string): string {
    return this.op('Reshape', [gradient, this.shapeOf(value)])
  }

  concat(vectors: readonly string[]): string {
    return vectors.length === 1 ? vectors[0] : this.op('Concat', vectors, { axis: { int: 0 } })
  }

  sum(value: string, axes: readonly number[], keepsAxes: boolean): string {
    const keepdims = { int: keepsAxes ? 1 : 0 }
    return this.inFloat32(value, (wide) => this.op('ReduceSum', [wide, this.integers(axes)], { keepdims }))
  }

  /** Computes with a float16 or bfloat16 value in float32, and rounds the result: sums of many numbers lose precision or become infinite. */
  inFloat32(value: string, compute: (wide: string) => string): string {
    return this.roundedLike(compute(this.widened(value)), value)
  }

  /** A float16 or bfloat16 value in float32; other values as they are. */
  widened(value: string): string {
    if (!isHalfType(this.typeOf(value))) return value
    return this.once('Cast', [value], { to: { int: DataType.float } })
  }

  /** A value that was computed from a widened one, in the type that `like` has. */
  roundedLike(value: string, like: string): string {
    const type = this.typeOf(like)
    return isHalfType(type) ? this.op('Cast', [value], { to: { int: type } }) : value
  }

  /** The mean over some axes, which keep size 1. */
  mean(value: string, axes: readonly number[]): string {
    return this.inFloat32(value, (wide) =>
      this.#opset < 18
        ? this.op('ReduceMean', [wide], { axes: { ints: axes } })
        : this.op('ReduceMean', [wide, this.integers(axes)]),
    )
  }

  transpose(value: string, axes: readonly number[]): string {
    return axes.every((axis, i) => axis === i)
      ? value
      : this.op('Transpose', [value], { perm: { ints: axes } })
  }

  /** Exchanges the last two axes. @param rank at least 2 */
  transposeMatrix(value: string, rank: number): string {
    const axes = Array.from({ length: rank }, (_, i) => i)
    return this.transpose(value, [...axes.slice(0, -2), rank - 1, rank - 2])
  }

  /** What is known of the dims of a forward value. */
  dimsOf(value: string): Dims | undefined {
    return this.#analysis.known(this.graph, value).dims
  }

  /** @throws {FourierFTError} `UNSUPPORTED` if the rank of a forward value cannot be found */
  rankOf(value: string, node: OnnxNode): number {
    const rank = this.dimsOf(value)?.length
    if (rank !== undefined) return rank
    throw new FourierFTError(
      'UNSUPPORTED',
      `${this.graph.file}: the gradient of node ${JSON.stringify(node.name)} (${node.opType}) needs the number of axes of ${JSON.stringify(value)}, which the file does not show`,
      {
        file: this.graph.file,
        tensor: value,
        received: node.opType,
        advice: 'export the model with shape inference (onnx.shape_inference.infer_shapes)',
      },
    )
  }

  /** The sizes of all axes of a forward value, if they are numbers. */
  fixedDims(value: string): readonly number[] | undefined {
    const sizes = this.dimsOf(value)?.map(({ size }) => size.value)
    return sizes?.every((size) => size !== undefined) ? sizes : undefined
  }

  /** The tensor of a forward value that is a constant. */
  constantOf(value: string): OnnxTensor | undefined {
    return constantOf(this.graph, value)
  }

  /** The numbers of a constant vector of integers, or of one integer. */
  constantIntegers(value: string | undefined): readonly number[] | undefined {
    if (value === undefined || value === '') return undefined
    const sizes = this.#analysis.known(this.graph, value).integers?.map((size) => size.value)
    return sizes?.every((size) => size !== undefined) ? sizes : undefined
  }

  /** The length of a vector; undefined if it is unknown. */
  lengthOf(value: string): number | undefined {
    return this.dimsOf(value)?.[0]?.size.value
  }

  /** The element type of a value; float32 if nothing shows it. */
  typeOf(value: string): number {
    // The values on the way have a list of their own, because a chain of nodes may be longer than calls can be nested.
    const pending = [value]
    // Ends the search in a file whose values depend on themselves.
    const seen = new Set<string>()
    for (let name = pending.at(-1); name !== undefined; name = pending.at(-1)) {
      const type = this.#types.get(name) ?? this.#typeFrom(name, seen, pending)
      if (type === undefined) continue
      this.#types.set(name, type)
      pending.pop()
    }
    return this.#types.get(value) as number
  }

  /** Declares the element type of a new value that rules read as if it were a forward value. */
  setType(value: string, type: number): void {
    this.#types.set(value, type)
  }

  /** The type of a value; undefined if the types of other values have to be found before, which are then `pending`. */
  #typeFrom(value: string, seen: Set<string>, pending: string[]): number | undefined {
    const added = this.#producers.get(value)
    const known = added ? typeInAttributes(added) : this.#describedType(value)
    if (known !== undefined) return known
    const node = added ?? producerOf(this.graph, value)
    if (!node) return DataType.float
    const isLikeSecond = node.opType === 'DequantizeLinear' || node.opType === 'CastLike'
    const sources = isLikeSecond ? node.inputs.slice(1, 2) : node.inputs.filter((name) => name !== '')
    seen.add(value)
    const unknown = sources.filter((name) => !this.#types.has(name) && !seen.has(name))
    for (const name of unknown) pending.push(name)
    if (unknown.length > 0) return undefined
    const types = sources.map((name) => this.#types.get(name) ?? DataType.float)
    return (isLikeSecond ? types[0] : types.find(isFloatType)) ?? DataType.float
  }

  /** The type that the file gives for a value. */
  #describedType(value: string): number | undefined {
    const described = this.graph.valueInfo(value)?.dataType ?? constantOf(this.graph, value)?.dataType
    if (described !== undefined && described !== 0) return described
    const node = producerOf(this.graph, value)
    return node?.opType === 'Cast' ? Number(node.attribute('to')?.int ?? DataType.float) : undefined
  }

  /**
   * Sums a gradient over the axes along which `value` was broadcast.
   *
   * @param result the forward value whose shape the gradient has
   * @param value the forward value that was broadcast to it
   */
  undoBroadcast(gradient: string, result: string, value: string): string {
    const [from, to] = [this.dimsOf(result), this.dimsOf(value)]
    if (!from || !to || to.length > from.length) return this.sumToShape(gradient, value)
    const added = from.length - to.length
    const axes = Array.from({ length: added }, (_, i) => i)
    let isCertain = true
    for (const [i, { size }] of to.entries()) {
      const full = from[added + i].size
      if (size.equals(full)) continue
      if (size.value === 1) axes.push(added + i)
      // The sizes have other names. At run time they are equal, or one is 1.
      else if (size.value === undefined) isCertain = false
    }
    if (!isCertain) return this.sumToShape(gradient, value)
    if (axes.length === 0) return gradient
    const summed = this.sum(gradient, axes, true)
    return added === 0 ? summed : this.reshapeLike(summed, value)
  }

  /** The same, with axes that are found when the graph runs: those at which the value, with 1s before its axes, has size 1. */
  sumToShape(gradient: string, value: string): string {
    const shape = this.shapeOf(value)
    const added = this.op('Sub', [
      this.op('Shape', [this.op('Shape', [gradient])]),
      this.op('Shape', [shape]),
    ])
    const ones = this.op('Expand', [this.integers([1]), added])
    const isSummed = this.op('Equal', [
      this.op('Concat', [ones, shape], { axis: { int: 0 } }),
      this.integers([1]),
    ])
    const axes = this.op('Reshape', [this.op('NonZero', [isSummed]), this.integers([-1])])
    const attributes = { keepdims: { int: 1 }, noop_with_empty_axes: { int: 1 } }
    const summed = this.inFloat32(gradient, (wide) => this.op('ReduceSum', [wide, axes], attributes))
    return this.reshapeLike(summed, value)
  }
}

/** The type of the output of a new `Cast` or constant. */
function typeInAttributes({ attributes: { to, value } = {} }: NewNode): number | undefined {
  if (to && 'int' in to) return Number(to.int)
  return value && 'tensor' in value ? value.tensor.dataType : undefined
}
