/** The whole suite on WebAssembly. */
import { testBackend } from '@fourierft/conformance/vitest'
import { createTfjsBackend } from './backend.js'

testBackend(() => createTfjsBackend('wasm'))
