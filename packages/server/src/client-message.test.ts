import { homedir } from 'node:os'
import { join } from 'node:path'
import { FourierFTError } from '@fourierft/core'
import { expect, test } from 'vitest'
import { describeError } from './api-error.js'
import { clientMessage } from './client-message.js'
import { invalidAdapter } from './errors.js'

const long = `/srv/${'folder/'.repeat(60)}model.onnx`

test.each([
  [
    '/srv/secret/onnx/model.onnx',
    '/srv/secret/onnx/model.onnx, module foo: no layer',
    'model.onnx, module foo: no layer',
  ],
  [
    '/srv/my secret/model.onnx',
    '/srv/my secret/model.onnx: see /srv/my secret/other.json',
    'model.onnx: see …/other.json',
  ],
  ['/srv/secret/a\nb.onnx', '/srv/secret/a\nb.onnx: bad', 'a\nb.onnx: bad'],
  [
    'adapter_model.safetensors',
    'adapter_model.safetensors, tensor /encoder/q: bad',
    'adapter_model.safetensors, tensor /encoder/q: bad',
  ],
  [long, `${long}, module foo`, 'model.onnx, module foo'],
  [undefined, `${join(homedir(), '.cache/hub/file')} is missing`, '…/.cache/hub/file is missing'],
])('the file %j has its name alone', (file, problem, expected) => {
  const error = new FourierFTError('MODULE_NOT_FOUND', problem, { ...(file !== undefined && { file }) })
  expect(clientMessage(error).replaceAll('\\u000a', '\n')).toBe(expected)
})

test('paths of causes are hidden, in all answers', () => {
  const cause = Object.assign(new Error('EACCES'), { path: '/srv/secret/config.json' })
  const error = new FourierFTError('INVALID_CONFIG', '/srv/secret/config.json cannot be read', { cause })
  expect(invalidAdapter('a', error).message).toBe("adapter 'a': config.json cannot be read")
  expect(describeError(error, 'id').message).toBe('config.json cannot be read')
})

test('a model that has ended is an error of the server, not of the adapter', () => {
  const error = new FourierFTError('INVALID_STATE', 'the model was disposed of')
  expect(describeError(error, 'id')).toMatchObject({ status: 500, code: 'internal_error', param: null })
})
