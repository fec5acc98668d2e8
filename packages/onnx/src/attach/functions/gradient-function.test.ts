/** The gradient function in ONNX Runtime against the float64 reference, for many shapes and opsets, with an adapter for each row. */
import { createLayer, type Layer, referenceBackward, type Shape, uniformEntries } from '@fourierft/core'
import fc from 'fast-check'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { quickOrAllCases, RUNS_ALL_CASES } from '../../__fixtures__/model-files.js'
import { createSession } from '../../__fixtures__/onnx-runtime.js'
import { createModel } from '../../model/create-model.js'
import { DataType } from '../../model/schema.js'
import { DOMAIN } from './branch-function.js'
import { branchTables, GRADIENT_TABLE_NAMES, gradientTables } from './branch-tables.js'
import { GRADIENT_INPUTS, gradientFunction } from './gradient-function.js'

const numbers = (count: number, phase: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i + phase))

function layersOf(shape: Shape, n: number, adapters: number): Layer[] {
  const entries = uniformEntries({ shape, n, seed: 2024 })
  return Array.from({ length: adapters }, (_, a) =>
    createLayer({ name: `adapter ${a}`, shape, entries, coefficients: numbers(n, a), scaling: 1 }),
  )
}

/** A model of one node `FourierFTGrad`. */
async function sessionOf({ shape, entries }: Layer, opset = 17, rank = 3): Promise<InferenceSession> {
  const leadingDims = Array.from({ length: rank - 1 }, (_, axis) => `axis${axis}`)
  const value = (name: string, dims: (string | number)[], dataType: number = DataType.float) => ({
    name,
    dims,
    dataType,
  })
  const model = createModel(
    {
      name: 'gradient',
      nodes: [
        {
          opType: 'FourierFTGrad',
          domain: DOMAIN,
          inputs: GRADIENT_INPUTS,
          outputs: ['grad_coefficients', 'grad_x'],
        },
      ],
      inputs: [
        value('x', [...leadingDims, shape[1]]),
        value('grad_y', [...leadingDims, shape[0]]),
        value('base', [...leadingDims, shape[1]]),
        value('coefficients', ['adapters', entries.n]),
        value('rows', ['rows'], DataType.int64),
      ],
      outputs: [
        value('grad_coefficients', ['adapters', entries.n]),
        value('grad_x', [...leadingDims, shape[1]]),
      ],
      initializers: gradientTables(entries, ''),
    },
    { opset },
  )
  model.addOpsetImport(DOMAIN, 1)
  model.addFunction(gradientFunction(opset))
  return createSession(model.toBytes())
}

const tokensOf = (leadingDims: readonly number[]) => leadingDims.reduce((product, size) => product * size, 1)

async function run(
  session: InferenceSession,
  [d1, d2]: Shape,
  coefficients: readonly ArrayLike<number>[],
  n: number,
  rows: readonly number[],
  leadingDims: readonly number[],
  base: Float32Array = new Float32Array(tokensOf(leadingDims) * d2),
) {
  const tokens = tokensOf(leadingDims)
  const x = numbers(tokens * d2, 0.1)
  const gradY = numbers(tokens * d1, 0.4)
  const results = await session.run({
    x: new Tensor('float32', x, [...leadingDims, d2]),
    grad_y: new Tensor('float32', gradY, [...leadingDims, d1]),
    base: new Tensor('float32', base, [...leadingDims, d2]),
    coefficients: new Tensor(
      'float32',
      Float32Array.from(coefficients.flatMap((vector) => Array.from(vector))),
      [coefficients.length, n],
    ),
    rows: new Tensor('int64', BigInt64Array.from(rows, BigInt), [rows.length]),
  })
  expect(results.grad_coefficients?.dims).toEqual([coefficients.length, n])
  expect(results.grad_x?.dims).toEqual([...leadingDims, d2])
  const gradCoefficients = results.grad_coefficients?.data as Float32Array
  return { x, gradY, gradCoefficients, gradX: results.grad_x?.data as Float32Array }
}

/** Compares both gradients with the reference's, each relative to its largest number, or to the `floor` if that is larger. */
async function expectGradients(
  session: InferenceSession,
  layers: readonly Layer[],
  rows: readonly number[],
  leadingDims: readonly number[],
  floor = { coefficients: 0, x: 0 },
): Promise<void> {
  const [{ shape, entries }] = layers as [Layer]
  const { n } = entries
  const vectors = layers.map(({ coefficients }) => coefficients)
  // −1 means no adapter: it selects the last row, which must be zero.
  const matrix = rows.includes(-1) ? [...vectors, new Float32Array(n)] : vectors
  const { x, gradY, gradCoefficients, gradX } = await run(session, shape, matrix, n, rows, leadingDims)
  const tokensPerRow = tokensOf(leadingDims) / rows.length
  const layerOfToken = Int32Array.from(
    { length: tokensOf(leadingDims) },
    (_, t) => rows[Math.floor(t / tokensPerRow)] ?? 0,
  )
  const expected = referenceBackward(layers, x, gradY, { rows: layerOfToken })
  const zeros = new Array<number>(gradCoefficients.length - layers.length * n).fill(0)
  const expectedCoefficients = [...expected.coefficients.flatMap((vector) => [...vector]), ...zeros]
  expect(difference(gradCoefficients, expectedCoefficients, floor.coefficients)).toBeLessThan(LIMIT)
  expect(difference(gradX, expected.x, floor.x)).toBeLessThan(LIMIT)
  if (zeros.length > 0) expect(gradCoefficients.slice(-n)).toEqual(new Float32Array(n))
}

