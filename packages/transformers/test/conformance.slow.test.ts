/** The whole suite on layers that transformers.js loads and runs, on the native kernel. */
import { testBackend } from '@fourierft/conformance/vitest'
import { createTransformersBackend } from '../src/backend.js'

// All but level 2 (a session reads adapters and writes none), and 5 and 7: transformers.js does not train.
testBackend(() => createTransformersBackend({ native: true }), { levels: [1, 3, 4, 6, 8] })
