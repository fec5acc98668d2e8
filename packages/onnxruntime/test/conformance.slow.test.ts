/** The whole suite on the native operators. */
import { testBackend } from '@fourierft/conformance/vitest'
import { createOnnxRuntimeBackend } from '../src/backend.js'

// All but level 2: a session reads adapters and writes none.
testBackend(() => createOnnxRuntimeBackend('native'), { levels: [1, 3, 4, 5, 6, 7, 8] })
