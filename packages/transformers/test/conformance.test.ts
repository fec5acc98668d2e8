/** The suite on layers that transformers.js loads and runs, on the native kernel and on the portable function. */
import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createTransformersBackend } from '../src/conformance.js'

const lacks = {
  2: 'a session reads adapters and writes none',
  5: 'transformers.js serves and does not train',
  7: 'transformers.js serves and does not train',
}

describe.each([true, false])('native: %s', (native) =>
  testBackend(() => createTransformersBackend({ native }), { lacks, quick: !native }),
)
