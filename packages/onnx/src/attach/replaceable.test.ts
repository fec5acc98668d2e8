/** Layers whose weight and bias are replaced by an adapter: as graph inputs, and baked, in ONNX Runtime. */
import { uniformEntries } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { modelBytes, quickOrAllCases } from '../__fixtures__/model-files.js'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { biasOf } from '../layers/layer-bias.js'
import type { LinearLayer } from '../layers/linear-layer.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { outputNodeOf } from '../layers/quantised-pair.js'
import { type OnnxModel, readModel } from '../model/model.js'
import { attachBranches } from './attach.js'
import { bakeBranches } from './bake.js'
import { detachBranches } from './detach.js'
import type { WeightInputs } from './replaceable-layer.js'

function layerOf(model: OnnxModel, module: string): LinearLayer {
  const layer = findLinearLayers(model).find((candidate) => candidate.module?.endsWith(module))
  if (!layer) throw new Error(`the fixture has no ${module}`)
  return layer
}

const ids = BigInt64Array.from({ length: 8 }, (_, i) => BigInt((3 * i) % 20))
const feeds = { x: new Tensor('int64', ids, [1, 8]) }

async function outputOf(bytes: Uint8Array, inputs: Record<string, Tensor>): Promise<Float32Array> {
  const session = await createSession(bytes)
  const results = await session.run(inputs)
  await session.release()
  return results[session.outputNames[0]]?.data as Float32Array
}

const numbers = (length: number, phase: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(1.7 * i + phase))

function transposed(weight: Float32Array, [rows, columns]: readonly [number, number]): Float32Array {
  return Float32Array.from({ length: weight.length }, (_, i) => {
    const [c, r] = [Math.floor(i / rows), i % rows]
    return weight[r * columns + c]
  })
}

/** Layers with the bias in a Gemm, with the bias in an Add, and without a bias; plain and quantised. */
const CASES = [
  ['bert-torchscript', 'classifier'],
  ['bert-torchscript', 'attention.output.dense'],
  ['bert-dynamo', 'classifier'],
  ['bert-q8', 'classifier'],
  ['bert-q4', 'intermediate.dense'],
  ['gpt2-torchscript', 'lm_head'],
] as const

describe.each(
  quickOrAllCases(CASES, ([, module]) => module !== 'lm_head' && module !== 'intermediate.dense'),
)('%s %s', (name, module) => {
  const bytes = modelBytes(name)

  function attached() {
    const model = readModel(bytes)
    const layer = layerOf(model, module)
    const { outFeatures, inFeatures } = layer
    const hasBias = biasOf(layer) !== undefined
    // The layer also has a branch.
    const entries = uniformEntries({ shape: [outFeatures, inFeatures], n: 3, seed: 1 })
    const inputs = attachBranches(model, [{ module: 'branch', layer, entries }], {
      replaceable: [{ module: 'head', layer }],
    })
    const feedsWith = (weight: Float32Array, bias: Float32Array): Record<string, Tensor> => {
      const names = inputs.weights.get('head') as WeightInputs
      const heads = weight.length === 0 ? 0 : 1
      return {
        ...feeds,
        [inputs.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
        [inputs.coefficients.get('branch') as string]: new Tensor('float32', new Float32Array(0), [0, 3]),
        [names.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
        [names.weight]: new Tensor('float32', weight, [heads, inFeatures, outFeatures]),
        ...(names.bias ? { [names.bias]: new Tensor('float32', bias, [heads, outFeatures]) } : {}),
      }
    }
    return { model, hasBias, shape: [outFeatures, inFeatures] as const, feedsWith }
  }

  test('without weights it gives the original output, bit for bit; with weights, the output of a model with these weights', async () => {
    const { model, hasBias, shape, feedsWith } = attached()
    const file = model.toBytes()
    const original = await outputOf(bytes, feeds)
    expect(await outputOf(file, feedsWith(new Float32Array(), new Float32Array()))).toEqual(original)

    const weight = numbers(shape[0] * shape[1], 1)
    const bias = numbers(shape[0], 2)
    const received = await outputOf(file, feedsWith(transposed(weight, shape), bias))
    expect(received).not.toEqual(original)
    const bakedModel = readModel(bytes)
    const layer = layerOf(bakedModel, module)
    const whole = { weight, ...(hasBias ? { bias } : {}) }
    if (name.endsWith('q8') || name.endsWith('q4')) {
      await expect(bakeBranches(bakedModel, [{ layer, adapters: [], whole }])).rejects.toThrow('is quantised')
      return
    }
    await bakeBranches(bakedModel, [{ layer, adapters: [], whole }])
    const expected = await outputOf(bakedModel.toBytes(), feeds)
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    const error = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - received[i])), 0)
    // Both outputs sum the same products, at most 40, in different orders; at most two layers with LayerNorm follow.
    expect(error / largest).toBeLessThan(4 * 40 * 2 ** -24)
  })

  test('detaching gives the original bytes', () => {
    const { model } = attached()
    const again = readModel(model.toBytes())
    detachBranches(again)
    expect(Buffer.compare(again.toBytes(), bytes)).toBe(0)
  })
})

const HEADS = [
  ['bert-torchscript', 'classifier'],
  ['bert-dynamo', 'classifier'],
  ['bert-q8', 'classifier'],
  ['gpt2-torchscript', 'lm_head'],
  ['bert-softmax', 'classifier'],
] as const

