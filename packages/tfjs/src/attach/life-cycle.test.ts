/** The parts of the life cycle that the conformance suite does not test: several layers, the user's model, tensors. */
import { createAdapter, createConfig } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import type * as tfl from '@tensorflow/tfjs-layers'
import { beforeAll, describe, expect, it } from 'vitest'
import { makeModel } from '../__fixtures__/two-layer-model.js'
import { useBackend } from '../__fixtures__/use-backend.js'
import type { Adapters } from './adapters.js'
import { attach } from './attach.js'

beforeAll(() => useBackend('cpu'))

const CONFIG = { targetModules: ['linear', 'head'], nFrequency: 6, scaling: 30 }

const otherAdapter = (randomLocSeed: number) =>
  createAdapter(createConfig({ ...CONFIG, randomLocSeed }), { linear: [5, 6], head: [4, 5] })

function predict(model: tfl.LayersModel): number[] {
  return tf.tidy(() => {
    const x = tf.randomUniform([2, 6], -1, 1, 'float32', 4)
    return [...(model.predict(x) as tf.Tensor).dataSync()]
  })
}

/** Sets the coefficients of both layers to one number. */
function fill(adapters: Adapters, value: number): void {
  const coefficients = new Float32Array(6).fill(value)
  adapters.setCoefficients('default', { linear: coefficients, head: coefficients })
}

const INVALID_STATE = expect.objectContaining({ code: 'INVALID_STATE' })

describe('getAdapter', () => {
  it('reads all layers at the same moment', async () => {
    const adapters = attach(makeModel(), { ...CONFIG, targetModules: ['linear'], modulesToSave: ['head'] })
    const [, kernel, bias] = adapters.trainableVariables
    const assign = (value: number) => {
      adapters.setCoefficients('default', { linear: new Float32Array(6).fill(value) })
      kernel?.assign(tf.fill([5, 4], value))
      bias?.assign(tf.fill([4], value))
    }
    assign(1)
    const reading = adapters.getAdapter()
    assign(2)
    const { modules, savedTensors } = await reading
    const read = [
      ...Array.from(modules.values(), ({ coefficients }) => [...coefficients]),
      ...Array.from(savedTensors.values(), ({ bytes }) => [...new Float32Array(bytes.slice().buffer)]),
    ]
    expect(read.map((values) => [...new Set(values)])).toEqual([[1], [1], [1]])
  })

  it('reads an adapter that is deleted during the read', async () => {
    const adapters = attach(makeModel(), CONFIG)
    fill(adapters, 3)
    const reading = adapters.getAdapter()
    adapters.deleteAdapter('default')
    const { modules } = await reading
    expect(Array.from(modules.values(), ({ coefficients }) => coefficients[5])).toEqual([3, 3])
  })
})

describe('a merge', () => {
  it('is rejected if coefficients are set during the merge', async () => {
    const adapters = attach(makeModel(), CONFIG)
    const merge = adapters.mergeAdapter()
    fill(adapters, 2)
    await expect(merge).rejects.toEqual(INVALID_STATE)
    await adapters.mergeAdapter()
    expect(() => fill(adapters, 3)).toThrow(INVALID_STATE)
  })

  it('is rejected if weights are written during the merge', async () => {
    const model = makeModel()
    const adapters = attach(model, CONFIG)
    const merges = []
    // Each attempt writes one microtask later, until the merge finishes before the write.
    for (let turns = 0, isLate = false; !isLate; turns++) {
      const merge = adapters.mergeAdapter().then(
        () => 'merged',
        (error) => error.code,
      )
      for (let i = 0; i < turns; i++) await Promise.resolve()
      isLate = adapters.mergedAdapters.length > 0
      if (!isLate) model.getLayer('linear').setWeights([tf.fill([6, 5], turns)])
      const result = await merge
      merges.push(result)
      const merged = predict(model)
      adapters.unmergeAdapter()
      const expected = predict(model)
      if (result === 'merged')
        for (const [i, value] of merged.entries()) expect(value).toBeCloseTo(expected[i], 3)
    }
    expect(merges).toContain('INVALID_STATE')
  })

  it('is rejected if float32 cannot hold a weight, and changes nothing', async () => {
    const model = makeModel()
    const adapters = attach(model, CONFIG)
    const tensors = tf.memory().numTensors
    const before = predict(model)
    adapters.setScale('default', 1e60)
    await expect(adapters.mergeAdapter()).rejects.toMatchObject({ code: 'NOT_FINITE' })
    adapters.setScale('default', 1)
    expect(predict(model)).toEqual(before)
    expect(adapters.mergedAdapters).toEqual([])
    expect(tf.memory().numTensors).toBe(tensors)
  })

  it('is not copied to an adapter that is added while it is merged', async () => {
    const model = makeModel()
    const adapters = attach(model, CONFIG)
    adapters.disableAdapters()
    const base = predict(model)
    adapters.enableAdapters()
    await adapters.mergeAdapter()
    adapters.addAdapter('withHead', {
      ...CONFIG,
      targetModules: ['linear'],
      modulesToSave: ['head'],
      initWeights: true,
    })
    adapters.setAdapter('withHead')
    for (const [i, value] of predict(model).entries()) expect(value).toBeCloseTo(base[i], 5)
  })
})

