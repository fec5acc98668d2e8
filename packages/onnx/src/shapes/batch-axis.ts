/**
 * Finds the axis of a layer's input that has the rows of the batch. In a model's inputs the batch is the axis with a name like `batch`, else
 * the first axis; from there it is followed through the graph. If the position is not certain, it is `unknown`: a wrong adapter for a row is
 * worse than none. One assumption is made: an axis as long as the batch has its rows, in order.
 */

import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import type { OnnxModel } from '../model/model.js'
import { initializerOf } from '../model/names-in-scope.js'
import type { OnnxValue } from '../model/value.js'
import { type Assumptions, type Batch, type Dims, MAX_DIMS, Sizes } from './dims.js'
import { inferDims } from './infer-dims.js'
import { eitherValue, type KnownValue, knownConstant, MAX_INTEGERS, NOTHING } from './known-value.js'
import { Size } from './size.js'

/** `first`: each row is an equal run of the tokens. `none`: the input is the same for all rows. */
export type RowPosition = 'first' | 'none' | 'unknown' | InnerRows

/** The rows come after `axesBefore` axes of the layer's input and, along the next one, in `groups`: all rows occur once in each group. */
export interface InnerRows {
  readonly axesBefore: number
  readonly groups: Groups | undefined
}

export type Groups =
  /** Their number is the product of `factor` and of the sizes of inputs' axes. */
  | { readonly factor: number; readonly inputAxes: readonly InputAxis[] }
  /** The next axis has `numbersPerRow` numbers for each row of each group. */
  | { readonly numbersPerRow: number; readonly batch: InputAxis }

export interface InputAxis {
  readonly input: string
  readonly axis: number
}

/** The size of an axis: the sum of these products, each a factor times the sizes of inputs' axes. */
export type MeasuredSize = readonly { readonly factor: number; readonly inputAxes: readonly InputAxis[] }[]

const BATCH_NAME = /batch|^bs?$/i

/** @returns a function that gives the position of the rows in a layer's input, for the model as it is now */
export function findRows(
  model: OnnxModel,
): (layer: { readonly graph: OnnxGraph; readonly input: string }) => RowPosition {
  const analysis = new Analysis(model, { hasOneBatch: true })
  return ({ graph, input }) => analysis.positionOf(analysis.known(graph, input))
}

/** The batch axis of each input. An input that is missing here is the same for all rows. */
export function batchAxes(inputs: readonly OnnxValue[]): Map<string, number> {
  const axes = new Map<string, number>()
  const isBatchName = (dim: number | string | undefined) => isDimName(dim) && BATCH_NAME.test(dim)
  const isNamed = inputs.some(({ dims }) => dims?.some(isBatchName))
  const laterDims = new Set(inputs.flatMap(({ dims = [] }) => dims.slice(1)).filter(isDimName))
  for (const { name, dims } of inputs) {
    if (dims === undefined && !isNamed) axes.set(name, 0)
    if (!dims || dims.length === 0) continue
    if (isNamed) {
      const axis = dims.findIndex(isBatchName)
      if (axis >= 0) axes.set(name, axis)
      continue
    }
    // A vector of fixed length is a setting. A vector whose dim is a later axis of another input has an element for each token.
    const [first] = dims
    const hasRows = typeof first === 'number' ? dims.length > 1 : !(isDimName(first) && laterDims.has(first))
    if (hasRows) axes.set(name, 0)
  }
  return axes
}

function isDimName(dim: number | string | undefined): dim is string {
  return typeof dim === 'string' && dim !== ''
}

/** What is known of the values of a model. The model is analysed at the first question. */
export class Analysis {
  readonly #graph: OnnxGraph
  readonly #sizes: Sizes
  readonly #hasOneBatch: boolean
  readonly #known = new Map<OnnxGraph, Map<string, KnownValue>>()
  /** The key of a size → an input's axis of that size. */
  readonly #axes = new Map<string, InputAxis>()
  readonly #sizeByDimName = new Map<string, Size>()

