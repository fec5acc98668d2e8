/** The suite on the native operators, and on the portable function what it can do: it has no gradient yet, so no levels 5 to 8. */
import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createOnnxRuntimeBackend } from '../src/backend.js'

// All but level 2: a session reads adapters and writes none.
const withoutFiles = [1, 3, 4, 5, 6, 7, 8] as const
describe('onnxruntime-native', () =>
  testBackend(() => createOnnxRuntimeBackend('native'), { levels: withoutFiles }))

const levels = [1, 3, 4] as const
describe('onnxruntime-cpu', () => testBackend(() => createOnnxRuntimeBackend('cpu'), { levels, quick: true }))
describe('onnxruntime-web-wasm', () =>
  testBackend(() => createOnnxRuntimeBackend('web-wasm'), { levels, quick: true }))