describe('an evaluation that waits between batches', () => {
  const evaluate = async (during: (adapters: Adapters) => unknown) => {
    const model = makeModel()
    const adapters = attach(model, CONFIG)
    fill(adapters, 1)
    await adapters.loadAdapter(otherAdapter(3), { name: 'other' })
    model.compile({ optimizer: 'sgd', loss: 'meanSquaredError' })
    let batches = 0
    const next = async () => {
      if (batches === 1) await during(adapters)
      batches++
      const value = { xs: tf.randomUniform([2, 6], -1, 1, 'float32', 4), ys: tf.ones([2, 4]) }
      return { done: batches > 3, value }
    }
    const dataset = { iterator: async () => ({ next }), size: null } as unknown
    const loss = await model.evaluateDataset(dataset as Parameters<typeof model.evaluateDataset>[0], {
      batches: 3,
    })
    return (loss as tf.Scalar).dataSync()[0]
  }

  it('keeps the adapters that were active when it began', async () => {
    const expected = await evaluate(() => undefined)
    expect(await evaluate((adapters) => adapters.setAdapter('other'))).toBe(expected)
    expect(await evaluate((adapters) => adapters.disableAdapters())).toBe(expected)
    expect(await evaluate((adapters) => adapters.setScale('default', 0.5))).toBe(expected)
  })

  it.each<[string, (adapters: Adapters) => unknown]>([
    ['merged', (adapters) => adapters.mergeAdapter()],
    ['deleted', (adapters) => adapters.deleteAdapter('default')],
  ])('is rejected if an adapter is %s during the evaluation', async (_, during) => {
    await expect(evaluate(during)).rejects.toEqual(INVALID_STATE)
  })
})

describe('after detach or dispose', () => {
  it.each<[string, (adapters: Adapters) => unknown]>([
    ['coefficients', (adapters) => adapters.coefficients('default', 'linear')],
    ['setCoefficients', (adapters) => adapters.setCoefficients('default', {})],
    ['scaleOf', (adapters) => adapters.scaleOf('default')],
  ])('%s throws INVALID_STATE after detach', (_, method) => {
    const adapters = attach(makeModel(), CONFIG)
    adapters.detach()
    expect(() => method(adapters)).toThrow(INVALID_STATE)
  })

  it('methods throw INVALID_STATE if the user disposed of the model, and detach frees the adapters', async () => {
    const tensors = tf.memory().numTensors
    const model = makeModel()
    const adapters = attach(model, CONFIG)
    model.dispose()
    expect(() => adapters.setAdapter('default')).toThrow(INVALID_STATE)
    expect(() => adapters.addAdapter('other', CONFIG)).toThrow(INVALID_STATE)
    await expect(adapters.mergeAdapter()).rejects.toEqual(INVALID_STATE)
    await expect(adapters.loadAdapter(otherAdapter(3), { name: 'other' })).rejects.toEqual(INVALID_STATE)
    adapters.detach()
    expect(tf.memory().numTensors).toBe(tensors)
  })

  it('loads, merges and reads that have not finished leave no tensors', async () => {
    const model = makeModel()
    predict(model)
    const tensors = tf.memory().numTensors
    for (let turns = 0; turns < 8; turns++) {
      const adapters = attach(model, CONFIG)
      await adapters.loadAdapter(otherAdapter(3), { name: 'other' })
      const pending = [
        adapters.getAdapter('other'),
        adapters.mergeAdapter(['default', 'other']),
        adapters.loadAdapter(otherAdapter(4), { name: 'late' }),
      ]
      const settled = Promise.allSettled(pending)
      for (let i = 0; i < turns; i++) await Promise.resolve()
      adapters.detach()
      await settled
      expect(tf.memory().numTensors).toBe(tensors)
    }
  })
})
