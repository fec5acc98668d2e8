import * as tf from '@tensorflow/tfjs-core'
import { beforeEach, describe, expect, it } from 'vitest'
import { useBackend } from './__fixtures__/use-backend.js'
import { calibrate, useCalibration } from './calibrate.js'
import { chooseStrategy } from './strategies/choose-strategy.js'

const layer = { shape: [64, 64], n: 200 } as const
/** Without a calibration, `auto` would not choose `factored` for this layer. */
const fasterFactored = { dense: 3, factored: 1, spectral: 2 }
const fasterDense = { dense: 1, factored: 8, spectral: 4 }

describe.each(['cpu', 'wasm'] as const)('calibrate on %s', (backend) => {
  beforeEach(() => useBackend(backend))

  it('measures every strategy at every size, makes auto choose by the times, and leaves no tensors', async () => {
    const before = tf.memory().numTensors
    const sizes = [
      { shape: [16, 12], tokens: 1, n: 100 },
      { shape: [16, 12], tokens: 4, n: 100 },
      { shape: [8, 8], tokens: 1, n: 64 },
    ] as const
    const measured = await calibrate({ sizes, timeLimit: 1e5 })
    expect(tf.memory().numTensors).toBe(before)
    expect(measured.backend).toBe(backend)
    expect(measured).toEqual(JSON.parse(JSON.stringify(measured)))
    expect(measured.sizes.map(({ milliseconds, ...size }) => size)).toEqual(sizes)
    for (const { milliseconds, ...size } of measured.sizes) {
      expect(Object.keys(milliseconds).sort()).toEqual(['dense', 'factored', 'spectral'])
      const least = Math.min(...Object.values(milliseconds))
      expect(milliseconds[chooseStrategy(size)]).toBe(least)
    }
  })

  it('measures only the first size if the time limit is exceeded immediately', async () => {
    const sizes = [1, 2].map((tokens) => ({ shape: [8, 8] as const, tokens, n: 4 }))
    const measured = await calibrate({ sizes, timeLimit: 1e-3 })
    expect(measured.sizes).toHaveLength(1)
  })
})

describe('calibrate', () => {
  beforeEach(() => useBackend('wasm'))

  it.each([
    ['sizes', { sizes: [] }],
    ['sizes[0]', { sizes: [{ shape: [0, 4], tokens: 1, n: 1 }] }],
    [
      'sizes[1]',
      {
        sizes: [
          { ...layer, tokens: 1 },
          { ...layer, tokens: 1.5 },
        ],
      },
    ],
    ['sizes[0]', { sizes: [{ shape: [3, 4], tokens: 1, n: 13 }] }],
    ['timeLimit', { timeLimit: 0 }],
    ['timeLimit', { timeLimit: Number.POSITIVE_INFINITY }],
  ] as const)('rejects an invalid %s', async (option, options) => {
    await expect(calibrate(options)).rejects.toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining(option) }),
    )
  })

  it('changes nothing if another backend becomes current during the measurement', async () => {
    const size = { ...layer, tokens: 1 }
    useCalibration({ backend: 'wasm', sizes: [{ ...size, milliseconds: fasterFactored }] })
    const pending = calibrate({ sizes: [size], timeLimit: 1 })
    await useBackend('cpu')
    await expect(pending).rejects.toThrow(expect.objectContaining({ code: 'INVALID_STATE' }))
    await useBackend('wasm')
    expect(chooseStrategy(size)).toBe('factored')
  })
})

describe('useCalibration', () => {
  beforeEach(() => useBackend('wasm'))

  it('interpolates the times of the nearest layer, for its backend only', async () => {
    const calibration = {
      backend: 'wasm',
      sizes: [
        { ...layer, tokens: 64, milliseconds: fasterDense },
        { ...layer, tokens: 1, milliseconds: fasterFactored },
        { ...layer, shape: [512, 512], tokens: 1, milliseconds: { spectral: 1, dense: 2 } },
      ],
    } as const
    useCalibration(JSON.parse(JSON.stringify(calibration)))
    const at = (tokens: number) => chooseStrategy({ ...layer, tokens })
    // Dense 3^(1−w)·1^w and factored 1^(1−w)·8^w meet at w = ln 3 / ln 24 = 0.346, T = 64^w = 4.2.
    expect([1, 4, 5, 64, 9999].map(at)).toEqual(['factored', 'factored', 'dense', 'dense', 'dense'])
    expect(chooseStrategy({ shape: [60, 70], n: 150, tokens: 1 })).toBe('factored')
    expect(chooseStrategy({ shape: [400, 900], n: 1000, tokens: 9999 })).toBe('spectral')
    useCalibration({ ...calibration, backend: 'cpu', sizes: [{ ...calibration.sizes[2], tokens: 1 }] })
    expect(at(1)).toBe('factored')
    await useBackend('cpu')
    expect(at(1)).toBe('spectral')
  })

  it.each([
    ['backend', { sizes: [] }],
    ['backend', null],
    ['backend', 'wasm'],
    ['sizes', { backend: 'wasm', sizes: [] }],
    ['sizes', { backend: 'wasm', sizes: 'all' }],
    ['sizes[0]', { backend: 'wasm', sizes: [null] }],
    ['sizes[0]', { backend: 'wasm', sizes: [{ tokens: 1 }] }],
    ['sizes[0]', { backend: 'wasm', sizes: [{ ...layer, tokens: 0, milliseconds: fasterDense }] }],
    ['sizes[0].milliseconds', { backend: 'wasm', sizes: [{ ...layer, tokens: 1 }] }],
    [
      'sizes[0].milliseconds.dense',
      { backend: 'wasm', sizes: [{ ...layer, tokens: 1, milliseconds: { dense: '1' } }] },
    ],
    [
      'sizes[0].milliseconds.dense',
      { backend: 'wasm', sizes: [{ ...layer, tokens: 1, milliseconds: { dense: null } }] },
    ],
  ])('rejects a calibration with an invalid %s, and changes nothing', (field, calibration) => {
    useCalibration({ backend: 'wasm', sizes: [{ ...layer, tokens: 1, milliseconds: fasterFactored }] })
    expect(() => useCalibration(calibration as never)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining(field) }),
    )
    expect(chooseStrategy({ ...layer, tokens: 1 })).toBe('factored')
  })
})
