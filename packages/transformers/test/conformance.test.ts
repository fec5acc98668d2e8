/** The suite's small cases on layers that transformers.js loads and runs, on the native kernel and on the portable function. */
import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createTransformersBackend } from '../src/backend.js'

// All but level 2 (a session reads adapters and writes none), and 5 and 7: transformers.js does not train.
const levels = [1, 3, 4, 6, 8] as const

describe.each([true, false])('native: %s', (native) =>
  testBackend(() => createTransformersBackend({ native }), { levels, quick: true }),
)