  /** By default only sizes count as equal that are equal in every run. The search for the rows assumes more: see {@link Assumptions}. */
  constructor({ graph }: OnnxModel, { hasOneBatch }: Assumptions = { hasOneBatch: false }) {
    this.#graph = graph
    this.#hasOneBatch = hasOneBatch
    this.#sizes = new Sizes({ hasOneBatch })
  }

  #analyse(): void {
    const graph = this.#graph
    const inputs = graph.inputs.filter(({ name }) => !graph.initializers.has(name))
    const axes = batchAxes(inputs)
    const known = new Map<string, KnownValue>()
    const batches = new Map<string, Batch>()
    for (const { name, dims } of inputs) {
      if (!dims && axes.has(name)) known.set(name, { isBatchFirst: true })
      if (!dims || dims.length > MAX_DIMS) continue
      const knownDims = dims.map((dim, axis) => {
        const isBatch = axes.get(name) === axis
        const size = this.#inputSize(dim, { input: name, axis }, isBatch)
        if (!isBatch) return { size }
        const batch = batches.get(size.key) ?? { size, input: name, axis }
        batches.set(size.key, batch)
        this.#sizes.addBatch(batch)
        return { size, rows: { before: Size.of(1), batch } }
      })
      known.set(name, { dims: knownDims })
    }
    this.#known.set(graph, known)
    this.#follow(graph, known)
  }

  known(graph: OnnxGraph | undefined, name: string): KnownValue {
    if (!graph) return NOTHING
    if (this.#known.size === 0) this.#analyse()
    const known = this.#known.get(graph)?.get(name)
    if (known) return known
    const tensor = graph.initializers.get(name)
    return tensor ? knownConstant(tensor, this.#sizes) : this.known(graph.parent, name)
  }

  positionOf({ dims, isBatchFirst }: KnownValue): RowPosition {
    if (!dims) return isBatchFirst ? 'first' : 'unknown'
    const sizes = this.#sizes
    const before = dims.slice(0, -1)
    const axis = before.findIndex(({ rows }) => rows)
    const others = dims.filter((_, i) => i !== axis)
    if (others.some(({ size, rows }) => rows || sizes.containsBatch(size))) return 'unknown'
    const rows = dims[axis]?.rows
    if (!rows) return others.some(({ size }) => sizes.mayContainBatch(size)) ? 'unknown' : 'none'
    const earlier = dims.slice(0, axis).map(({ size }) => size)
    if (sizes.product([...earlier, rows.before]).value === 1) return 'first'
    if (earlier.some((size) => sizes.mayContainBatch(size))) return 'unknown'
    if (rows.before.value === 1) return { axesBefore: axis, groups: undefined }
    const groups = this.#groups(rows, dims[axis]?.size)
    return groups ? { axesBefore: axis, groups } : 'unknown'
  }

  /** The sizes of a value's axes, if they follow from those of the inputs. */
  measured(graph: OnnxGraph, name: string): readonly MeasuredSize[] | undefined {
    const sizes = this.known(graph, name).dims?.map(({ size }) => this.#measured(size))
    return sizes?.every((size) => size !== undefined) ? sizes : undefined
  }

  #measured(size: Size): MeasuredSize | undefined {
    const products = size.terms.map(({ coefficient, symbols }) => {
      const axes = symbols.map((id) => this.#axes.get(Size.unknown({ id, mayContainBatch: false }).key))
      return axes.every((axis) => axis !== undefined) ? { factor: coefficient, inputAxes: axes } : undefined
    })
    return products.every((product) => product !== undefined) ? products : undefined
  }

  #groups({ before, batch }: { before: Size; batch: Batch }, size: Size): Groups | undefined {
    const [groups, ...others] = this.#measured(before) ?? []
    if (groups && others.length === 0) return groups
    const numbersPerRow = size.dividedBy(this.#sizes.times(before, batch.size))?.value
    return numbersPerRow ? { numbersPerRow, batch: { input: batch.input, axis: batch.axis } } : undefined
  }

  /** Returns the size of an input's axis. Dims of one name have one size, and so do all batches without a name if there is one batch. */
  #inputSize(dim: number | string | undefined, axis: InputAxis, isBatch: boolean): Size {
    if (typeof dim === 'number') return Size.of(dim)
    const isUnnamed = isBatch && !(isDimName(dim) && BATCH_NAME.test(dim))
    const ownName = isDimName(dim) ? `text ${dim}` : `axis ${axis.axis} of ${axis.input}`
    const name = isUnnamed && this.#hasOneBatch ? 'batch' : ownName
    const size = this.#sizes.named(name, false)
    if (isDimName(dim)) this.#sizeByDimName.set(dim, size)
    if (!this.#axes.has(size.key)) this.#axes.set(size.key, axis)
    return size
  }

  #follow(graph: OnnxGraph, known: Map<string, KnownValue>): void {
    const described = new Map([...graph.valueInfos, ...graph.outputs].map((value) => [value.name, value]))
    for (const node of graph.nodes) {
      const results = this.#resultsOf(node)
      for (const [i, output] of node.outputs.entries()) {
        const result = results[i] ?? NOTHING
        known.set(
          output,
          result.dims ? result : { ...result, dims: this.#describedDims(described.get(output)) },
        )
      }
    }
  }

  /** Returns the dims that the file declares for a value. A dim with the name of an input's dim has its size. */
  #describedDims(value: OnnxValue | undefined): Dims | undefined {
    if ((value?.dims?.length ?? 0) > MAX_DIMS) return undefined
    return value?.dims?.map((dim) => {
      if (typeof dim === 'number') return this.#sizes.number(dim)
      return this.#sizes.dim(dim === undefined ? undefined : this.#sizeByDimName.get(dim))
    })
  }

  #resultsOf(node: OnnxNode): readonly KnownValue[] {
    for (const inner of node.subgraphs) {
      // Nothing is known about the inputs of a loop's body.
      const known = new Map(inner.inputs.map(({ name }) => [name, NOTHING]))
      this.#known.set(inner, known)
      this.#follow(inner, known)
    }
    const { graph, opType, subgraphs } = node
    if (opType === 'If') {
      const bodies = ['then_branch', 'else_branch'].map((name) =>
        subgraphs.find(({ path }) => path.endsWith(`.${name}`)),
      )
      const [a, b] = bodies.map((inner) => inner?.outputs.map(({ name }) => this.known(inner, name)))
      const condition = this.known(graph, node.inputs[0] ?? '').integers?.[0]?.value
      if (condition !== undefined) return (condition === 0 ? b : a) ?? []
      return a?.map((value, i) => eitherValue(value, b?.[i] ?? NOTHING, this.#sizes)) ?? []
    }
    if (opType === 'Constant') return [this.#constant(node)]
    const inputs = node.inputs.map((name) => (name === '' ? NOTHING : this.known(graph, name)))
    const constants = node.inputs.map((name) => initializerOf(graph, name))
    return inferDims({ node, inputs, constants, sizes: this.#sizes })
  }

  #constant(node: OnnxNode): KnownValue {
    const tensor = node.attribute('value')?.tensor
    if (tensor) return knownConstant(tensor, this.#sizes)
    const integer = node.attribute('value_int')?.int
    if (integer !== undefined) return { dims: [], integers: [Size.of(Number(integer))] }
    const list = node.attribute('value_ints')?.ints
    if (list) {
      const dims = [this.#sizes.number(list.length)]
      return list.length > MAX_INTEGERS
        ? { dims }
        : { dims, integers: Array.from(list, (value) => Size.of(Number(value))) }
    }
    return node.attribute('value_float') ? { dims: [] } : NOTHING
  }
}
