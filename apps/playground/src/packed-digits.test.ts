/** Digits come out of their bytes as they went in, and bytes that are none are refused. */
import { imagePixels } from '@fourierft/quickstart/browser'
import { expect, it } from 'vitest'
import { packDigits, unpackDigits } from './packed-digits.js'

it('gives labels and grey values back', () => {
  const pixels = Float32Array.from({ length: 2 * imagePixels }, (_, i) => (i % 256) / 255)
  const digits = { count: 2, labels: Int32Array.of(7, 3), pixels }
  expect(unpackDigits(packDigits(digits))).toEqual(digits)
})

it('refuses a file that was cut off', () => {
  expect(() => unpackDigits(new Uint8Array(100))).toThrow('100 bytes')
})
