/** Compares AdamW with PyTorch's trajectories (the vectors of `@fourierft/core`) and with core's AdamW, and tests it as a `tf.Optimizer`. */
import { readFileSync } from 'node:fs'
import { clipGradientNorm, cosineSchedule, createAdamW, type ScheduleOptions } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { meanSquaredError } from './__fixtures__/expect-descent.js'
import { useBackend } from './__fixtures__/use-backend.js'
import { AdamW } from './adamw.js'
import { attach } from './attach/attach.js'

interface Vectors {
  readonly problem: {
    readonly starts: number[][]
    readonly targets: number[][]
    readonly curvatures: number[][]
  }
  readonly adamw: readonly {
    readonly precision: 'float32' | 'float64'
    readonly options: { learningRate: number; betas: [number, number]; epsilon: number; weightDecay: number }
    readonly schedule: ScheduleOptions | null
    readonly clip: number | null
    readonly trajectory: readonly { readonly step: number; readonly parameters: number[][] }[]
  }[]
}

const vectorsFile = new URL('../../core/src/train/__fixtures__/vectors.json', import.meta.url)
const vectors = JSON.parse(readFileSync(vectorsFile, 'utf8')) as Vectors
const { starts, targets, curvatures } = vectors.problem

/** The limit for every float32 trajectory, relative to the largest parameter; as in `@fourierft/core`. */
const LIMIT = 1e-4

/** Unit roundoff of float32. */
const U = 2 ** -24

const CONFIG = { targetModules: ['query', 'value'], nFrequency: 12, scaling: 40, randomLocSeed: 7 }

function makeModel(): tfl.Sequential {
  const kernelInitializer = tfl.initializers.glorotNormal({ seed: 1 })
  return tfl.sequential({
    layers: [
      tfl.layers.dense({ name: 'query', units: 8, inputShape: [10], activation: 'relu', kernelInitializer }),
      tfl.layers.dense({ name: 'value', units: 3, kernelInitializer }),
    ],
  })
}

const numbers = (tensor: tf.Tensor) => Float32Array.from(tensor.dataSync())

/** The gradient of ½ Σ a (c − b)². */
function quadraticGradients(parameters: readonly Float32Array[]): Float32Array[] {
  return parameters.map((parameter, index) =>
    parameter.map((value, i) => (curvatures[index]?.[i] ?? NaN) * (value - (targets[index]?.[i] ?? NaN))),
  )
}

