/** Layers in fields of custom layers: their names, adapters, training and freezing. */
import { referenceForward } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { expectDescent, meanSquaredError } from '../../__fixtures__/expect-descent.js'
import { useBackend } from '../../__fixtures__/use-backend.js'
import { attach } from '../attach.js'

const [WIDTH, N, BATCH] = [6, 12, 5]
const CONFIG = { targetModules: ['gate', 'first', 'out'], nFrequency: N, scaling: 10 }

/** `x + scale · out(first(x) · σ(gate(x)))`. `gate` is in two fields, the others in an array, and one field is the block itself. */
class Block extends tfl.layers.Layer {
  static readonly className = 'Block'
  readonly gate = tfl.layers.dense({ name: 'gate', units: WIDTH, activation: 'sigmoid' })
  readonly path = [
    tfl.layers.dense({ name: 'first', units: WIDTH }),
    tfl.layers.dense({ name: 'out', units: WIDTH }),
  ]
  readonly again = this.gate
  readonly itself = this
  readonly shared: tfl.layers.Layer | undefined
  readonly buildsParts: boolean
  scale: tfl.LayerVariable | undefined

  constructor({ shared, buildsParts = true }: { shared?: tfl.layers.Layer; buildsParts?: boolean } = {}) {
    super({ name: 'block' })
    this.shared = shared
    this.buildsParts = buildsParts
  }

  override build(shape: tfl.Shape): void {
    this.scale = this.addWeight('scale', [WIDTH], 'float32', tfl.initializers.ones())
    if (this.buildsParts) {
      for (const part of [this.gate, ...this.path]) {
        part.build(shape)
        part.built = true
      }
    }
    super.build(shape)
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const x = Array.isArray(inputs) ? inputs[0] : inputs
      const [first, out] = this.path
      const gated = tf.mul(first?.apply(x) as tf.Tensor, this.gate.apply(x) as tf.Tensor)
      return tf.add(x, tf.mul(out?.apply(gated) as tf.Tensor, (this.scale as tfl.LayerVariable).read()))
    })
  }

  override computeOutputShape(shape: tfl.Shape): tfl.Shape {
    return shape
  }

  override dispose(): ReturnType<tfl.layers.Layer['dispose']> {
    for (const { weights } of [this.gate, ...this.path]) for (const weight of weights) weight.dispose()
    return super.dispose()
  }
}

const numbers = (tensor: tf.Tensor) => Float32Array.from(tensor.dataSync())

