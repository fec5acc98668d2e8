/** The first row of the table, `core` alone: the whole suite. */
import { coreBackend } from '@fourierft/core'
import { testBackend } from './vitest.js'

testBackend(() => coreBackend())
