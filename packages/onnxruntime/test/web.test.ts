/** onnxruntime-web's wasm, in Node, compared with the portable function in onnxruntime-node. */
import { createAdapter, createConfig } from '@fourierft/core'
import { addHead, headFor, readModel } from '@fourierft/onnx'
import * as node from 'onnxruntime-node'
import * as web from 'onnxruntime-web'
import { expect, test } from 'vitest'
import { SHAPES, twoLayers } from '../src/__fixtures__/two-layers.js'
import { createSession } from '../src/create-session.js'
import { createTrainer, crossEntropy } from '../src/index.js'
import { smallModel } from '../src/trainer/__fixtures__/small-model.js'

test('wasm: switches and disables adapters, applies an adapter and a replaced layer for each row, and keeps 50 concurrent runs apart', async () => {
  web.env.wasm.numThreads = 1
  const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
  const [a, b] = [1, 2].map((initialSeed) => createAdapter(config, SHAPES, { initialSeed }))
  const [first, second] = Object.keys(SHAPES) as (keyof typeof SHAPES)[]
  const [out, inFeatures] = SHAPES[second]
  const [c, d] = [3, 4].map((initialSeed) => {
    const weight = Float32Array.from({ length: out * inFeatures }, (_, i) => Math.sin(initialSeed * i))
    return createAdapter(
      createConfig({ nFrequency: 24, scaling: 150, targetModules: [first], modulesToSave: [second] }),
      { [first]: SHAPES[first] },
      { initialSeed, savedModules: { [second]: { shape: SHAPES[second], weight } } },
    )
  })
  const adapters = { a, b, c, d }
  const x = Float32Array.from({ length: 2 * 3 * 12 }, (_, i) => Math.sin(0.7 * i))
  const inNode = await createSession(twoLayers(), { ort: node, native: false, adapters })
  const inWasm = await createSession(twoLayers(), { ort: web, adapters })
  expect(inWasm.nativeProblem).toContain('onnxruntime-node')
  const base = await web.InferenceSession.create(twoLayers())

  const feeds = { x: new web.Tensor('float32', x, [2, 3, 12]) }
  const outputs = async (perRow?: (string | null)[]) => {
    const options = perRow ? { adapters: perRow } : {}
    const received = await inWasm.run(feeds, options)
    const expected = await inNode.run({ x: new node.Tensor('float32', x, [2, 3, 12]) }, options)
    return [received.y?.data, expected.y?.data] as [Float32Array, Float32Array]
  }
  for (const perRow of [undefined, ['a', null], ['b', 'a'], ['c', 'd'], ['d', null], ['a', 'c']]) {
    const [received, expected] = await outputs(perRow)
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    const error = received.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0)
    // The conformance suite's limit for level 4 in float32.
    expect(error / largest).toBeLessThan(1e-5)
  }
  const expected = new Map<string, unknown>()
  for (const name of ['a', 'b']) {
    inWasm.setAdapter(name)
    expected.set(name, (await inWasm.run(feeds)).y?.data)
  }
  expect(expected.get('a')).not.toEqual(expected.get('b'))
  const runs = Array.from({ length: 50 }, (_, i) => {
    const name = i % 2 === 0 ? 'a' : 'b'
    inWasm.setAdapter(name)
    return inWasm.run(feeds).then((results) => ({ name, data: results.y?.data }))
  })
  for (const { name, data } of await Promise.all(runs)) expect(data).toEqual(expected.get(name))
  inWasm.disableAdapters()
  expect((await inWasm.run(feeds)).y?.data).toEqual((await base.run(feeds)).y?.data)
  await inWasm.release()
  await inNode.release()
})

test('wasm: serves and trains a head that was added to the model, as onnxruntime-node does', async () => {
  const model = readModel(smallModel())
  addHead(model, headFor('text-classification', { model_type: 'bert' }, model.graph.outputs))
  const [, features] = Object.values(SHAPES).map(([out]) => out)
  const weights = (out: number, inFeatures: number) => ({
    shape: [out, inFeatures] as const,
    weight: Float32Array.from({ length: out * inFeatures }, (_, i) => 0.3 * Math.sin(i * i)),
    bias: new Float32Array(out).fill(0.1),
  })
  const modulesToSave = ['bert.pooler.dense', 'classifier']
  const config = createConfig({ nFrequency: 24, targetModules: Object.keys(SHAPES), modulesToSave })
  const savedModules = { 'bert.pooler.dense': weights(features, features), classifier: weights(3, features) }
  const adapter = createAdapter(config, SHAPES, { initialSeed: 1, savedModules })
  const x = Float32Array.from({ length: 2 * 3 * 12 }, (_, i) => Math.sin(0.7 * i))
  const results = []
  for (const ort of [node, web]) {
    const session = await createSession(model.toBytes(), { ort, native: false, adapters: { mine: adapter } })
    const feeds = { x: new ort.Tensor('float32', x, [2, 3, 12]) }
    const { logits } = await session.run(feeds)
    const trainer = await createTrainer(session, { adapter: 'mine', loss: crossEntropy('logits') })
    const labels = new ort.Tensor('int64', BigInt64Array.of(0n, 2n), [2])
    const { loss, gradientNorm } = await trainer.step({ feeds, labels })
    results.push([...(logits.data as Float32Array), loss, gradientNorm])
    expect(logits.dims).toEqual([2, 3])
    await session.release()
  }
  const [expected = [], received = []] = results
  for (const [i, value] of expected.entries())
    expect(Math.abs((received[i] as number) - value)).toBeLessThan(1e-5 * Math.max(1, Math.abs(value)))
})