describe.each(['cpu', 'wasm'] as const)('layers in fields, on %s', (backend) => {
  beforeAll(() => useBackend(backend))

  let block: Block
  let model: tfl.LayersModel
  let x: tf.Tensor
  let tensorsBefore: number
  beforeEach(() => {
    tensorsBefore = tf.memory().numTensors
    block = new Block()
    model = tfl.sequential({ layers: [tfl.layers.inputLayer({ inputShape: [WIDTH] }), block] })
    x = tf.randomNormal([BATCH, WIDTH], 0, 1, 'float32', 3)
  })
  afterEach(() => {
    model.dispose()
    x.dispose()
    expect(tf.memory().numTensors).toBe(tensorsBefore)
  })

  const predict = () => tf.tidy(() => numbers(model.predict(x, { batchSize: BATCH }) as tf.Tensor))
  const weights = () => [block, block.gate, ...block.path].flatMap((layer) => layer.getWeights()).map(numbers)

  it('are listed once, with the name of the containing layer before their name', () => {
    const adapters = attach(model)
    expect(adapters.shapes).toEqual({
      'block.gate': [WIDTH, WIDTH],
      'block.first': [WIDTH, WIDTH],
      'block.out': [WIDTH, WIDTH],
    })
    adapters.detach()
  })

  it('change by ΔW, can be merged, and get their original weights back, bit for bit', async () => {
    const before = weights()
    const base = predict()
    const adapters = attach(model, CONFIG)
    const adapted = predict()
    expect(adapted).not.toEqual(base)
    // The first of the three layers is compared with the reference.
    const layer = (await adapters.getAdapter()).layer('block.first', [WIDTH, WIDTH])
    const change = tf.tidy(() => {
      const y = numbers(block.path[0]?.apply(x) as tf.Tensor)
      adapters.disableAdapters()
      const y0 = numbers(block.path[0]?.apply(x) as tf.Tensor)
      adapters.enableAdapters()
      return { y, y0 }
    })
    const expected = referenceForward([layer], numbers(x), change.y0)
    const largest = Math.max(...expected.map(Math.abs))
    for (const [i, value] of change.y.entries()) {
      // Each output sums WIDTH products, whose factors sum 2·N products, in float32.
      expect(Math.abs(value - expected[i])).toBeLessThanOrEqual(
        (WIDTH + 2 * N + 4) * 2 ** -24 * largest * WIDTH,
      )
    }
    await adapters.mergeAdapter()
    expect(weights()).not.toEqual(before)
    adapters.unmergeAdapter()
    expect(weights()).toEqual(before)
    expect(predict()).toEqual(adapted)
    adapters.detach()
    expect(predict()).toEqual(base)
  })

  it('train only their coefficients, in fit and in a custom training loop', async () => {
    const before = weights()
    const adapters = attach(model, CONFIG)
    const rate = 0.1
    const optimizer = tf.train.sgd(rate)
    model.compile({ optimizer, loss: 'meanSquaredError' })
    const y = tf.randomNormal([BATCH, WIDTH], 0, 1, 'float32', 4)
    await expectDescent({
      variables: adapters.trainableVariables,
      rate,
      loss: () => meanSquaredError(y, model.apply(x) as tf.Tensor),
      train: () => model.fit(x, y, { epochs: 1, verbose: 0 }),
    })
    const loopOptimizer = tf.train.sgd(0.01)
    const trained = numbers(adapters.coefficients('default', 'block.gate'))
    loopOptimizer.minimize(() => tf.losses.meanSquaredError(y, model.apply(x) as tf.Tensor) as tf.Scalar)
    expect(numbers(adapters.coefficients('default', 'block.gate'))).not.toEqual(trained)
    expect(weights()).toEqual(before)
    adapters.detach()
    optimizer.dispose()
    loopOptimizer.dispose()
    y.dispose()
  })

  it('can have a different adapter for each row', () => {
    const adapters = attach(model)
    adapters.addAdapter('a', CONFIG, { initialSeed: 1 })
    adapters.addAdapter('b', { ...CONFIG, randomLocSeed: 6 }, { initialSeed: 2 })
    const rows = ['b', null, 'a', 'b', 'a']
    const mixed = adapters.withAdapterPerRow(rows, predict)
    for (const [row, name] of rows.entries()) {
      if (name === null) adapters.disableAdapters()
      else {
        adapters.enableAdapters()
        adapters.setAdapter(name)
      }
      const single = predict().subarray(row * WIDTH, (row + 1) * WIDTH)
      const actual = mixed.subarray(row * WIDTH, (row + 1) * WIDTH)
      // Three layers in sequence, each with the rounding errors of the test above.
      const largest = Math.max(1, ...single.map(Math.abs))
      for (const [i, value] of actual.entries()) {
        expect(Math.abs(value - single[i])).toBeLessThanOrEqual(
          3 * (WIDTH + 2 * N + 4) * 2 ** -24 * largest * WIDTH,
        )
      }
    }
    adapters.detach()
  })

  it('do not include the custom layer, whose own weights cannot have adapters', () => {
    const adapters = attach(model)
    expect(() => adapters.addAdapter('a', { targetModules: ['block'], nFrequency: N })).toThrow(
      expect.objectContaining({
        code: 'UNSUPPORTED',
        message: expect.stringContaining("'block' is a Block, and only these"),
      }),
    )
    adapters.detach()
  })
})

describe('layers in fields', () => {
  beforeAll(() => useBackend('cpu'))

  it('keep their names if they are also layers of the model', () => {
    const shared = tfl.layers.dense({ name: 'shared', units: WIDTH, inputShape: [WIDTH] })
    const block = new Block({ shared })
    const input = tfl.input({ shape: [WIDTH] })
    const model = tfl.model({
      inputs: input,
      outputs: shared.apply(block.apply(input)) as tfl.SymbolicTensor,
    })
    const adapters = attach(model)
    expect(Object.keys(adapters.shapes).sort()).toEqual(['block.first', 'block.gate', 'block.out', 'shared'])
    adapters.detach()
    model.dispose()
  })

  it('can have adapters after the first run of the model has created their weights', () => {
    const block = new Block({ buildsParts: false })
    const model = tfl.sequential({ layers: [tfl.layers.inputLayer({ inputShape: [WIDTH] }), block] })
    const early = attach(model)
    expect(() => early.addAdapter('default', CONFIG)).toThrow(
      expect.objectContaining({
        code: 'UNSUPPORTED',
        message: expect.stringContaining('run the model once'),
      }),
    )
    early.detach()
    tf.tidy(() => model.predict(tf.zeros([1, WIDTH])))
    const adapters = attach(model, CONFIG)
    expect(Object.keys(adapters.shapes)).toEqual(['block.gate', 'block.first', 'block.out'])
    adapters.detach()
    model.dispose()
  })
})
