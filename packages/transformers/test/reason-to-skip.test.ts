import { FourierFTError } from '@fourierft/core'
import { expect, test } from 'vitest'
import { reasonToSkip } from './reason-to-skip.js'

test('only an UNSUPPORTED error is a reason to skip; other errors are thrown', async () => {
  expect(await reasonToSkip(async () => 'opened')).toBeUndefined()
  const unsupported = new FourierFTError('UNSUPPORTED', 'no GPU', { advice: 'install a driver' })
  expect(await reasonToSkip(() => Promise.reject(unsupported))).toBe('no GPU; install a driver')
  for (const error of [new FourierFTError('INVALID_ONNX', 'not a model'), new TypeError('no such function')])
    await expect(reasonToSkip(() => Promise.reject(error))).rejects.toBe(error)
})
