/** Unpacking restores packed digits, and rejects other bytes. */
import { imagePixels } from '@fourierft/quickstart/browser'
import { expect, it } from 'vitest'
import { packDigits, unpackDigits } from './packed-digits.js'

it('restores labels and grey values', () => {
  const pixels = Float32Array.from({ length: 2 * imagePixels }, (_, i) => (i % 256) / 255)
  const digits = { count: 2, labels: Int32Array.of(7, 3), pixels }
  expect(unpackDigits(packDigits(digits))).toEqual(digits)
})

it('rejects a truncated file', () => {
  expect(() => unpackDigits(new Uint8Array(100))).toThrow('100 bytes')
})
