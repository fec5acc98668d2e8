/** Blocks of tensors, compared with loops over all positions. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { cut, emptyLike, paste, sizeOf, type TensorData } from './tensor-blocks.js'

/** All positions of a tensor. */
function positions(dims: readonly number[]): number[][] {
  return dims.reduce<number[][]>(
    (found, size) => found.flatMap((position) => Array.from({ length: size }, (_, i) => [...position, i])),
    [[]],
  )
}

const indexOf = (dims: readonly number[], position: readonly number[]) =>
  position.reduce((index, i, axis) => index * dims[axis] + i, 0)

const block = fc
  .array(fc.record({ size: fc.nat(4), start: fc.nat(3), rest: fc.nat(3) }), { minLength: 1, maxLength: 4 })
  .map((axes) => ({
    dims: axes.map(({ size, start, rest }) => start + size + rest),
    block: { starts: axes.map(({ start }) => start), sizes: axes.map(({ size }) => size) },
  }))

const KINDS: readonly ((values: number[]) => TensorData)[] = [
  (values) => Float32Array.from(values),
  (values) => BigInt64Array.from(values, BigInt),
  (values) => values.map(String) as unknown as TensorData,
]

test.each(KINDS)('cut takes the numbers of a block, and paste puts them back (kind %#)', (make) => {
  fc.assert(
    fc.property(block, ({ dims, block: { starts, sizes } }) => {
      const data = make(Array.from({ length: sizeOf(dims) }, (_, i) => i + 1))
      const expected = positions(sizes).map(
        (position) =>
          data[
            indexOf(
              dims,
              position.map((i, axis) => i + starts[axis]),
            )
          ],
      )
      const part = cut(data, dims, { starts, sizes })
      expect(Array.from(part)).toEqual(expected)

      const target = emptyLike(data, data.length)
      paste(target, dims, { starts, sizes }, part)
      expect(Array.from(cut(target, dims, { starts, sizes }))).toEqual(expected)
      const isEmpty = (value: unknown) => !value || value === ''
      expect(Array.from(target).filter((value) => !isEmpty(value)).length).toBe(part.length)
    }),
  )
})
