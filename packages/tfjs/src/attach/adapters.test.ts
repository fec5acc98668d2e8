import type { AdapterSubject } from '@fourierft/conformance'
import { testAdapters } from '@fourierft/conformance/vitest'
import { createAdapter, createConfig, FourierFTError } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import type * as tfl from '@tensorflow/tfjs-layers'
import { beforeAll, describe, expect, it } from 'vitest'
import { makeModel } from '../__fixtures__/two-layer-model.js'
import { useBackend } from '../__fixtures__/use-backend.js'
import { attach } from './attach.js'

const input = () => tf.randomUniform([2, 6], -1, 1, 'float32', 4)

async function createSubject(): Promise<AdapterSubject> {
  const model = makeModel()
  const adapters = attach(model)
  const predict = () => tf.tidy(() => Float32Array.from((model.predict(input()) as tf.Tensor).dataSync()))
  return {
    adapters,
    call: async () => predict(),
    async callDuring(action) {
      const output = predict()
      await action()
      return output
    },
    train(steps, after) {
      model.compile({ optimizer: tf.train.sgd(0.01), loss: 'meanSquaredError' })
      return model.fit(input(), tf.ones([2, 4]), {
        epochs: steps,
        verbose: 0,
        callbacks: { onEpochEnd: async (epoch) => void (await after(epoch)) },
      })
    },
    writeWeights: () => model.getLayer('linear').setWeights([tf.fill([6, 5], 0.5)]),
    end() {
      adapters.detach()
      model.dispose()
    },
  }
}

describe.each(['cpu', 'wasm'] as const)('adapters on %s', (backend) => {
  beforeAll(() => useBackend(backend))

  testAdapters(() => ({
    layer: { module: 'linear', shape: [5, 6] },
    head: { module: 'head', shape: [4, 5], hasBias: true },
    hasHeadPerRow: false,
    create: createSubject,
  }))
})

describe('the weights of an attached model', () => {
  beforeAll(() => useBackend('cpu'))

  const config = { targetModules: ['linear'], nFrequency: 6, scaling: 30 }
  const codeOf = (run: () => unknown) => {
    try {
      run()
    } catch (error) {
      return FourierFTError.isInstance(error) ? error.code : error
    }
    return 'nothing thrown'
  }
  const kernel = (model: tfl.LayersModel) => [...model.getWeights()[0].dataSync()]

  it('cannot be written by setWeights and loadWeights while adapters are merged, and can afterwards', async () => {
    const model = makeModel()
    const adapters = attach(model, config)
    await adapters.mergeAdapter()
    const merged = kernel(model)
    const weights = model.getWeights().map((weight) => tf.onesLike(weight))
    const named = Object.fromEntries(model.weights.map((weight, i) => [weight.originalName, weights[i]]))
    expect(codeOf(() => model.setWeights(weights))).toBe('INVALID_STATE')
    expect(codeOf(() => model.loadWeights(named))).toBe('INVALID_STATE')
    expect(codeOf(() => model.getLayer('linear').setWeights(weights.slice(0, 1)))).toBe('INVALID_STATE')
    expect(kernel(model)).toEqual(merged)
    adapters.unmergeAdapter()
    model.setWeights(weights)
    await adapters.mergeAdapter()
    adapters.detach()
    expect(kernel(model)).toEqual(Array.from({ length: 30 }, () => 1))
  })

  it('keep values that are assigned to a variable while adapters are merged', async () => {
    const model = makeModel()
    const adapters = attach(model, config)
    await adapters.mergeAdapter()
    const [variable] = model.getLayer('linear').weights.map((weight) => weight.read() as tf.Variable)
    variable?.assign(tf.fill([6, 5], 2))
    adapters.unmergeAdapter()
    adapters.detach()
    expect(kernel(model)).toEqual(Array.from({ length: 30 }, () => 2))
  })

  it('cannot be made trainable: the flag would have no effect', () => {
    const model = makeModel()
    const adapters = attach(model, config)
    const head = model.getLayer('head')
    expect(codeOf(() => Object.assign(head, { trainable: true }))).toBe('INVALID_STATE')
    expect(codeOf(() => Object.assign(model, { trainable: true }))).toBe('INVALID_STATE')
    expect(head.trainable).toBe(true)
    head.trainable = false
    expect(head.trainableWeights).toEqual([])
    adapters.detach()
    head.trainable = true
    expect(head.trainableWeights).toHaveLength(2)
  })

  it('do not change if an adapter is deleted while it is being merged', async () => {
    const model = makeModel()
    const adapters = attach(model, config)
    const before = kernel(model)
    const merge = adapters.mergeAdapter()
    adapters.deleteAdapter('default')
    await expect(merge).rejects.toMatchObject({ code: 'INVALID_STATE' })
    expect(kernel(model)).toEqual(before)
  })
})

describe('validation during a training', () => {
  beforeAll(() => useBackend('cpu'))

  const config = { targetModules: ['linear'], nFrequency: 6, scaling: 30 }

  it.each(['fit', 'fitDataset'])(
    'by %s uses the trained adapter, even if another one becomes active',
    async (method) => {
      const losses = []
      for (const switches of [false, true]) {
        const model = makeModel()
        const adapters = attach(model, config)
        const other = createAdapter(createConfig({ ...config, randomLocSeed: 9 }), { linear: [5, 6] })
        await adapters.loadAdapter(other, { name: 'other' })
        model.compile({ optimizer: tf.train.sgd(0.01), loss: 'meanSquaredError' })
        const [x, y] = [input(), tf.ones([2, 4])]
        const callbacks = { onBatchEnd: async () => adapters.setAdapter(switches ? 'other' : 'default') }
        const args = { epochs: 2, verbose: 0, validationData: [x, y] as [tf.Tensor, tf.Tensor], callbacks }
        const { history } =
          method === 'fit'
            ? await model.fit(x, y, args)
            : await model.fitDataset(datasetOf(x, y), { ...args, verbose: 0, batchesPerEpoch: 1 })
        losses.push(history.val_loss)
      }
      expect(losses[0]).toHaveLength(2)
      expect(losses[1]).toEqual(losses[0])
    },
  )
})

type Dataset = Parameters<tfl.LayersModel['fitDataset']>[0]

/** A dataset of `tf.data` that repeats one batch. */
function datasetOf(xs: tf.Tensor, ys: tf.Tensor): Dataset {
  const iterator = async () => ({
    next: async () => ({ done: false, value: { xs: xs.clone(), ys: ys.clone() } }),
  })
  return { iterator, size: null } as unknown as Dataset
}
