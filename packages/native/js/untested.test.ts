import { createRequire } from 'node:module'
import { expect, test } from 'vitest'
import { untested } from './untested.js'

test('returns no warning for the installed version and older ones', () => {
  const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json')
  for (const older of [version, '1.18.0', '1.30.7']) expect(untested(older)).toBeUndefined()
})

test.each(['1.31.0', '1.31.0-dev.20260624', '2.0.0'])('reports that %s is newer', (version) => {
  expect(untested(version)).toBe(
    `ONNX Runtime ${version} is newer than 1.30, the newest version that @fourierft/native was tested with`,
  )
})
