/** The row `core` in a browser. */
import { coreBackend } from '@fourierft/core/conformance'
import { testBackend } from '../../src/vitest.js'

testBackend(coreBackend, { quick: true })
