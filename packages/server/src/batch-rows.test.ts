/** Rows that are cut out late, and batches that go on as they are. */
import { Tensor } from 'onnxruntime-common'
import { expect, test } from 'vitest'
import { rowsOfBatch, wholeBatch } from './batch-rows.js'

const joined = new Tensor(
  'float32',
  Float32Array.from({ length: 12 }, (_, i) => i),
  [3, 2, 2],
)
const rows = (start: number, count: number, length = 2) =>
  rowsOfBatch(joined, { starts: [start, 2 - length, 0], sizes: [count, length, 2] })

test('the rows look like a tensor of their own', async () => {
  const tensor = rows(1, 2, 1)
  expect(tensor).toBeInstanceOf(Tensor)
  expect(tensor.dims).toEqual([2, 1, 2])
  expect(tensor.size).toBe(4)
  expect(tensor.type).toBe('float32')
  expect(tensor.location).toBe('cpu')
  expect(Array.from(tensor.data as Float32Array)).toEqual([6, 7, 10, 11])
  expect(await tensor.getData()).toBe(tensor.data)
  expect((tensor.data as Float32Array).buffer.byteLength).toBe(16)
})

test('all rows of a batch in their order are the batch itself', () => {
  expect(wholeBatch([rows(0, 1), rows(1, 2, 1)])).toBe(joined)
})

test.each([
  ['a row has left', [rows(0, 1), rows(1, 1)]],
  ['the order is another one', [rows(1, 2), rows(0, 1)]],
  [
    'a row of another batch has joined',
    [rows(0, 1), rows(1, 2), new Tensor('float32', new Float32Array(4), [1, 2, 2])],
  ],
  ['the first row is new', [new Tensor('float32', new Float32Array(4), [1, 2, 2]), rows(0, 3)]],
])('otherwise they have to be joined again: %s', (_, tensors) => {
  expect(wholeBatch(tensors)).toBeUndefined()
})
