/** Runs the whole suite on WebAssembly. */
import { testBackend } from '@fourierft/conformance/vitest'
import { createTfjsBackend } from './conformance.js'

testBackend(() => createTfjsBackend('wasm'))
