import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createTfjsBackend } from './conformance.js'

// The cpu backend multiplies matrices in plain JavaScript: the small cases.
describe('tfjs-cpu', () => testBackend(() => createTfjsBackend('cpu'), { quick: true }))
describe('tfjs-wasm', () => testBackend(() => createTfjsBackend('wasm')))
