import * as tf from '@tensorflow/tfjs-core'
import { describe, expect, it } from 'vitest'
import { useWasm } from './wasm-products.js'

await useWasm()

/** Small integers: every product and sum is exact in float32. */
const integers = (shape: number[], start: number): tf.Tensor =>
  tf.reshape(tf.sub(tf.mod(tf.mul(tf.range(start, start + tf.util.sizeFromShape(shape)), 7), 11), 5), shape)

describe('useWasm', () => {
  it.each([
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ])('multiplies batches, transposed %s and %s', (transposeA, transposeB) => {
    const [batch, rows, inner, columns] = [2, 5, 3, 4]
    const a = integers(transposeA ? [batch, inner, rows] : [batch, rows, inner], 1)
    const b = integers(transposeB ? [batch, columns, inner] : [batch, inner, columns], 2)
    const at = (values: ArrayLike<number>, index: number) => values[index] ?? Number.NaN
    const [x, y] = [a.dataSync(), b.dataSync()]
    const expected = Array.from({ length: batch * rows * columns }, (_, index) => {
      const [image, row, column] = [
        Math.floor(index / (rows * columns)),
        Math.floor(index / columns) % rows,
        index % columns,
      ]
      let sum = 0
      for (let i = 0; i < inner; i++) {
        const xAt = image * rows * inner + (transposeA ? i * rows + row : row * inner + i)
        const yAt = image * inner * columns + (transposeB ? column * inner + i : i * columns + column)
        sum += at(x, xAt) * at(y, yAt)
      }
      return sum
    })
    expect([...tf.matMul(a, b, transposeA, transposeB).dataSync()]).toEqual(expected)
  })

  it('leaks no memory', () => {
    const a = tf.ones([3, 2])
    const { numTensors, numDataBuffers } = tf.memory()
    tf.matMul(a, a, true, false).dispose()
    expect(tf.memory()).toMatchObject({ numTensors, numDataBuffers })
  })
})
