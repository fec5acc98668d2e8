/** The row `core` in a browser. */
import { coreBackend } from '@fourierft/core'
import { testBackend } from '../../src/vitest.js'

testBackend(coreBackend, { quick: true })
