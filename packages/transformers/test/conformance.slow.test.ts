/** Runs the whole conformance suite on layers that transformers.js loads and runs, with the native kernel, and the small cases without it. */
import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createTransformersBackend } from '../src/conformance.js'
import { KNOWN_GAPS } from './known-gaps.js'

describe.each([true, false])('native: %s', (native) =>
  testBackend(() => createTransformersBackend({ native }), { lacks: KNOWN_GAPS, quick: !native }),
)
