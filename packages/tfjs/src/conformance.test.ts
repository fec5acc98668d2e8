import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createTfjsBackend } from './conformance.js'

// The small cases; `conformance.slow.test.ts` has the others.
describe('tfjs-cpu', () => testBackend(() => createTfjsBackend('cpu'), { quick: true }))
describe('tfjs-wasm', () => testBackend(() => createTfjsBackend('wasm'), { quick: true }))
