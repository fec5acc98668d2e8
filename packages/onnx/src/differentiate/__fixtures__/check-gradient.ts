/** Compares the gradients of a small graph with central differences of the graph itself, in float64 wherever ONNX Runtime has kernels for it. */
import { Tensor } from 'onnxruntime-node'
import { expect } from 'vitest'
import { createSession } from '../../__fixtures__/onnx-runtime.js'
import { createModel } from '../../model/create-model.js'
import type { NewAttribute, NewNode, NewTensor } from '../../model/encode.js'
import { readModel } from '../../model/model.js'
import { DataType } from '../../model/schema.js'
import { differentiate } from '../differentiate.js'

export interface GradientCase {
  readonly nodes: readonly NewNode[]
  /** The inputs with gradients. */
  readonly inputs: Readonly<Record<string, Numbers>>
  /** The dims of the inputs as the file declares them; default: as they are. */
  readonly declared?: Readonly<Record<string, readonly (number | string)[]>>
  readonly initializers?: readonly (NewTensor & { readonly name: string })[]
  /** The values that the loss reads; default: `y`. */
  readonly outputs?: readonly string[]
  readonly opset?: number
  /** float32, for operators without a kernel for float64. */
  readonly isFloat?: boolean
  readonly domains?: readonly string[]
}

export interface Numbers {
  readonly dims: readonly number[]
  readonly data: readonly number[]
}

/** One node that writes `y`. */
export function one(
  opType: string,
  inputs: readonly string[],
  attributes: Readonly<Record<string, NewAttribute>> = {},
  domain = '',
): NewNode {
  return { name: `the ${opType}`, opType, inputs, outputs: ['y'], attributes, ...(domain && { domain }) }
}

/** Numbers in [low, high] that are the same in every run. */
export function numbers(dims: readonly number[], seed: number, low = -2, high = 2): Numbers {
  let state = (seed * 2654435761) >>> 0 || 1
  const next = () => {
    state ^= state << 13
    state >>>= 0
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state / 2 ** 32
  }
  for (let i = 0; i < 8; i++) next()
  const size = dims.reduce((product, dim) => product * dim, 1)
  return { dims, data: Array.from({ length: size }, () => low + (high - low) * next()) }
}

export function integers(name: string, values: readonly number[], dims: readonly number[] = [values.length]) {
  const data = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
  return { name, dims, dataType: DataType.int64, data }
}

export function floats(name: string, { dims, data }: Numbers, isFloat = false) {
  const array = isFloat ? Float32Array.from(data) : Float64Array.from(data)
  return { name, dims, dataType: isFloat ? DataType.float : DataType.double, data: new Uint8Array(array.buffer) }
}

/** @returns the largest error, relative to the largest gradient */
export async function gradientError(testCase: GradientCase): Promise<number> {
  const { nodes, inputs, declared = {}, initializers = [], outputs = ['y'], opset = 18 } = testCase
  const isFloat = testCase.isFloat ?? false
  const dataType = isFloat ? DataType.float : DataType.double
  const graph = {
    name: 'main',
    nodes,
    inputs: Object.entries(inputs).map(([name, { dims }]) => ({ name, dataType, dims: declared[name] ?? dims })),
    outputs: outputs.map((name) => ({ name })),
    initializers,
  }
  const create = () => {
    const model = createModel(graph, { opset })
    for (const domain of testCase.domains ?? []) model.addOpsetImport(domain, 1)
    return model
  }
  const tensor = ({ dims, data }: Numbers) =>
    isFloat ? new Tensor('float32', Float32Array.from(data), dims) : new Tensor('float64', Float64Array.from(data), dims)
  const feeds = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, tensor(value)]))
  const forward = await createSession(create().toBytes())
  const results = await forward.run(feeds)
  const seeds = new Map(outputs.map((name, i) => [name, numbers(results[name].dims, 77 + i)]))

  const model = create()
  const targets = Object.keys(inputs)
  for (const name of outputs)
    model.graph.addInput({ name: `seed.${name}`, dataType, dims: results[name].dims.map((_, i) => `${name}${i}`) })
  const { gradients } = differentiate(model, { seeds: new Map(outputs.map((name) => [name, `seed.${name}`])), targets })
  for (const gradient of new Set(gradients.values())) model.graph.addOutput({ name: gradient })
  const seedFeeds = Object.fromEntries([...seeds].map(([name, seed]) => [`seed.${name}`, tensor(seed)]))
  const bytes = model.toBytes()
  readModel(bytes)
  const backward = await createSession(bytes)
  const computed = await backward.run({ ...feeds, ...seedFeeds })

  const loss = async (name: string, index: number, step: number) => {
    const value = inputs[name]
    const moved = value.data.map((number, i) => (i === index ? number + step : number))
    const at = await forward.run({ ...feeds, [name]: tensor({ dims: value.dims, data: moved }) })
    return [...seeds].reduce(
      (sum, [output, { data }]) =>
        sum + data.reduce((part, weight, i) => part + weight * Number(at[output].data[i]), 0),
      0,
    )
  }
  let [worst, largest] = [0, 0]
  for (const [name, { dims, data }] of Object.entries(inputs)) {
    const gradient = computed[gradients.get(name) as string]
    expect(gradient.dims).toEqual(dims)
    for (const [i, value] of data.entries()) {
      const h = (isFloat ? 1e-2 : 1e-4) * Math.max(1, Math.abs(value))
      // The fourth-order difference; its error is below h⁴ times the fifth derivative.
      const [a, b, c, d] = [await loss(name, i, -2 * h), await loss(name, i, -h), await loss(name, i, h), await loss(name, i, 2 * h)]
      const expected = (a - 8 * b + 8 * c - d) / (12 * h)
      worst = Math.max(worst, Math.abs(expected - Number(gradient.data[i])))
      largest = Math.max(largest, Math.abs(expected))
    }
  }
  await Promise.all([forward.release(), backward.release()])
  return worst / Math.max(largest, 1e-3)
}
