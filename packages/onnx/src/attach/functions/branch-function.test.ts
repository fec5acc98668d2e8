/** The branch function in ONNX Runtime against the float64 reference, for many shapes and opsets, with an adapter for each row. */
import { createLayer, type Layer, referenceForward, uniformEntries } from '@fourierft/core'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { quickOrAllCases } from '../../__fixtures__/model-files.js'
import { createSession } from '../../__fixtures__/onnx-runtime.js'
import { encodeFunction, encodeGraph, encodeOpset } from '../../model/encode.js'
import { DataType, Model } from '../../model/schema.js'
import { field, message } from '../../model/wire-message.js'
import { BRANCH_INPUTS, branchFunction, DOMAIN } from './branch-function.js'
import { branchTables, TABLE_NAMES } from './branch-tables.js'

const numbers = (count: number, phase: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i + phase))

function layersOf(shape: readonly [number, number], n: number, adapters: number): Layer[] {
  const entries = uniformEntries({ shape, n, seed: 2024 })
  return Array.from({ length: adapters }, (_, a) =>
    createLayer({ name: `adapter ${a}`, shape, entries, coefficients: numbers(n, a), scaling: 1 }),
  )
}

/** A model of one node, `y = FourierFT(x, base, coefficients, rows, …tables)`. */
async function sessionOf({ shape, entries }: Layer, opset: number, inputRank = 3): Promise<InferenceSession> {
  const leadingDims = Array.from({ length: inputRank - 1 }, (_, axis) => `axis${axis}`)
  const float = DataType.float
  const graph = encodeGraph({
    name: 'branch',
    nodes: [{ opType: 'FourierFT', domain: DOMAIN, inputs: BRANCH_INPUTS, outputs: ['y'] }],
    inputs: [
      { name: 'x', dataType: float, dims: [...leadingDims, shape[1]] },
      { name: 'base', dataType: float, dims: [...leadingDims, shape[0]] },
      { name: 'coefficients', dataType: float, dims: ['adapters', entries.n] },
      { name: 'rows', dataType: DataType.int64, dims: ['rows'] },
    ],
    outputs: [{ name: 'y', dataType: float, dims: [...leadingDims, shape[0]] }],
    initializers: branchTables(entries, ''),
  })
  const parts: Uint8Array[] = []
  message(
    field(Model.irVersion, 8),
    field(Model.graph, graph),
    field(Model.opsetImport, encodeOpset('', opset)),
    field(Model.opsetImport, encodeOpset(DOMAIN, 1)),
    field(Model.functions, encodeFunction(branchFunction(opset))),
  ).writeTo(parts)
  return createSession(new Uint8Array(Buffer.concat(parts)))
}

async function run(
  session: InferenceSession,
  layers: readonly Layer[],
  rows: readonly number[],
  leadingDims: readonly number[],
): Promise<{ y: Float32Array; base: Float32Array; x: Float32Array }> {
  const [{ shape, entries }] = layers as [Layer]
  const tokens = leadingDims.reduce((product, size) => product * size, 1)
  const x = numbers(tokens * shape[1], 0.1)
  const base = numbers(tokens * shape[0], 0.4)
  // −1 means no adapter: it selects the last row, which must be zero.
  const zero = rows.includes(-1) ? [new Array<number>(entries.n).fill(0)] : []
  const matrix = [...layers.map(({ coefficients }) => [...coefficients]), ...zero]
  const { y } = await session.run({
    x: new Tensor('float32', x, [...leadingDims, shape[1]]),
    base: new Tensor('float32', base, [...leadingDims, shape[0]]),
    coefficients: new Tensor('float32', Float32Array.from(matrix.flat()), [matrix.length, entries.n]),
    rows: new Tensor('int64', BigInt64Array.from(rows, BigInt), [rows.length]),
  })
  expect(y?.dims).toEqual([...leadingDims, shape[0]])
  return { y: y?.data as Float32Array, base, x }
}

/** `max |a − b|` over `max |b|`. */
function difference(a: Float32Array, b: Float64Array): number {
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return b.reduce((most, value, i) => Math.max(most, Math.abs(a[i] - value)), 0) / largest
}

// The conformance suite's limit for level 4 in float32.
const LIMIT = 1e-5

describe('the branch function', () => {
  const shapes: [number, number][] = [
    [24, 20],
    [20, 24],
    [64, 64],
    [31, 17],
    [97, 1],
    [1, 12],
    [96, 160],
    [768, 768],
  ]

  test.each(quickOrAllCases(shapes, ([d1]) => d1 < 768))('layers of %i × %i', async (d1, d2) => {
    const layers = layersOf([d1, d2], Math.min(1000, Math.ceil((d1 * d2) / 2)), 1)
    const session = await sessionOf(layers[0], 17)
    const { y, base, x } = await run(session, layers, [0], [2, 3])
    expect(difference(y, referenceForward(layers, x, Float64Array.from(base)))).toBeLessThan(LIMIT)
  })

  test.each([11, 12, 13, 14, 17, 18, 21, 22, 23])('opset %i', async (opset) => {
    const layers = layersOf([24, 20], 30, 2)
    const session = await sessionOf(layers[0], opset)
    const { y, base, x } = await run(session, layers, [1, 0], [2, 3])
    const rows = Int32Array.of(1, 1, 1, 0, 0, 0)
    expect(difference(y, referenceForward(layers, x, Float64Array.from(base), { rows }))).toBeLessThan(LIMIT)
  })

  test.each([
    { leadingDims: [6], rows: [0, 1, -1], layerOfToken: [0, 0, 1, 1, -1, -1] },
    { leadingDims: [2, 3], rows: [1], layerOfToken: [1, 1, 1, 1, 1, 1] },
    { leadingDims: [2, 1, 3], rows: [-1, 1], layerOfToken: [-1, -1, -1, 1, 1, 1] },
  ])('inputs of rank $leadingDims.length with rows $rows', async ({ leadingDims, rows, layerOfToken }) => {
    const layers = layersOf([24, 20], 30, 2)
    const session = await sessionOf(layers[0], 17, leadingDims.length + 1)
    const { y, base, x } = await run(session, layers, rows, leadingDims)
    const expected = referenceForward(layers, x, Float64Array.from(base), {
      rows: Int32Array.from(layerOfToken),
    })
    expect(difference(y, expected)).toBeLessThan(LIMIT)
  })

  test('without adapters or tokens it gives the base output, bit for bit', async () => {
    const layers = layersOf([24, 20], 30, 1)
    const session = await sessionOf(layers[0], 17)
    const base = numbers(6 * 24, 0.4)
    const feeds = (tokens: number, adapters: number) => ({
      x: new Tensor('float32', numbers(tokens * 20, 0), [1, tokens, 20]),
      base: new Tensor('float32', base.slice(0, tokens * 24), [1, tokens, 24]),
      coefficients: new Tensor('float32', numbers(adapters * 30, 0), [adapters, 30]),
      rows: new Tensor('int64', BigInt64Array.of(0n), [1]),
    })
    expect((await session.run(feeds(6, 0))).y?.data).toEqual(base)
    expect((await session.run(feeds(0, 1))).y?.dims).toEqual([1, 0, 24])
  })

  test('has a table for each input that it names', () => {
    const [layer] = layersOf([24, 20], 30, 1) as [Layer]
    expect(branchTables(layer.entries, 'e.').map(({ name }) => name)).toEqual(
      TABLE_NAMES.map((name) => `e.${name}`),
    )
  })
})
