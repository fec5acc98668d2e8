/**
 * Whole gradients of the exported models against PyTorch's autograd and PEFT, computed by `scripts/gradient-vectors.py`, which also derives the
 * tolerances of quantised models and of float16.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { decodeFloats, explicitEntries } from '@fourierft/core'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { MODEL_NAMES, modelBytes, quickOrAllCases } from '../__fixtures__/model-files.js'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { attachBranches } from '../attach/attach.js'
import { gradientFunction } from '../attach/functions/gradient-function.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { matchLayers } from '../layers/match-layers.js'
import { findPackedLayers } from '../layers/packed-layers.js'
import { type OnnxModel, readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import type { OnnxValue } from '../model/value.js'
import { differentiate } from './differentiate.js'
import type { MemoryPolicy } from './keep-or-recompute.js'
import { prepareTraining } from './prepare/prepare-training.js'
import { encodeScalar } from './scalar.js'

/** Base64 of the little-endian values. */
interface EncodedArray {
  readonly dtype: 'float32' | 'float64' | 'int64'
  readonly shape: readonly number[]
  readonly data: string
}

interface Vectors {
  /** The inputs of the model; each fixture reads the first rows. */
  readonly inputs: Readonly<Record<string, EncodedArray>>
  /** ∂L/∂output. */
  readonly seed: EncodedArray
  readonly scaling: number
  /** Of all modules, one after the other. */
  readonly coefficients: EncodedArray
  readonly modules: Readonly<Record<string, Positions>>
  readonly cases: readonly Expected[]
}

/** The entries of a module, and its shape. */
interface Positions {
  readonly shape: readonly [number, number]
  readonly rows: readonly number[]
  readonly columns: readonly number[]
}

interface Expected {
  readonly fixtures: readonly string[]
  readonly rows: number
  readonly loss: number
  /** ∂L/∂c of all modules, one after the other, in float64. */
  readonly gradient: EncodedArray
  /** The error that is allowed, relative to the norm of the gradient; default: that of float32. */
  readonly tolerance?: number
  /** The largest error of the gradient of one layer, relative to its norm, of PyTorch in float32. */
  readonly float32LayerError?: number
}

/** The error in float32, relative to the norm of the gradient. */
const TOLERANCE = 1e-4

/** The packed attention nodes of fixtures that do not name their modules. */
const MODULE_MAPS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'gpt2-fused': Object.fromEntries(
    [0, 1].flatMap((block) =>
      ['q', 'k', 'v'].map((part) => [`h.${block}.attn.${part}`, `Attention_${block}:${part}`]),
    ),
  ),
}

const PRODUCTS = /MatMul|Gemm/

const QUICK_FIXTURES = [
  'bert-batch',
  'bert-fused',
  'bert-q8',
  'gpt2-dynamo',
  'llama-q4',
  'unet-attention-batch',
]

const folder = new URL('__fixtures__/whole-model/', import.meta.url)
const CASES = readdirSync(folder).flatMap((file) => {
  const vectors: Vectors = JSON.parse(readFileSync(new URL(file, folder), 'utf8'))
  return vectors.cases.flatMap((expected) => expected.fixtures.map((name) => ({ name, vectors, expected })))
})

function decode({ dtype, data }: EncodedArray) {
  const { buffer } = Uint8Array.from(atob(data), (character) => character.charCodeAt(0))
  return new { float32: Float32Array, float64: Float64Array, int64: BigInt64Array }[dtype](buffer)
}

const numbersOf = (array: EncodedArray) => decode(array) as Float32Array | Float64Array

/** The first rows of an array, in its type. */
function firstRows(array: EncodedArray, rows: number): Tensor {
  const values = decode(array)
  const dims = [rows, ...array.shape.slice(1)]
  const count = dims.reduce((product, size) => product * size, 1)
  return values instanceof BigInt64Array
    ? new Tensor('int64', values.slice(0, count), dims)
    : new Tensor('float32', Float32Array.from(values.slice(0, count)), dims)
}

function toHalf({ data, dims }: Tensor): Tensor {
  const bits = Array.from(data as Float32Array, (value) => {
    const [low, high] = encodeScalar(value, DataType.float16)
    return low | (high << 8)
  })
  return new Tensor('float16', Uint16Array.from(bits), dims)
}

function toNumbers({ data, type }: Tensor): readonly number[] {
  if (type !== 'float16') return Array.from(data as Float32Array)
  const { buffer, byteOffset, byteLength } = data as unknown as Uint16Array
  return Array.from(
    decodeFloats({ dtype: 'F16', bytes: new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength) }),
  )
}

/** The fixture with branches on all modules of the vectors, and the feeds of all its inputs. */
function attached(name: string, vectors: Vectors, rows: number) {
  const model = readModel(modelBytes(name), { file: `${name}.onnx` })
  const layers = [...findLinearLayers(model), ...findPackedLayers(model)]
  const modules = Object.entries(vectors.modules)
  const map = MODULE_MAPS[name] ?? {}
  const { matched, unmatched } = matchLayers(layers, Object.keys(vectors.modules), { map })
  expect(unmatched.map(({ module }) => module)).toEqual([])
  const branches = modules.flatMap(([module, positions]) => {
    const layer = matched.get(module)
    return layer ? [{ module, layer, entries: explicitEntries(positions) }] : []
  })
  const inputs = attachBranches(model, branches)
  const feeds: Record<string, Tensor> = { [inputs.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]) }
  for (const [input, array] of Object.entries(vectors.inputs)) feeds[input] = firstRows(array, rows)
  const coefficients = numbersOf(vectors.coefficients)
  for (const [i, [module, positions]] of modules.entries()) {
    const n = positions.rows.length
    const values = Float32Array.from(coefficients.subarray(i * n, (i + 1) * n), (c) => c * vectors.scaling)
    feeds[inputs.coefficients.get(module) as string] = new Tensor('float32', values, [1, n])
  }
  return { model, feeds, coefficients: inputs.coefficients }
}

