/**
 * End-to-end comparison with PyTorch and PEFT on the same weights: real exports of BERT, GPT-2, LLaMA, ViT and a diffusion UNet's attention, with
 * adapters that PEFT saved, in each runtime. packages/onnx/scripts/end-to-end-vectors.py computes the expected outputs, and derives the tolerances.
 * `minilm.slow.test.ts` tests a trained encoder.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { loadAdapter, referenceForward } from '@fourierft/core'
import { readModel } from '@fourierft/onnx'
import * as node from 'onnxruntime-node'
import * as web from 'onnxruntime-web'
import { afterEach, describe, expect, test } from 'vitest'
import type { AdaptedSession } from '../src/adapted-session.js'
import { createSession } from '../src/create-session.js'
import type { Ort } from '../src/ort.js'
import { decodeArray, type EncodedArray } from './encoded-array.js'

interface Case {
  readonly name: string
  /** The active adapters; undefined if `rows` gives an adapter for each row. */
  readonly adapters?: readonly string[]
  readonly rows?: readonly (string | null)[]
  readonly output: EncodedArray
  /** The absolute tolerance in float32. */
  readonly tolerance: number
  /** The absolute tolerances of models in 8 and 4 bits, compared with the float32 model. */
  readonly q8?: number
  readonly q4?: number
}

interface Vectors {
  readonly inputs: Readonly<Record<string, EncodedArray>>
  readonly cases: readonly Case[]
}

/** The exports: `batch` with a dynamic batch size, the others with a batch of one. */
const FLOAT = [
  ['bert', 'torchscript'],
  ['bert', 'dynamo'],
  ['bert', 'batch'],
  ['gpt2', 'torchscript'],
  ['gpt2', 'dynamo'],
  ['gpt2', 'batch'],
  ['llama', 'torchscript'],
  ['llama', 'dynamo'],
  ['llama', 'batch'],
  ['vit', 'torchscript'],
  ['vit', 'dynamo'],
  ['vit', 'batch'],
  ['unet-attention', 'batch'],
] as const
const QUANTISED = (['bert', 'gpt2', 'llama'] as const).flatMap((model) =>
  (['q8', 'q4'] as const).map((kind) => [model, kind] as const),
)

/** Unit roundoff of float32. */
const UNIT = 2 ** -24

web.env.wasm.numThreads = 1
const RUNTIMES: readonly { readonly runtime: string; readonly ort: Ort; readonly native: boolean }[] = [
  { runtime: 'the native kernel', ort: node, native: true },
  { runtime: 'onnxruntime-node, portable', ort: node, native: false },
  { runtime: 'onnxruntime-web, wasm', ort: web, native: false },
]

const folderOf = (model: string) =>
  fileURLToPath(new URL(`__fixtures__/end-to-end/${model}`, import.meta.url))
const vectorsOf = (model: string): Vectors =>
  JSON.parse(readFileSync(`${folderOf(model)}/vectors.json`, 'utf8'))
const bytesOf = (model: string, kind: string) =>
  new Uint8Array(readFileSync(new URL(`../../onnx/src/__fixtures__/${model}-${kind}.onnx`, import.meta.url)))

const open: { release(): Promise<void> }[] = []
afterEach(async () => {
  for (const session of open.splice(0)) await session.release()
})

/** Opens a model with the adapters a and b, from the directories that PEFT wrote. */
async function adaptedSession(
  model: string,
  kind: string,
  { ort, native }: { ort: Ort; native: boolean },
): Promise<AdaptedSession> {
  const [a, b] = ['a', 'b'].map((name) => `${folderOf(model)}/${name}`) as [string, string]
  const session = await createSession(bytesOf(model, kind), { ort, native, adapters: { a, b } })
  open.push(session)
  expect(session.usesNativeKernel).toBe(native)
  return session
}

function feedsOf(
  { inputs }: Vectors,
  { Tensor }: Pick<Ort, 'Tensor'>,
  rows: number,
): Record<string, node.Tensor> {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, packed]) => {
      const { data, shape } = decodeArray(packed)
      const values = data.subarray(0, (data.length / shape[0]) * rows)
      const dims = [rows, ...shape.slice(1)]
      return [
        name,
        values instanceof BigInt64Array
          ? new Tensor('int64', values, dims)
          : new Tensor('float32', values as Float32Array, dims),
      ]
    }),
  )
}

