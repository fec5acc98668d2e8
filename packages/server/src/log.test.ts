import { FourierFTError } from '@fourierft/core'
import { expect, test } from 'vitest'
import { ServerError } from './errors.js'
import { describeForLog } from './log.js'

const SECRET = '4242424'

test.each([
  new Error(`indices element out of bounds: ${SECRET}`),
  new Error(`two lines\n    at secret ${SECRET} (file.js:1:2)`),
  new TypeError(SECRET, { cause: new Error(SECRET) }),
  new ServerError('internal_error', `expected a number, received ${SECRET}`),
  new FourierFTError('SHAPE_MISMATCH', `ONNX Runtime: ${SECRET}`),
  Object.assign(new Error(SECRET), { details: SECRET, data: SECRET }),
  SECRET,
])('error %#: the log has where it was thrown, but not its message', (error) => {
  const text = JSON.stringify(describeForLog(error))
  expect(text).not.toContain(SECRET)
  if (error instanceof Error) expect(text).toContain('log.test.ts')
})

test('messages that name files and states stay', () => {
  const error = new FourierFTError('IO_ERROR', 'the disk is full')
  expect(describeForLog(error)).toMatchObject({ code: 'IO_ERROR', message: 'the disk is full' })
})
