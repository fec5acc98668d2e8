import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createTfjsBackend } from './conformance.js'

// Runs the small cases; `conformance.slow.test.ts` runs all cases.
describe('tfjs-cpu', () => testBackend(() => createTfjsBackend('cpu'), { quick: true }))
describe('tfjs-wasm', () => testBackend(() => createTfjsBackend('wasm'), { quick: true }))
