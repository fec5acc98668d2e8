import * as tf from '@tensorflow/tfjs-core'
import { beforeEach, describe, expect, it } from 'vitest'
import { useBackend } from './__fixtures__/use-backend.js'
import { calibrate, installCalibration } from './calibrate.js'
import { chooseStrategy } from './strategies/choose-strategy.js'

const layer = { shape: [64, 64], n: 200 } as const
/** Not the default there. */
const fasterFactored = { dense: 3, factored: 1, spectral: 2 }
const fasterDense = { dense: 1, factored: 8, spectral: 4 }

describe('calibrate', () => {
  beforeEach(() => useBackend('wasm'))

  it('measures every strategy at every size, and auto follows', async () => {
    const before = tf.memory().numTensors
    const measured = await calibrate({
      shapes: [
        [16, 12],
        [8, 8],
      ],
      tokens: [1, 4],
      n: 100,
      budget: 200,
    })
    expect(tf.memory().numTensors).toBe(before)
    expect(measured.backend).toBe('wasm')
    expect(measured.sizes.map(({ shape, tokens, n }) => [...shape, tokens, n])).toEqual([
      [16, 12, 1, 100],
      [16, 12, 4, 100],
      [8, 8, 1, 64],
      [8, 8, 4, 64],
    ])
    for (const { milliseconds, ...size } of measured.sizes) {
      expect(Object.keys(milliseconds)).toEqual(['dense', 'factored', 'spectral'])
      const least = Math.min(...Object.values(milliseconds))
      expect(milliseconds[chooseStrategy(size)]).toBe(least)
    }
  })

  it('measures one size, however small the budget', async () => {
    const { sizes } = await calibrate({ shapes: [[8, 8]], tokens: [1, 2, 3], n: 4, budget: 1e-3 })
    expect(sizes).toHaveLength(1)
  })

  it.each([
    ['shapes', { shapes: [] }],
    ['shapes', { shapes: [[0, 4]] as const }],
    ['tokens', { tokens: [1.5] }],
    ['n', { n: 0 }],
    ['budget', { budget: 0 }],
  ])('refuses %s that are none', async (option, options) => {
    await expect(calibrate(options)).rejects.toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining(option) }),
    )
  })
})

describe('installCalibration', () => {
  beforeEach(() => useBackend('wasm'))

  it('interpolates the times of the nearest layer, from JSON, for its backend alone', async () => {
    const calibration = {
      backend: 'wasm',
      sizes: [
        { ...layer, tokens: 64, milliseconds: fasterDense },
        { ...layer, tokens: 1, milliseconds: fasterFactored },
        { ...layer, shape: [512, 512], tokens: 1, milliseconds: { spectral: 1, dense: 2 } },
      ],
    } as const
    installCalibration(JSON.parse(JSON.stringify(calibration)))
    const at = (tokens: number) => chooseStrategy({ ...layer, tokens })
    // Dense 3^(1−w)·1^w and factored 1^(1−w)·8^w meet at w = ln 3 / ln 24 = 0.346, T = 64^w = 4.2.
    expect([1, 4, 5, 64, 9999].map(at)).toEqual(['factored', 'factored', 'dense', 'dense', 'dense'])
    expect(chooseStrategy({ shape: [60, 70], n: 150, tokens: 1 })).toBe('factored')
    expect(chooseStrategy({ shape: [400, 900], n: 1000, tokens: 9999 })).toBe('spectral')
    await useBackend('cpu')
    expect(chooseStrategy({ ...layer, tokens: 1 })).toBe('spectral')
  })

  it.each([
    ['backend', { sizes: [] }],
    ['sizes', { backend: 'wasm', sizes: [] }],
    ['sizes[0]', { backend: 'wasm', sizes: [{ ...layer, tokens: 0, milliseconds: fasterDense }] }],
    [
      'sizes[0].milliseconds.dense',
      { backend: 'wasm', sizes: [{ ...layer, tokens: 1, milliseconds: { dense: '1' } }] },
    ],
    ['sizes[0]', { backend: 'wasm', sizes: [{ tokens: 1 }] }],
    ['backend', null],
  ])('refuses what has no right %s', (what, calibration) => {
    expect(() => installCalibration(calibration as never)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining(what) }),
    )
  })
})