describe.each(['cpu', 'wasm'] as const)('AdamW on %s', (backend) => {
  beforeAll(() => useBackend(backend))

  let disposables: { dispose(): void }[]
  let before: { tensors: number; variables: number }
  const counts = () => ({
    tensors: tf.memory().numTensors,
    variables: Object.keys(tf.engine().registeredVariables).length,
  })
  beforeEach(() => {
    disposables = []
    before = counts()
  })
  afterEach(() => {
    for (const object of disposables.reverse()) object.dispose()
    // Each test frees its tensors and variables.
    expect(counts()).toEqual(before)
  })

  /** Makes the test dispose of the object at its end. */
  function track<T extends { dispose(): void }>(object: T): T {
    disposables.push(object)
    return object
  }
  const variable = (values: readonly number[], name?: string) =>
    track(tf.tidy(() => tf.variable(tf.tensor1d([...values]), true, name)))

  function apply(
    optimizer: tf.Optimizer,
    variables: readonly tf.Variable[],
    gradients: readonly ArrayLike<number>[],
  ) {
    tf.tidy(() =>
      optimizer.applyGradients(
        variables.map(({ name }, i) => ({
          name,
          tensor: tf.tensor1d(Float32Array.from(gradients[i] ?? [])),
        })),
      ),
    )
  }

  /** Ten steps are enough to notice a wrong moment or count. */
  function descend(optimizer: tf.Optimizer, variables: readonly tf.Variable[], steps = 10): Float32Array[] {
    for (let step = 0; step < steps; step++)
      apply(optimizer, variables, quadraticGradients(variables.map(numbers)))
    return variables.map(numbers)
  }

  it.each(vectors.adamw.filter(({ precision }) => precision === 'float32'))(
    'follows PyTorch for 100 steps: $options, schedule $schedule, clip $clip',
    ({ options, schedule, clip, trajectory }) => {
      const optimizer = track(new AdamW(options))
      const variables = starts.map((values) => variable(values))
      const multiplier = schedule ? cosineSchedule(schedule) : () => 1
      const recorded = new Map(trajectory.map(({ step, parameters }) => [step, parameters]))
      const compared: number[] = []
      for (let step = 1; step <= 100; step++) {
        const gradients = quadraticGradients(variables.map(numbers))
        if (clip !== null) clipGradientNorm(gradients, clip)
        optimizer.learningRate = options.learningRate * multiplier(step - 1)
        apply(optimizer, variables, gradients)
        for (const [index, expected] of (recorded.get(step) ?? []).entries()) {
          const actual = numbers(variables[index])
          const differences = expected.map((value, i) => Math.abs(value - (actual[i] ?? NaN)))
          const relative = Math.max(...differences) / Math.max(...expected.map(Math.abs))
          expect(relative, `step ${step}, vector ${index}`).toBeLessThanOrEqual(LIMIT)
          compared.push(step)
        }
      }
      expect(compared).toEqual([1, 1, 2, 2, 10, 10, 50, 50, 100, 100])
      expect(optimizer.iterations).toBe(100)
    },
  )

  it("computes the same as core's createAdamW", () => {
    const options = { learningRate: 0.01, betas: [0.8, 0.97], epsilon: 1e-6, weightDecay: 0.1 } as const
    const steps = 20
    const parameters = Float32Array.of(1, -0.5, 0.25, 0.75)
    const value = variable([...parameters])
    const ours = track(new AdamW(options))
    const cores = createAdamW(options)
    for (let step = 0; step < steps; step++) {
      // In [½, 1], so that the moments have no cancellation.
      const gradient = Float32Array.from(parameters, (_, i) => 0.75 + Math.sin(7 * step + i) / 4)
      apply(ours, [value], [gradient])
      cores.step([parameters], [gradient])
    }
    // Both round m and v to float32 at most 4 times in a step. The error is at most 4·steps·U for m and half of this for √v, relative to
    // numbers that are at most twice the smallest. The constants and the quotient add 8 roundings. The update is at most 2η. The parameter
    // is at most 1, and is rounded 3 times.
    const update = 2 * options.learningRate * (2 * (4 + 2) * steps + 8) * U
    const limit = 2 * steps * (update + 3 * U)
    const actual = numbers(value)
    for (const [i, expected] of parameters.entries()) {
      expect(Math.abs(actual[i] - expected)).toBeLessThanOrEqual(limit)
    }
  })

  it('accepts gradients as an array and as a record, and skips variables without a gradient', () => {
    const [a, b, c] = [variable([1, 2]), variable([1, 2]), variable([3])]
    const [first, second] = [track(new AdamW()), track(new AdamW())]
    const gradient = track(tf.tensor1d([1, -1]))
    first.applyGradients([{ name: a.name, tensor: gradient }])
    second.applyGradients({ [b.name]: gradient, [c.name]: null as unknown as tf.Tensor })
    expect(numbers(a)).toEqual(numbers(b))
    // η(1 + λp) for the first step, whatever the size of the gradient.
    expect(numbers(a)[0]).toBeCloseTo(1 - 1e-3 * (1 + 0.01), 6)
    expect(numbers(c)).toEqual(Float32Array.of(3))
    expect(numbers(gradient)).toEqual(Float32Array.of(1, -1))
  })

  it('counts the steps of each variable, as PyTorch does', () => {
    const [a, b, reference] = [
      variable(starts[0] ?? []),
      variable(starts[0] ?? []),
      variable(starts[0] ?? []),
    ]
    const shared = track(new AdamW({ learningRate: 0.1 }))
    descend(shared, [a], 5)
    descend(shared, [b], 3)
    descend(shared, [a], 5)
    expect(numbers(a)).toEqual(descend(track(new AdamW({ learningRate: 0.1 })), [reference])[0])
  })

  it('minimizes, with and without a list of variables', () => {
    const [a, b] = [variable([1, 2]), variable([3, 4])]
    const optimizer = track(new AdamW({ learningRate: 0.1, weightDecay: 0 }))
    const loss = () => tf.tidy(() => tf.sum(tf.add(tf.square(a), tf.square(b))) as tf.Scalar)
    const start = track(optimizer.minimize(loss, true) as tf.Scalar)
    expect(numbers(start)).toEqual(Float32Array.of(30))
    const frozen = numbers(b)
    expect(frozen[0]).toBeCloseTo(2.9, 5)
    for (let step = 0; step < 20; step++) optimizer.minimize(loss, false, [a])
    expect(numbers(b)).toEqual(frozen)
    const expected = Float32Array.of(1, 2)
    const reference = createAdamW({ learningRate: 0.1, weightDecay: 0 })
    for (let step = 0; step <= 20; step++) reference.step([expected], [expected.map((value) => 2 * value)])
    for (const [i, value] of numbers(a).entries()) expect(value).toBeCloseTo(expected[i], 4)
  })

  it('keeps two tensors for each variable, and none after dispose or for disposed variables', () => {
    const optimizer = track(new AdamW())
    const a = variable([1, 2], 'a')
    const disposed = tf.tidy(() => tf.variable(tf.tensor1d([1, 2]), true, 'b'))
    const { tensors } = counts()
    descend(optimizer, [a, disposed])
    expect(counts().tensors).toBe(tensors + 4)
    disposed.dispose()
    const again = variable([1, 2], 'b')
    const fresh = variable([1, 2], 'c')
    expect(descend(optimizer, [again])).toEqual(descend(track(new AdamW()), [fresh]))
    expect(counts().tensors).toBe(tensors + 1 + 4 + 2)
    optimizer.dispose()
    optimizer.dispose()
    expect(counts().tensors).toBe(tensors + 1 + 2)
  })

  describe('saved', () => {
    /** Trains for 10 steps; `middle` contains the values of the variables after them. */
    function trained() {
      const optimizer = track(new AdamW({ learningRate: 0.05 }))
      const variables = [variable(starts[0] ?? [], 'first'), variable(starts[1] ?? [], 'second')]
      const middle = descend(optimizer, variables)
      return { optimizer, variables, middle }
    }
    it('continues with the same numbers in variables with other names', async () => {
      const { optimizer, variables, middle } = trained()
      const weights = await optimizer.getWeights()
      expect(weights.map(({ name }) => name)).toEqual([
        'iter',
        'steps',
        'first/m',
        'second/m',
        'first/v',
        'second/v',
      ])
      const restored = track(AdamW.fromConfig<AdamW>(AdamW, optimizer.getConfig()))
      await restored.setWeights(weights)
      expect(restored.iterations).toBe(10)
      const copies = middle.map((values, i) => variable([...values], `copy-${i}`))
      expect(descend(restored, copies)).toEqual(descend(optimizer, variables))
      const after = await restored.getWeights()
      expect(after[2]?.name).toBe('copy-0/m')
      expect(numbers(after[1]?.tensor)).toEqual(Float32Array.of(20, 20))
    })

    it('matches variables by name, in any order, together or one by one', async () => {
      const { optimizer, variables, middle } = trained()
      const restored = track(new AdamW({ learningRate: 0.05 }))
      await restored.setWeights(await optimizer.getWeights())
      const expected = descend(optimizer, variables)
      for (const [i, values] of middle.entries()) variables[i]?.assign(track(tf.tensor1d(values)))
      const [first, second] = variables as [tf.Variable, tf.Variable]
      for (let step = 0; step < 10; step++) {
        // The gradient of each variable depends on this variable only.
        const [forFirst, forSecond] = quadraticGradients(variables.map(numbers)) as [
          Float32Array,
          Float32Array,
        ]
        if (step % 2 === 0) {
          apply(restored, [second], [forSecond])
          apply(restored, [first], [forFirst])
        } else {
          apply(restored, [first, second], [forFirst, forSecond])
        }
      }
      expect(variables.map(numbers)).toEqual(expected)
    })

    it('accepts its own weights', async () => {
      const { optimizer, variables, middle } = trained()
      const twin = track(new AdamW({ learningRate: 0.05 }))
      await twin.setWeights(await optimizer.getWeights())
      const copies = middle.map((values, i) => variable([...values], `copy-${i}`))
      await optimizer.setWeights(await optimizer.getWeights())
      expect(descend(optimizer, variables)).toEqual(descend(twin, copies))
    })

    it('rejects variables that the restored moments do not fit, and changes nothing', async () => {
      const { optimizer } = trained()
      const restored = track(new AdamW())
      await restored.setWeights(await optimizer.getWeights())
      const other = variable([1, 2, 3], 'other')
      const [short, long] = [variable(starts[1] ?? []), variable(starts[0] ?? [])]
      // Too few, in another order, too many.
      for (const variables of [[other], [other, long], [long, short, other]]) {
        expect(() => apply(restored, variables, variables.map(numbers))).toThrow(
          expect.objectContaining({ code: 'INVALID_STATE', message: expect.stringContaining("'other'") }),
        )
      }
      expect(numbers(other)).toEqual(Float32Array.of(1, 2, 3))
      expect(restored.iterations).toBe(10)
      expect((await restored.getWeights()).map(({ name }) => name)).toContain('second/v')
    })

    it('can be saved before its first step', async () => {
      const [optimizer, restored] = [track(new AdamW()), track(new AdamW())]
      await restored.setWeights(await optimizer.getWeights())
      const [a, b] = [variable(starts[0] ?? []), variable(starts[0] ?? [])]
      expect(descend(restored, [a])).toEqual(descend(optimizer, [b]))
    })

    it('gives new variables new moments', async () => {
      const { optimizer, variables } = trained()
      const restored = track(new AdamW({ learningRate: 0.05 }))
      await restored.setWeights(await optimizer.getWeights())
      descend(restored, variables.slice(0, 1), 1)
      // As many variables as there are unmatched moments, with the same shape.
      const [late, fresh] = [variable(starts[1] ?? []), variable(starts[1] ?? [])]
      expect(descend(restored, [late])).toEqual(descend(track(new AdamW({ learningRate: 0.05 })), [fresh]))
    })

    it('rejects the weights of another optimizer', async () => {
      const { optimizer } = trained()
      const weights = await optimizer.getWeights()
      const [iterations, steps, ...moments] = weights
      for (const wrong of [
        [],
        [iterations, ...moments],
        weights.slice(0, -1),
        [iterations, steps, ...moments.reverse()],
      ]) {
        await expect(optimizer.setWeights(wrong)).rejects.toMatchObject({
          code: 'INVALID_OPTION',
          details: { option: 'weights' },
        })
      }
      expect(optimizer.iterations).toBe(10)
    })
  })

  it('is saved and loaded with a model', async () => {
    const [x, y] = [
      track(tf.randomNormal([16, 10], 0, 1, 'float32', 5)),
      track(tf.randomNormal([16, 3], 0, 1, 'float32', 6)),
    ]
    const model = track(makeModel())
    const optimizer = track(new AdamW({ learningRate: 0.02, betas: [0.8, 0.9], weightDecay: 0.2 }))
    const fit = async (trained: tfl.LayersModel) => {
      await trained.fit(x, y, { epochs: 3, shuffle: false, verbose: 0 })
      return trained.getWeights().map(numbers)
    }
    model.compile({ optimizer, loss: 'meanSquaredError' })
    await fit(model)
    let saved: tf.io.ModelArtifacts | undefined
    const handler = tf.io.withSaveHandler(async (artifacts) => {
      saved = artifacts
      return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' } }
    })
    await model.save(handler, { includeOptimizer: true })
    const loaded = track(await tfl.loadLayersModel(tf.io.fromMemory(saved as tf.io.ModelArtifacts)))
    const restored = track(loaded.optimizer)
    expect(restored).toBeInstanceOf(AdamW)
    expect(restored.getClassName()).toBe('AdamW')
    expect(restored.getConfig()).toEqual(optimizer.getConfig())
    expect(await fit(loaded)).toEqual(await fit(model))
  })

  it('trains the adapters of an attached model, one after the other, without a new compile', async () => {
    const [x, y] = [
      track(tf.randomNormal([16, 10], 0, 1, 'float32', 5)),
      track(tf.randomNormal([16, 3], 0, 1, 'float32', 6)),
    ]
    const model = track(makeModel())
    const weights = model.getWeights().map(numbers)
    const adapters = attach(model, CONFIG)
    const optimizer = track(new AdamW({ learningRate: 0.05 }))
    model.compile({ optimizer, loss: 'meanSquaredError' })
    // Compares one step with core's AdamW, for the gradient of the same loss.
    const { trainableVariables } = adapters
    const expected = trainableVariables.map(numbers)
    const gradients = tf.tidy(() => {
      const loss = () => meanSquaredError(y, model.apply(x) as tf.Tensor) as tf.Scalar
      const { grads } = tf.variableGrads(loss, trainableVariables)
      return trainableVariables.map(({ name }) => numbers(grads[name]))
    })
    createAdamW({ learningRate: 0.05 }).step(expected, gradients)
    await model.fit(x, y, { epochs: 1, verbose: 0 })
    for (const [i, variable] of trainableVariables.entries())
      for (const [j, value] of numbers(variable).entries()) expect(value).toBeCloseTo(expected[i][j], 4)
    await model.fit(x, y, { epochs: 19, verbose: 0 })
    expect((await optimizer.getWeights()).length).toBe(2 + 2 * 2)
    adapters.addAdapter('other', { ...CONFIG, nFrequency: 9 })
    adapters.setAdapter('other')
    const first = (await adapters.getAdapter('default')).modules
    await model.fit(x, y, { epochs: 2, verbose: 0 })
    expect((await adapters.getAdapter('default')).modules).toEqual(first)
    expect(model.getWeights().map(numbers)).toEqual(weights)
    expect(optimizer.iterations).toBe(22)
    adapters.detach()
  })

  it.each([
    [{ learningRate: -1 }, 'learningRate'],
    [{ learningRate: Number.NaN }, 'learningRate'],
    [{ betas: [0.9, 1] }, 'betas.1'],
    [{ betas: [-0.1, 0.9] }, 'betas.0'],
    [{ epsilon: 0 }, 'epsilon'],
    [{ weightDecay: -0.1 }, 'weightDecay'],
    [{ wieghtDecay: 0.1 }, 'wieghtDecay'],
  ])('rejects the options %j', (options, option) => {
    const expected = { code: 'INVALID_OPTION', message: expect.stringContaining(option), details: { option } }
    expect(() => new AdamW(options as object)).toThrow(
      expect.objectContaining({ ...expected, details: expect.objectContaining(expected.details) }),
    )
  })

  it('rejects invalid rates and gradients, and changes nothing', () => {
    const optimizer = track(new AdamW())
    for (const rate of [-1, Number.NaN, Infinity]) {
      expect(() => {
        optimizer.learningRate = rate
      }).toThrow(
        expect.objectContaining({
          code: 'INVALID_OPTION',
          details: { option: 'learningRate', received: rate },
        }),
      )
    }
    expect(optimizer.learningRate).toBe(1e-3)
    const a = variable([1, 2])
    const [good, bad] = [track(tf.tensor1d([1, 2])), track(tf.tensor1d([1]))]
    expect(() => optimizer.applyGradients({ [a.name]: bad })).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH' }),
    )
    expect(() => optimizer.applyGradients({ [a.name]: good, nobody: good })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', details: { option: 'gradients', tensor: 'nobody' } }),
    )
    expect(numbers(a)).toEqual(Float32Array.of(1, 2))
    expect(optimizer.iterations).toBe(0)
  })
})

it('has the defaults of PyTorch, and a config that gives the same optimizer', () => {
  const defaults = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 }
  expect(new AdamW().getConfig()).toEqual(defaults)
  const config = { learningRate: 0.5, beta1: 0.1, beta2: 0.2, epsilon: 0.3, weightDecay: 0.4 }
  expect(AdamW.fromConfig(AdamW, config).getConfig()).toEqual(config)
  const optimizer = new AdamW()
  optimizer.learningRate = 0.25
  expect(optimizer.getConfig()).toEqual({ ...defaults, learningRate: 0.25 })
  expect(tf.serialization.SerializationMap.getMap().classNameMap.AdamW?.[0]).toBe(AdamW)
})