async function outputOf(
  session: Pick<AdaptedSession, 'run'>,
  feeds: Record<string, node.Tensor>,
  adapters?: readonly (string | null)[],
): Promise<Float32Array> {
  const { y } = await session.run(feeds, adapters ? { adapters } : {})
  return y?.data as Float32Array
}

function choose(session: AdaptedSession, adapters: readonly string[]): void {
  if (adapters.length === 0) session.disableAdapters()
  else {
    session.enableAdapters()
    session.setAdapter(adapters)
  }
}

/** `max |a − b|` */
function distance(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length)
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0)
}

describe.each(RUNTIMES)('$runtime', ({ ort, native }) => {
  const runtime = { ort, native }

  describe.each(FLOAT)('%s-%s', (model, kind) => {
    const vectors = vectorsOf(model)
    const wholeBatch = vectors.cases.flatMap((testCase) =>
      testCase.adapters ? [{ ...testCase, adapters: testCase.adapters }] : [],
    )
    const base = decodeArray(vectors.cases[0]?.output).data as Float32Array

    test('the base model, each adapter and both adapters agree with PyTorch, also after switching back', async () => {
      const session = await adaptedSession(model, kind, runtime)
      const feeds = feedsOf(vectors, ort, 1)
      const firstOutputs = new Map<string, Float32Array>()
      for (const { name, adapters, output, tolerance } of [...wholeBatch, ...wholeBatch.toReversed()]) {
        choose(session, adapters)
        const received = await outputOf(session, feeds)
        const expected = decodeArray(output).data as Float32Array
        expect(distance(received, expected), name).toBeLessThan(tolerance)
        // The tolerance is so small that the base model's output is not accepted.
        if (name !== 'base') expect(distance(expected, base), name).toBeGreaterThan(5000 * tolerance)
        expect(received, name).toEqual(firstOutputs.get(name) ?? received)
        firstOutputs.set(name, received)
      }
    })

    test('with adapters disabled, outputs equal those of the plain model, bit for bit', async () => {
      const session = await adaptedSession(model, kind, runtime)
      const plain = await ort.InferenceSession.create(bytesOf(model, kind))
      open.push(plain)
      const feeds = feedsOf(vectors, ort, 1)
      session.disableAdapters()
      expect(await outputOf(session, feeds)).toEqual(await outputOf(plain, feeds))
    })

    if (kind === 'batch')
      test('an adapter for each row agrees with PyTorch', async () => {
        const session = await adaptedSession(model, kind, runtime)
        const { rows, output, tolerance } = vectors.cases.find((testCase) => testCase.rows) as Case
        const received = await outputOf(session, feedsOf(vectors, ort, 3), rows)
        expect(distance(received, decodeArray(output).data as Float32Array)).toBeLessThan(tolerance)
      })
  })

  describe.each(QUANTISED)('%s-%s', (model, kind) => {
    const vectors = vectorsOf(model)

    test.each(['a', 'b'])(
      '%s: the output of each layer is that of the quantised layer plus ΔW·x',
      async (name) => {
        const adapter = await loadAdapter(`${folderOf(model)}/${name}`)
        const branches: Branch[] = []
        const session = await adaptedSession(model, kind, { native, ort: withBranches(ort, branches) })
        const feeds = feedsOf(vectors, ort, 1)
        session.setAdapter(name)
        const adapted = await session.run(feeds)
        session.disableAdapters()
        const plain = await session.run(feeds)
        const data = (results: typeof adapted, value: string) => results[value]?.data as Float32Array
        let [adaptedLayers, sameInputs] = [0, 0]
        for (const { module, x, base, y } of branches) {
          // The output of a base layer depends only on its input.
          if (distance(data(adapted, x), data(plain, x)) === 0) {
            sameInputs++
            expect(data(adapted, base), module).toEqual(data(plain, base))
          }
          expect(data(plain, y), module).toEqual(data(plain, base))
          if (!adapter.modules.has(module)) {
            expect(data(adapted, y), module).toEqual(data(adapted, base))
            continue
          }
          adaptedLayers++
          const dims = adapted[x]?.dims
          const out = adapted[y]?.dims.at(-1) as number
          const layer = adapter.layer(module, [out, dims.at(-1) as number])
          const { entries, coefficients, scaling } = layer
          const [d1, d2] = entries.shape
          const tokens = data(adapted, x).length / d2
          const inputs = Float64Array.from(data(adapted, x))
          const expected = referenceForward([layer], inputs)
          // The error of each of d1 + d2 + n additions is at most UNIT times the sum of all absolute terms. Adding the base rounds once.
          const absolute = (values: ArrayLike<number>) =>
            Array.from(values).reduce((sum, value) => sum + Math.abs(value), 0)
          const perInput =
            (Math.abs(scaling) / (d1 * d2)) * absolute(coefficients) * UNIT * (d1 + d2 + entries.n)
          const effect = Float32Array.from(data(adapted, y), (value, i) => value - data(adapted, base)[i])
          for (let t = 0; t < tokens; t++) {
            const limit = perInput * absolute(inputs.subarray(t * d2, (t + 1) * d2))
            for (let i = t * d1; i < (t + 1) * d1; i++) {
              const error = Math.abs(effect[i] - expected[i])
              const sum = Math.abs(data(adapted, y)[i])
              expect(error, `${module}, ${i}`).toBeLessThanOrEqual(limit + 2 * UNIT * sum)
            }
          }
        }
        if (native) {
          // The native operator infers the shape of its output, which ONNX Runtime needs to fuse the operators after it.
          const shapes = new Map(
            session.outputMetadata.map((output) => [output.name, output.isTensor ? output.shape : undefined]),
          )
          for (const { base, y } of branches) {
            expect(shapes.get(base)).not.toEqual([])
            expect(shapes.get(y)).toEqual(shapes.get(base))
          }
        }
        expect(adaptedLayers).toBe(adapter.modules.size)
        expect(sameInputs).toBeGreaterThan(0)
      },
    )

    test('the output is within the quantisation error of the float32 model', async () => {
      const session = await adaptedSession(model, kind, runtime)
      const plain = await ort.InferenceSession.create(bytesOf(model, kind))
      open.push(plain)
      const feeds = feedsOf(vectors, ort, 1)
      for (const { name, adapters, output, ...limits } of vectors.cases) {
        if (adapters === undefined) continue
        choose(session, adapters)
        const received = await outputOf(session, feeds)
        expect(distance(received, decodeArray(output).data as Float32Array), name).toBeLessThan(
          (limits[kind] as number) + limits.tolerance,
        )
        if (name === 'base') expect(received).toEqual(await outputOf(plain, feeds))
      }
    })
  })
})

