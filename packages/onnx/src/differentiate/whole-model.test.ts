/**
 * Whole gradients of the exported models against PyTorch's autograd and PEFT, computed by `scripts/gradient-vectors.py`, which also derives the
 * tolerances of quantised models and of float16.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { decodeFloats, explicitEntries } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { casesForRun, MODEL_NAMES, modelBytes } from '../__fixtures__/model-files.js'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { attachBranches } from '../attach/attach.js'
import { gradientFunction } from '../attach/functions/gradient-function.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { matchLayers } from '../layers/match-layers.js'
import { findPackedLayers } from '../layers/packed-layers.js'
import { readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { differentiate } from './differentiate.js'
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
  /** ∂L/∂c of all modules, one after the other, in float64. */
  readonly gradient: EncodedArray
  /** The error that is allowed, relative to the norm of the gradient; default: that of float32. */
  readonly tolerance?: number
  /** The largest error of the gradient of one layer, relative to its norm, of PyTorch in float32. */
  readonly float32LayerError?: number
}

/** The error in float32, relative to the norm of the gradient. */
const TOLERANCE = 1e-4

/** Fixtures without a gradient yet, with the problem of the error. */
const UNSUPPORTED: Readonly<Record<string, RegExp>> = {
  'bert-plain': /uses opset 14; training needs opset 16 or later/,
  'bert-fused': /uses opset 14; training needs opset 16 or later/,
  'bert-half': /uses opset 14; training needs opset 16 or later/,
  'bert-half-fused': /uses opset 14; training needs opset 16 or later/,
  'gpt2-plain': /uses opset 14; training needs opset 16 or later/,
  'gpt2-fused': /uses opset 14; training needs opset 16 or later/,
}

/** The packed attention nodes of fixtures that do not name their modules. */
const MODULE_MAPS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'gpt2-fused': Object.fromEntries(
    [0, 1].flatMap((block) =>
      ['q', 'k', 'v'].map((part) => [`h.${block}.attn.${part}`, `Attention_${block}:${part}`]),
    ),
  ),
}

const QUICK_FIXTURES = [
  'bert-batch',
  'gpt2-dynamo',
  'llama-batch',
  'llama-q4',
  'bert-q8',
  'bert-qdq',
  'llama-q4f16',
  'unet-attention-batch',
  't5-encoder-torchscript',
  ...Object.keys(UNSUPPORTED),
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
  return Array.from(decodeFloats({ dtype: 'F16', bytes: new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength) }))
}

/** The model's gradients with respect to the coefficients of each module, computed by ONNX Runtime. */
async function gradientsOf(name: string, vectors: Vectors, rows: number): Promise<ReadonlyMap<string, readonly number[]>> {
  const model = readModel(modelBytes(name), { file: `${name}.onnx` })
  const { graph } = model
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
  const [output] = graph.outputs as [(typeof graph.outputs)[number]]
  const { dataType } = output
  graph.addInput({ name: 'seed', dataType, dims: vectors.seed.shape.map((_, axis) => `seed${axis}`) })
  const targets = Array.from(inputs.coefficients.values())
  const gradients = differentiate(model, { seeds: new Map([[output.name, 'seed']]), targets })
  model.addFunction(gradientFunction(model.opsetImports.get('') ?? 0))
  for (const gradient of gradients.values()) graph.addOutput({ name: gradient })

  const feeds: Record<string, Tensor> = { [inputs.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]) }
  const seed = firstRows(vectors.seed, rows)
  feeds.seed = dataType === DataType.float16 ? toHalf(seed) : seed
  for (const [input, array] of Object.entries(vectors.inputs)) feeds[input] = firstRows(array, rows)
  const coefficients = numbersOf(vectors.coefficients)
  for (const [i, [module, positions]] of modules.entries()) {
    const n = positions.rows.length
    const values = Float32Array.from(coefficients.subarray(i * n, (i + 1) * n), (c) => c * vectors.scaling)
    feeds[inputs.coefficients.get(module) as string] = new Tensor('float32', values, [1, n])
  }
  const session = await createSession(model.toBytes())
  const results = await session.run(feeds)
  await session.release()
  return new Map(
    modules.map(([module]) => {
      const gradient = gradients.get(inputs.coefficients.get(module) as string) as string
      // The input is scaling·c.
      return [module, toNumbers(results[gradient]).map((value) => value * vectors.scaling)] as const
    }),
  )
}

const norm = (values: readonly number[]) => Math.hypot(...values)
const difference = (a: readonly number[], b: readonly number[]) => norm(a.map((value, i) => value - b[i]))

test('all fixtures have expected gradients', () => {
  expect(CASES.map(({ name }) => name).sort()).toEqual([...MODEL_NAMES].sort())
})

describe.each(casesForRun(CASES, ({ name }) => QUICK_FIXTURES.includes(name)))('$name', ({ name, vectors, expected }) => {
  const problem = UNSUPPORTED[name]
  if (problem) {
    test('is rejected with the reason', async () => {
      await expect(gradientsOf(name, vectors, expected.rows)).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(problem),
      })
    })
    return
  }

  test('the gradient of all coefficients agrees with PyTorch', async () => {
    const gradients = await gradientsOf(name, vectors, expected.rows)
    const expectedNumbers = Array.from(numbersOf(expected.gradient))
    const received = Array.from(gradients.values()).flat()
    expect(received.length).toBe(expectedNumbers.length)
    const error = difference(received, expectedNumbers) / norm(expectedNumbers)
    if (process.env.SHOW) console.log(name, error, expected.tolerance)
    expect(error).toBeLessThan(expected.tolerance ?? TOLERANCE)
    const { float32LayerError } = expected
    let [at, worst] = [0, 0]
    for (const [module, gradient] of gradients) {
      const ofLayer = expectedNumbers.slice(at, at + gradient.length)
      at += gradient.length
      const layerError = difference(gradient, ofLayer) / norm(ofLayer)
      worst = Math.max(worst, layerError)
      if (process.env.SHOW) console.log('  ', module, norm(ofLayer), layerError)
      if (float32LayerError !== undefined) expect(layerError, module).toBeLessThan(Math.max(TOLERANCE, 8 * float32LayerError))
    }
  })
})