async function run(
  model: OnnxModel,
  feeds: Readonly<Record<string, Tensor>>,
  options: InferenceSession.SessionOptions,
) {
  const session = await createSession(model.toBytes(), options)
  const results = await session.run(feeds)
  await session.release()
  return results
}

/** The outputs of the graph, and the gradients with respect to the coefficients of each module. */
async function gradientsOf(
  name: string,
  vectors: Vectors,
  {
    rows,
    memory = 'fast',
    options = {},
  }: {
    readonly rows: number
    readonly memory?: MemoryPolicy
    readonly options?: InferenceSession.SessionOptions
  },
) {
  const { model, feeds, coefficients } = attached(name, vectors, rows)
  const { graph } = model
  const [output] = graph.outputs as [OnnxValue]
  const { dataType = DataType.float } = output
  graph.addInput({ name: 'seed', dataType, dims: vectors.seed.shape.map((_, axis) => `seed${axis}`) })
  const targets = Array.from(coefficients.values())
  prepareTraining(model, { targets })
  const { gradients } = differentiate(model, { seeds: new Map([[output.name, 'seed']]), targets, memory })
  model.addFunction(gradientFunction(model.opsetImports.get('') ?? 0))
  for (const gradient of gradients.values()) graph.addOutput({ name: gradient })
  const seed = firstRows(vectors.seed, rows)
  const results = await run(
    model,
    { ...feeds, seed: dataType === DataType.float16 ? toHalf(seed) : seed },
    options,
  )
  const ofModules = Array.from(coefficients, ([module, input]) => {
    const values = toNumbers(results[gradients.get(input) as string])
    // The input is scaling·c.
    return [module, values.map((value) => value * vectors.scaling)] as const
  })
  const recomputed = graph.nodes.filter(({ outputs }) => outputs[0].startsWith('fourierft.recomputed.'))
  return { y: results.y, gradients: ofModules, recomputed }
}

/** Compares Σ seed·y, with an error relative to the sum of the absolute terms. */
function expectLoss(y: Tensor, { seed }: Vectors, { rows, loss, tolerance = TOLERANCE }: Expected): void {
  const weights = firstRows(seed, rows).data as Float32Array
  const terms = toNumbers(y).map((value, i) => value * weights[i])
  expect(terms.length).toBe(weights.length)
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
  expect(Math.abs(sum(terms) - loss) / sum(terms.map(Math.abs))).toBeLessThan(tolerance)
}

/** |a − b| / |b| */
function relativeError(a: readonly number[], b: readonly number[]): number {
  return Math.hypot(...a.map((value, i) => value - b[i])) / Math.hypot(...b)
}

test('all fixtures have expected gradients', () => {
  expect(CASES.map(({ name }) => name).sort()).toEqual([...MODEL_NAMES].sort())
})

describe.each(quickOrAllCases(CASES, ({ name }) => QUICK_FIXTURES.includes(name)))(
  '$name',
  ({ name, vectors, expected }) => {
    const { rows, tolerance = TOLERANCE, float32LayerError } = expected
    test('the loss and the gradient of all coefficients agree with PyTorch', async () => {
      const { y, gradients } = await gradientsOf(name, vectors, { rows })
      expectLoss(y, vectors, expected)
      const whole = Array.from(numbersOf(expected.gradient))
      const received = gradients.flatMap(([, values]) => values)
      expect(received.length).toBe(whole.length)
      expect(relativeError(received, whole)).toBeLessThan(tolerance)
      // The small gradients of early layers hardly change the norm of the whole. They have a tolerance of their own.
      if (float32LayerError === undefined) return
      const layerTolerance = Math.max(TOLERANCE, 8 * float32LayerError)
      let start = 0
      for (const [module, values] of gradients) {
        const ofLayer = whole.slice(start, start + values.length)
        start += values.length
        expect(relativeError(values, ofLayer), module).toBeLessThan(layerTolerance)
      }
    })
  },
)

const LEAN_QUICK_FIXTURES = ['bert-batch', 'llama-q4']

describe.each(quickOrAllCases(CASES, ({ name }) => LEAN_QUICK_FIXTURES.includes(name)))(
  '$name, lean',
  ({ name, vectors, expected }) => {
    const { rows, tolerance = TOLERANCE } = expected
    test('the graph computes products again, and gives the same gradients', async () => {
      // ONNX Runtime computes float16 in float32, and rounds where it inserts casts. That depends on the nodes around.
      const isHalf = expected.tolerance !== undefined && /half|f16/.test(name)
      // Optimized graphs differ in the nodes that are fused, and so in rounding.
      const options = isHalf ? {} : ({ graphOptimizationLevel: 'disabled' } as const)
      const lean = await gradientsOf(name, vectors, { rows, options, memory: 'lean' })
      expect(lean.recomputed.some(({ opType }) => PRODUCTS.test(opType))).toBe(true)
      if (isHalf) {
        const received = lean.gradients.flatMap(([, values]) => values)
        expect(relativeError(received, Array.from(numbersOf(expected.gradient)))).toBeLessThan(tolerance)
        return
      }
      const fast = await gradientsOf(name, vectors, { rows, options })
      expect(fast.recomputed).toEqual([])
      expect(lean.gradients).toEqual(fast.gradients)
    })
  },
)
