/** The tensors in PEFT's files that are not coefficients: the head of a task, and weights of the base model. */
import {
  Adapter,
  createAdapter,
  createConfig,
  encodeFloats,
  type FourierFTOptions,
  readSafetensors,
  type Tensor,
} from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { useBackend } from '../__fixtures__/use-backend.js'
import { attach } from './attach.js'

const CONFIG = { targetModules: ['query'], nFrequency: 12, scaling: 40, initWeights: false }

beforeAll(() => useBackend('cpu'))

let model: tfl.Sequential
beforeEach(() => {
  const random = { kernelInitializer: tfl.initializers.glorotNormal({ seed: 1 }) }
  const biasInitializer = tfl.initializers.randomNormal({ seed: 2 })
  model = tfl.sequential({
    layers: [
      tfl.layers.embedding({ name: 'embed', inputDim: 11, outputDim: 10, inputLength: 3 }),
      tfl.layers.dense({ name: 'query', units: 8, ...random, biasInitializer }),
      tfl.layers.dense({ name: 'classifier', units: 4, ...random, biasInitializer }),
    ],
  })
})
afterEach(() => model.dispose())

const output = (): number[] =>
  tf.tidy(() => [...(model.predict(tf.tensor2d([[1, 5, 10]])) as tf.Tensor).dataSync()])
const weights = (layer: string) =>
  model
    .getLayer(layer)
    .getWeights()
    .map((weight) => ({ shape: weight.shape, values: weight.dataSync() }))
const floats = (values: ArrayLike<number>, shape: readonly number[]): Tensor => ({
  dtype: 'F32',
  shape,
  bytes: encodeFloats(Float32Array.from(values), 'F32'),
})

describe('the head of a task', () => {
  it.each(['SEQ_CLS', 'TOKEN_CLS'])('is trained and saved with the adapter: %s', async (taskType) => {
    const adapters = attach(model, { ...CONFIG, taskType })
    const adapter = await adapters.getAdapter()
    expect(adapter.config.modulesToSave).toEqual(['classifier', 'score'])
    expect([...adapter.modules.keys()]).toEqual(['query'])
    const { tensors } = readSafetensors(adapter.toBytes().model, 'model')
    const [kernel, bias] = weights('classifier')
    const transposed = tf.tidy(() => tf.transpose(tf.tensor(kernel?.values ?? [], [8, 4])).dataSync())
    expect(tensors.get('base_model.model.classifier.weight')).toEqual(floats(transposed, [4, 8]))
    expect(tensors.get('base_model.model.classifier.bias')).toEqual(floats(bias?.values ?? [], [4]))
    expect(adapters.trainableVariables).toHaveLength(3)
    adapters.detach()
  })

  it('may be absent or have another name, because PEFT adds the same names for all models', async () => {
    const adapters = attach(model)
    adapters.addAdapter('a', { ...CONFIG, taskType: 'QUESTION_ANS' })
    expect((await adapters.getAdapter('a')).savedTensors.size).toBe(0)
    expect(() =>
      adapters.addAdapter('b', { ...CONFIG, taskType: 'QUESTION_ANS', modulesToSave: ['haed'] }),
    ).toThrow('the model has no layer haed, qa_outputs')
    adapters.detach()
  })

  it('is named in the error if the model has no layer for it', async () => {
    const adapters = attach(model)
    const config = createConfig({ ...CONFIG, taskType: 'SEQ_CLS' })
    const head = { shape: [4, 8], weight: new Float32Array(32) } as const
    const adapter = createAdapter(config, { query: [8, 10] }, { savedModules: { score: head } })
    await expect(adapters.loadAdapter(adapter)).rejects.toMatchObject({
      code: 'MODULE_NOT_FOUND',
      details: { module: 'score' },
    })
    adapters.detach()
  })
})

it('rejects trained biases before any name is matched', async () => {
  const adapters = attach(model)
  const config = createConfig({ ...CONFIG, bias: 'all', modulesToSave: ['absent'] })
  const { modules } = createAdapter(config, { query: [8, 10] })
  const adapter = new Adapter({ config, modules, savedTensors: new Map([['norm.bias', floats([1], [1])]]) })
  const expected = { code: 'UNSUPPORTED', message: expect.stringContaining("trains biases (bias: 'all')") }
  await expect(adapters.loadAdapter(adapter)).rejects.toMatchObject(expected)
  expect(() => adapters.addAdapter('b', { ...CONFIG, targetModules: ['absent'], bias: 'all' })).toThrow(
    expect.objectContaining(expected),
  )
  adapters.detach()
})

describe('weights of the base model in the file', () => {
  const adapterWith = (tensors: Record<string, Tensor>, options: FourierFTOptions = {}) => {
    const config = createConfig({ ...CONFIG, ...options })
    const { modules } = createAdapter(config, { query: [8, 10] })
    const baseTensors = new Map(
      Object.entries(tensors).map(([name, tensor]) => [`base_model.model.${name}`, tensor]),
    )
    return new Adapter({ config, modules, baseTensors })
  }
  const tensorsOfModel = () => {
    const [kernel, bias] = weights('query')
    const transposed = tf.tidy(() => tf.transpose(tf.tensor(kernel?.values ?? [], [10, 8])).dataSync())
    return {
      'embed.weight': floats(weights('embed')[0]?.values ?? [], [11, 10]),
      'query.base_layer.weight': floats(transposed, [8, 10]),
      'query.base_layer.bias': floats(bias?.values ?? [], [8]),
    }
  }

  it('change nothing if they equal those of the model, and are saved again', async () => {
    const adapters = attach(model)
    await adapters.loadAdapter(adapterWith({}), { name: 'plain' })
    const plain = output()
    const loaded = adapterWith({ ...tensorsOfModel(), 'elsewhere.weight': floats([1], [1, 1]) })
    await adapters.loadAdapter(loaded, { name: 'with' })
    adapters.setAdapter('with')
    expect(output()).toEqual(plain)
    adapters.setCoefficients('with', { query: new Float32Array(12) })
    expect((await adapters.getAdapter('with')).baseTensors).toEqual(loaded.baseTensors)
    // The file is compared with the base model, not with merged kernels.
    adapters.setAdapter('plain')
    const base = tensorsOfModel()
    await adapters.mergeAdapter()
    await adapters.loadAdapter(adapterWith(base), { name: 'merged' })
    const merged = adapterWith({ 'query.base_layer.weight': tensorsOfModel()['query.base_layer.weight'] })
    await expect(adapters.loadAdapter(merged, { name: 'other' })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    })
    adapters.detach()
  })

  it.each(['embed.weight', 'query.base_layer.weight', 'query.base_layer.bias'] as const)(
    'are rejected if they are those of another base model: %s',
    async (name) => {
      const adapters = attach(model)
      const before = output()
      const tensor = tensorsOfModel()[name]
      const values = new Float32Array(tensor.shape.reduce((product, size) => product * size, 1)).fill(2)
      const larger = [tensor.shape[0] + 1, ...tensor.shape.slice(1)]
      const others = [
        floats(values, tensor.shape),
        floats(new Float32Array(larger.reduce((product, size) => product * size, 1)), larger),
      ]
      for (const other of others)
        await expect(adapters.loadAdapter(adapterWith({ [name]: other }))).rejects.toMatchObject({
          code: 'UNSUPPORTED',
          details: { tensor: `base_model.model.${name}` },
        })
      expect(adapters.listAdapters()).toEqual([])
      expect(output()).toEqual(before)
      adapters.detach()
    },
  )
})
