/** The first row of the table, `core` alone: the whole suite. */
import { coreBackend } from '@fourierft/core/conformance'
import { testBackend } from './vitest.js'

testBackend(() => coreBackend())
