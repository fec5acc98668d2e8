/** The suite's small cases on layers that transformers.js loads and runs, on the native kernel and on the portable function. */
import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createTransformersBackend } from '../src/conformance.js'
import { KNOWN_GAPS } from './known-gaps.js'

describe.each([true, false])('native: %s', (native) =>
  testBackend(() => createTransformersBackend({ native }), { lacks: KNOWN_GAPS, quick: true }),
)
