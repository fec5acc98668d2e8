/** The first row of the table, `core` alone: the small cases. */
import { coreBackend } from '@fourierft/core/conformance'
import { testBackend } from './vitest.js'

testBackend(() => coreBackend(), { quick: true })
