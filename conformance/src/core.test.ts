/** The first row of the table: `core` alone. */
import { coreBackend } from '@fourierft/core/conformance'
import { testBackend } from './vitest.js'

testBackend(() => coreBackend())
