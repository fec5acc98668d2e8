/**
 * Branches in real exports, plain and quantised, run by ONNX Runtime. Without adapters the output is that of the original model, bit for bit;
 * with adapters the output of each layer is its base output plus the reference's Δy for the layer's input.
 */
import { createLayer, type Layer, referenceForward, uniformEntries } from '@fourierft/core'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { modelBytes, quickOrAllCases } from '../__fixtures__/model-files.js'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { attachBranches } from './attach.js'
import type { Branch } from './branch.js'

const FILES = [
  'bert-torchscript',
  'bert-dynamo',
  'bert-q8',
  'bert-q4',
  'bert-qdq',
  'gpt2-torchscript',
  'gpt2-dynamo',
  'gpt2-q8',
  'gpt2-q4',
  'llama-torchscript',
  'llama-dynamo',
  'llama-q8',
  'llama-q4',
  't5-encoder-torchscript',
  'vit-torchscript',
  'vit-dynamo',
]

const QUICK_FILES = ['bert-torchscript', 'gpt2-q8', 'llama-q4', 'vit-dynamo']

/** Reads a file and makes a branch for each of its layers. The names of the modules are numbered. */
function branchesOf(name: string) {
  const model = readModel(modelBytes(name), { file: name })
  const layers = findLinearLayers(model)
  const branches = layers.map((layer, i): Branch => {
    const shape = [layer.outFeatures, layer.inFeatures] as const
    return {
      module: `module.${i}`,
      layer,
      entries: uniformEntries({
        shape,
        n: Math.min(40, Math.floor((shape[0] * shape[1]) / 2)),
        seed: 7 + (i % 2),
      }),
    }
  })
  return { model, branches }
}

function feedsOf(session: InferenceSession): Record<string, Tensor> {
  const [input] = session.inputNames as [string]
  const metadata = session.inputMetadata[0]
  if (metadata?.isTensor && metadata.type === 'float32') {
    const pixels = Float32Array.from({ length: 3 * 8 * 8 }, (_, i) => Math.sin(i))
    return { [input]: new Tensor('float32', pixels, [1, 3, 8, 8]) }
  }
  return {
    [input]: new Tensor(
      'int64',
      BigInt64Array.from({ length: 8 }, (_, i) => BigInt((3 * i) % 20)),
      [1, 8],
    ),
  }
}

const coefficients = (n: number, phase: number) =>
  Float32Array.from({ length: n }, (_, l) => 20 * Math.sin(2.3 * l + phase))

describe.each(quickOrAllCases(FILES, (name) => QUICK_FILES.includes(name)))('%s', (name) => {
  test('without adapters it gives the output of the original file, bit for bit', async () => {
    const { model, branches } = branchesOf(name)
    expect(branches.length).toBeGreaterThan(0)
    const inputs = attachBranches(model, branches)
    const original = await createSession(modelBytes(name))
    const attached = await createSession(model.toBytes())
    const feeds = feedsOf(original)
    const inactiveFeeds = { ...feeds, [inputs.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]) }
    for (const [module, input] of inputs.coefficients) {
      const { n } = branches.find((branch) => branch.module === module)?.entries ?? { n: 0 }
      Object.assign(inactiveFeeds, { [input]: new Tensor('float32', new Float32Array(0), [0, n]) })
    }
    const expected = await original.run(feeds)
    const received = await attached.run(inactiveFeeds)
    for (const output of original.outputNames) expect(received[output]?.data).toEqual(expected[output]?.data)
  })

  test('with adapters each layer gives its base output + Δy', async () => {
    const { model, branches } = branchesOf(name)
    const inputs = attachBranches(model, branches)
    const nodes = model.graph
      .graphs()
      .flatMap((graph) => graph.nodes.filter(({ domain }) => domain === 'fourierft'))
    const values = new Set(nodes.flatMap(({ inputs: [x, base], outputs }) => [x, base, ...outputs]))
    const { inputs: graphInputs, outputs: graphOutputs } = model.graph
    const visibleNames = new Set([...graphInputs, ...graphOutputs].map((value) => value.name))
    for (const value of values) if (!visibleNames.has(value)) model.graph.addOutput({ name: value })
    const session = await createSession(model.toBytes())
    const feeds: Record<string, Tensor> = {
      ...feedsOf(session),
      [inputs.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
    }
    const layers = new Map<string, Layer>()
    for (const [i, { module, entries }] of branches.entries()) {
      const c = coefficients(entries.n, i)
      layers.set(
        module,
        createLayer({ name: module, shape: entries.shape, entries, coefficients: c, scaling: 1 }),
      )
      feeds[inputs.coefficients.get(module) as string] = new Tensor('float32', c, [1, entries.n])
    }
    const results = { ...feeds, ...(await session.run(feeds)) }
    expect(nodes.length).toBe(branches.length)
    for (const { module } of branches) {
      const node = nodes.find(({ inputs: [, , input] }) => input === inputs.coefficients.get(module))
      const [[x, baseOutput], [y]] = [node?.inputs, node?.outputs] as [[string, string], [string]]
      const base = results[baseOutput]?.data as Float32Array
      const expected = referenceForward(
        [layers.get(module) as Layer],
        results[x]?.data as Float32Array,
        Float64Array.from(base),
      )
      const received = results[y]?.data as Float32Array
      const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
      const error = expected.reduce((most, value, p) => Math.max(most, Math.abs(value - received[p])), 0)
      // The conformance suite's limit for level 4 in float32.
      expect(error / largest).toBeLessThan(1e-5)
      expect(received).not.toEqual(base)
    }
  })
})

test('rejects invalid branches, and leaves the model unchanged', () => {
  const { model, branches } = branchesOf('bert-torchscript')
  const before = model.toBytes()
  const [first, second] = branches as [Branch, Branch]
  const other = uniformEntries({ shape: [3, 5], n: 4, seed: 1 })
  const codeOf = (attach: () => unknown) => {
    try {
      attach()
      return undefined
    } catch (error) {
      return (error as { code?: string }).code
    }
  }
  expect(codeOf(() => attachBranches(model, []))).toBe('INVALID_OPTION')
  expect(codeOf(() => attachBranches(model, [first, { ...second, layer: first.layer }]))).toBe(
    'INVALID_OPTION',
  )
  expect(codeOf(() => attachBranches(model, [{ ...first, entries: other }]))).toBe('SHAPE_MISMATCH')
  const { outFeatures, inFeatures } = first.layer
  expect(() => attachBranches(model, [{ ...first, entries: other }])).toThrow(
    `module.0 is [${outFeatures}, ${inFeatures}] ([out, in])`,
  )
  expect(codeOf(() => attachBranches(model, [first, { ...second, module: first.module }]))).toBe(
    'INVALID_OPTION',
  )
  expect(model.toBytes()).toEqual(before)
  attachBranches(model, [first])
  expect(codeOf(() => attachBranches(model, [second]))).toBe('INVALID_STATE')

  const named = branchesOf('bert-torchscript')
  named.model.graph.addInput({ name: 'fourierft.rows', dataType: DataType.int64, dims: [1] })
  const bytes = named.model.toBytes()
  expect(codeOf(() => attachBranches(named.model, named.branches))).toBe('INVALID_STATE')
  expect(named.model.toBytes()).toEqual(bytes)
})
