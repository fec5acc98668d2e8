/** Runs the whole suite on the backend `core`. */
import { coreBackend } from '@fourierft/core/conformance'
import { testBackend } from './vitest.js'

testBackend(() => coreBackend())
