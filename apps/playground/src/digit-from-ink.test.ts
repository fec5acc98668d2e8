/** Drawings are scaled and centred like the digits of the data set. */
import { imageSize } from '@fourierft/quickstart/browser'
import { expect, it } from 'vitest'
import { digitFromInk } from './digit-from-ink.js'

const size = 280

/** Draws a filled rectangle. */
function rectangle(left: number, top: number, width: number, height: number): Float32Array {
  const ink = new Float32Array(size * size)
  for (let y = top; y < top + height; y++) ink.fill(1, y * size + left, y * size + left + width)
  return ink
}

const total = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0)

it('returns undefined for an empty canvas', () => {
  expect(digitFromInk(new Float32Array(size * size), size)).toBeUndefined()
})

it('scales a 1:2 rectangle to 20 pixels high and centres it', () => {
  const digit = digitFromInk(rectangle(30, 50, 80, 160), size) ?? new Float32Array(0)
  const inked = [...digit].flatMap((value, at) => (value > 0.5 ? [at] : []))
  expect(inked).toHaveLength(10 * 20)
  expect(inked[0]).toBe(4 * imageSize + 9)
  expect(inked.at(-1)).toBe(23 * imageSize + 18)
})

it('gives the same digit for a drawing at another position and at half the size', () => {
  const large = digitFromInk(rectangle(30, 50, 80, 160), size) ?? new Float32Array(0)
  expect(digitFromInk(rectangle(150, 10, 80, 160), size)).toEqual(large)
  expect(total(digitFromInk(rectangle(9, 90, 40, 80), size) ?? new Float32Array(0))).toBe(total(large))
})