describe.each(quickOrAllCases(HEADS, ([name]) => name !== 'bert-dynamo' && name !== 'gpt2-torchscript'))(
  '%s %s with another number of labels',
  (name, module) => {
    const bytes = name === 'bert-softmax' ? withSoftmax() : modelBytes(name)
    const attached = () => {
      const model = readModel(bytes)
      const layer = layerOf(model, module)
      return {
        model,
        layer,
        inputs: attachBranches(model, [], { replaceable: [{ module, layer, hasFreeWidth: true }] }),
      }
    }

    test.each([1, 2, 11])(
      '%d labels: gives the output of the model with that head; without weights, the original output, bit for bit',
      async (labels) => {
        const { model, layer, inputs } = attached()
        const { inFeatures } = layer
        const hasBias = biasOf(layer) !== undefined
        const names = inputs.weights.get(module) as WeightInputs
        const feedsWith = (weight: Float32Array, bias: Float32Array, heads: number) => ({
          ...feeds,
          [inputs.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
          [names.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
          [names.weight]: new Tensor('float32', weight, [heads, inFeatures, labels]),
          ...(names.bias && { [names.bias]: new Tensor('float32', bias, [heads, labels]) }),
        })
        const file = model.toBytes()
        expect(await outputOf(file, feedsWith(new Float32Array(), new Float32Array(), 0))).toEqual(
          await outputOf(bytes, feeds),
        )
        const weight = numbers(labels * inFeatures, 1)
        const bias = numbers(labels, 2)
        const received = await outputOf(file, feedsWith(transposed(weight, [labels, inFeatures]), bias, 1))

        const bakedModel = readModel(bytes)
        const whole = { weight, ...(hasBias ? { bias } : {}) }
        const baked = bakeBranches(bakedModel, [{ layer: layerOf(bakedModel, module), adapters: [], whole }])
        if (name === 'bert-q8') return await expect(baked).rejects.toThrow('is quantised')
        await baked
        expect(bakedModel.graph.outputs[0]?.dims?.at(-1)).toBe(labels)
        const before = readModel(bytes).graph.initializers
        const after = [...bakedModel.graph.initializers.keys()]
        // The old head is gone.
        expect(after).toHaveLength(before.size)
        const expected = await outputOf(bakedModel.toBytes(), feeds)
        expect(received.length).toBe(expected.length)
        expect(received.length % labels).toBe(0)
        const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
        const error = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - received[i])), 0)
        // Both outputs sum the same products, at most 40, in different orders.
        expect(error / largest).toBeLessThan(4 * 40 * 2 ** -24)
      },
    )

    test('the attached file declares no fixed width, and detaching gives the original bytes', () => {
      const { model } = attached()
      const again = readModel(model.toBytes())
      expect(again.graph.outputs[0]?.dims?.at(-1)).toBeTypeOf('string')
      detachBranches(again)
      expect(Buffer.compare(again.toBytes(), bytes)).toBe(0)
    })
  },
)

/** Returns a model in which a Softmax reads the output of the classifier. The file declares the shapes of both. */
function withSoftmax(): Uint8Array {
  const bytes = modelBytes('bert-torchscript')
  const model = readModel(bytes)
  const { graph } = model
  const [output] = graph.outputs
  const node = outputNodeOf(layerOf(model, 'classifier'))
  if (!output?.dims) throw new Error('the fixture has no shape')
  node.setOutput(0, 'scores')
  graph.insertAfter(node, [
    { opType: 'Softmax', inputs: ['scores'], outputs: [output.name], name: 'softmax' },
  ])
  return model.toBytes()
}

test('rejects another number of features if the graph depends on it', async () => {
  const bytes = modelBytes('bert-torchscript')
  const model = readModel(bytes)
  const layer = layerOf(model, 'intermediate.dense')
  const replaceable = [{ module: 'm', layer, hasFreeWidth: true }]
  expect(() => attachBranches(model, [], { replaceable })).toThrow(
    expect.objectContaining({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('32 output features, so that number cannot change'),
    }),
  )
  const head = layerOf(model, 'classifier')
  const fiveLabels = (bias?: Float32Array) => ({ weight: new Float32Array(5 * head.inFeatures), bias })
  for (const [resized, whole] of [
    [layer, { weight: new Float32Array(5 * layer.inFeatures), bias: new Float32Array(5) }],
    [head, fiveLabels()],
    [head, { weight: new Float32Array(5 * head.inFeatures + 1), bias: new Float32Array(5) }],
    [head, fiveLabels(new Float32Array(4))],
  ] as const)
    await expect(bakeBranches(model, [{ layer: resized, adapters: [], whole }])).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
    })
  expect(Buffer.compare(model.toBytes(), bytes)).toBe(0)
})

test('rejects invalid replacements, and leaves the model unchanged', async () => {
  const bytes = modelBytes('bert-torchscript')
  const model = readModel(bytes)
  const layer = layerOf(model, 'classifier')
  const options = { replaceable: ['a', 'b'].map((module) => ({ module, layer })) }
  expect(() => attachBranches(model, [], options)).toThrow('the modules a and b are one layer')
  const whole = { weight: new Float32Array(3) }
  await expect(bakeBranches(model, [{ layer, adapters: [], whole }])).rejects.toMatchObject({
    code: 'SHAPE_MISMATCH',
  })
  const weight = new Float32Array(layer.outFeatures * layer.inFeatures)
  const bias = new Float32Array(1)
  await expect(bakeBranches(model, [{ layer, adapters: [], whole: { weight, bias } }])).rejects.toMatchObject(
    {
      code: 'SHAPE_MISMATCH',
    },
  )
  expect(Buffer.compare(model.toBytes(), bytes)).toBe(0)
})
