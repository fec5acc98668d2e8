/** Tests the formulas with a few shapes, and the rows of table 1. */
import { expect, test } from 'vitest'
import { countParameters } from './count-parameters.js'
import { preset, presetNames } from './table-1.js'

test('counts n parameters in each layer for FourierFT and r(d1 + d2) for LoRA, in float32', () => {
  const shapes = [
    [768, 3072],
    [3, 5],
  ] as const
  expect(countParameters({ method: 'fourierft', n: 15 }, shapes)).toEqual({
    layers: 2,
    parameters: 30,
    bytes: 120,
  })
  expect(countParameters({ method: 'lora', rank: 2 }, shapes)).toEqual({
    layers: 2,
    parameters: 2 * (768 + 3072) + 2 * (3 + 5),
    bytes: 4 * (2 * (768 + 3072) + 2 * (3 + 5)),
  })
  expect(countParameters({ method: 'lora', rank: 2 }, [])).toEqual({ layers: 0, parameters: 0, bytes: 0 })
})

test.each([
  [{ method: 'fourierft', n: 16 } as const, [3, 5] as const, 'INVALID_ENTRY_COUNT'],
  [{ method: 'fourierft', n: 0 } as const, [3, 5] as const, 'INVALID_ENTRY_COUNT'],
  [{ method: 'lora', rank: 1.5 } as const, [3, 5] as const, 'INVALID_OPTION'],
  [{ method: 'lora', rank: 0 } as const, [3, 5] as const, 'INVALID_OPTION'],
  [{ method: 'lora', rank: 1 } as const, [3, -5] as const, 'INVALID_OPTION'],
])('rejects %j for shape %j', (size, shape, code) => {
  expect(() => countParameters(size, [shape])).toThrow(expect.objectContaining({ code }))
})

// Exact counts by hand: blocks · 2 · n, or blocks · 2 · r · 2 · width.
test.each([
  ['roberta-base', [147456, 294912, 4800, 24000]],
  ['roberta-large', [393216, 786432, 9600, 48000]],
  ['gpt2-medium', [393216, 786432, 24000, 48000]],
  ['gpt2-large', [737280, 1474560, 36000, 72000]],
  ['llama2-7b', [8388608, 33554432, 64000, 128000]],
  ['llama2-13b', [13107200, 52428800, 80000, 160000]],
  ['vit-base', [294912, 589824, 72000, 240000]],
  ['vit-large', [786432, 1572864, 144000, 480000]],
])('counts the parameters of %s', (name, expected) => {
  const { shapes, rows } = preset(name)
  expect(rows.map(({ size }) => countParameters(size, Object.values(shapes)).parameters)).toEqual(expected)
})

test('agrees with the printed table to its last digit, except for two misprints', () => {
  const misprints: string[] = []
  for (const name of presetNames) {
    const { shapes, rows } = preset(name)
    for (const { size, parameters } of rows) {
      const [, digits = '', unit] = /^([\d.]+)([KM])$/.exec(parameters) ?? []
      const scale = unit === 'M' ? 1e6 : 1e3
      const lastDigit = scale / 10 ** (digits.split('.')[1] ?? '').length
      const difference = Math.abs(
        countParameters(size, Object.values(shapes)).parameters - Number(digits) * scale,
      )
      if (!(difference < lastDigit)) misprints.push(`${name} ${JSON.stringify(size)} ${parameters}`)
    }
  }
  expect(misprints).toEqual([
    'gpt2-medium {"method":"lora","rank":4} 350K',
    'vit-base {"method":"fourierft","n":10000} 239K',
  ])
})

test.each(['bert', 'toString', '__proto__'])('rejects the unknown preset %s', (name) => {
  expect(() => preset(name)).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining('roberta-base') }),
  )
})
