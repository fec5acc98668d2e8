/** Runs the small cases of the suite on the backend `core`. */
import { coreBackend } from '@fourierft/core/conformance'
import { testBackend } from './vitest.js'

testBackend(() => coreBackend(), { quick: true })