/** `max |a − b|` over the larger of `max |b|` and `floor`. */
function difference(a: Float32Array, b: ArrayLike<number>, floor: number): number {
  let largest = floor
  let error = 0
  for (let i = 0; i < b.length; i++) {
    largest = Math.max(largest, Math.abs(b[i]))
    error = Math.max(error, Math.abs(a[i] - b[i]))
  }
  expect(a.length).toBe(b.length)
  return error === 0 ? 0 : error / largest
}

// The conformance suite's limit for level 5 in float32.
const LIMIT = 1e-5

describe('the gradient function', () => {
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
    const session = await sessionOf(layers[0])
    await expectGradients(session, layers, [0], [2, 3])
    await session.release()
  })

  test.each([11, 12, 13, 14, 17, 18, 21, 22, 23])('opset %i', async (opset) => {
    const layers = layersOf([24, 20], 30, 2)
    const session = await sessionOf(layers[0], opset)
    await expectGradients(session, layers, [1, -1, 0], [3, 2])
    await session.release()
  })

  test.each([
    { leadingDims: [6], rows: [0, 1, -1] },
    { leadingDims: [6], rows: [2, 0, 2, -1, -1, 0] },
    { leadingDims: [2, 3], rows: [1] },
    { leadingDims: [2, 3], rows: [-1] },
    { leadingDims: [2, 1, 3], rows: [-1, 1] },
    { leadingDims: [4, 5], rows: [0, 0, 1, 2] },
  ])('inputs of rank $leadingDims.length with rows $rows', async ({ leadingDims, rows }) => {
    const layers = layersOf([24, 20], 30, 3)
    const session = await sessionOf(layers[0], 17, leadingDims.length + 1)
    await expectGradients(session, layers, rows, leadingDims)
    await session.release()
  })

  test('any shapes, entries, adapters and rows', async () => {
    const size = fc.integer({ min: 1, max: 40 })
    const testCase = fc
      .record({ d1: size, d2: size, fill: fc.double({ min: 0.01, max: 1, noNaN: true }) })
      .chain(({ d1, d2, fill }) =>
        fc.record({
          layers: fc
            .integer({ min: 1, max: 4 })
            .map((adapters) => layersOf([d1, d2], Math.ceil(fill * d1 * d2), adapters)),
          chosen: fc.array(fc.integer({ min: -1, max: 3 }), { minLength: 1, maxLength: 6 }),
          tokensPerRow: fc.integer({ min: 1, max: 5 }),
        }),
      )
    await fc.assert(
      fc.asyncProperty(testCase, async ({ layers, chosen, tokensPerRow }) => {
        const [first] = layers as [Layer]
        const { n, shape } = first.entries
        const [, d2] = shape
        const session = await sessionOf(first)
        const rows = chosen.map((adapter) => Math.min(adapter, layers.length - 1))
        // Terms are at most 1, so sums are at most these floors. Terms may cancel, but their rounding errors do not: at most 200 additions
        // give errors of at most 200 · 2⁻²⁴ of the floor.
        const floor = { coefficients: rows.length * tokensPerRow, x: n / d2 }
        await expectGradients(session, layers, rows, [rows.length, tokensPerRow], floor)
        await session.release()
      }),
      { numRuns: RUNS_ALL_CASES ? 60 : 15 },
    )
  })

  test('the gradient of x is added to the base', async () => {
    const [layer] = layersOf([24, 20], 30, 1) as [Layer]
    const session = await sessionOf(layer)
    const base = numbers(6 * 20, 0.9)
    const of = (adapters: readonly Float32Array[], to?: Float32Array) =>
      run(session, [24, 20], adapters, 30, [0], [2, 3], to)
    const coefficients = [Float32Array.from(layer.coefficients)]
    const [alone, added] = [await of(coefficients), await of(coefficients, base)]
    expect(added.gradX).toEqual(alone.gradX.map((value, i) => value + base[i]))
    expect(added.gradCoefficients).toEqual(alone.gradCoefficients)
    expect((await of([], base)).gradX).toEqual(base)
    await session.release()
  })

  test('gradients are zero without adapters, and without tokens', async () => {
    const [layer] = layersOf([24, 20], 30, 1) as [Layer]
    const session = await sessionOf(layer)
    const withoutAdapters = await run(session, [24, 20], [], 30, [0], [2, 3])
    expect(withoutAdapters.gradX).toEqual(new Float32Array(6 * 20))
    const withoutTokens = await run(session, [24, 20], [layer.coefficients], 30, [0], [0, 3])
    expect(withoutTokens.gradCoefficients).toEqual(new Float32Array(30))
    await session.release()
  })

  test('shares its tables with the branch function', () => {
    const [{ entries }] = layersOf([24, 20], 30, 1) as [Layer]
    const gradient = gradientTables(entries, 'e.')
    expect(gradient.map(({ name }) => name)).toEqual(GRADIENT_TABLE_NAMES.map((name) => `e.${name}`))
    const shared = branchTables(entries, 'e.').filter(({ name }) =>
      gradient.some((other) => other.name === name),
    )
    expect(shared.map(({ name }) => name)).toEqual(['e.entries', 'e.w1', 'e.m2'])
    for (const table of shared) expect(gradient).toContainEqual(table)
  })
})
