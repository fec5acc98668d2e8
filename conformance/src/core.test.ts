/** The first row of the table: `core` alone. */
import { coreBackend } from '@fourierft/core'
import { readAgain } from './core-round-trip.js'
import { testBackend } from './vitest.js'

testBackend(() => ({ ...coreBackend(), roundTrip: readAgain }))
