/** Runs the small cases of the conformance suite on layers that transformers.js loads and runs, with the native kernel. */
import { testBackend } from '@fourierft/conformance/vitest'
import { createTransformersBackend } from '../src/conformance.js'
import { KNOWN_GAPS } from './known-gaps.js'

testBackend(() => createTransformersBackend({ native: true }), { lacks: KNOWN_GAPS, quick: true })