/** The names of the inputs and the output of a branch in the graph. */
interface Branch {
  readonly module: string
  readonly x: string
  readonly base: string
  readonly y: string
}

/** Returns a runtime that adds the values of each branch to the outputs of its models, and writes their names to `branches`. */
function withBranches(ort: Ort, branches: Branch[]): Ort {
  const create: Ort['InferenceSession']['create'] = (source: unknown, ...rest: unknown[]) => {
    const model = readModel(source as Uint8Array)
    const { graph } = model
    branches.splice(0)
    for (const node of graph.nodes) {
      // The `If` that skips a portable branch contains it.
      for (const { domain, inputs } of [node, ...node.subgraphs.flatMap((inner) => inner.nodes)]) {
        if (domain !== 'fourierft') continue
        const [x, base, coefficients] = inputs as [string, string, string]
        branches.push({
          module: coefficients.replace('fourierft.', ''),
          x,
          base,
          y: node.outputs[0] as string,
        })
      }
    }
    const names = new Set(branches.flatMap(({ x, base, y }) => [x, base, y]))
    for (const { name } of graph.outputs) names.delete(name)
    for (const name of names) graph.addOutput({ name })
    const [options] = rest as [node.InferenceSession.SessionOptions]
    return ort.InferenceSession.create(model.toBytes(), options)
  }
  return { ...ort, InferenceSession: { create } }
}
