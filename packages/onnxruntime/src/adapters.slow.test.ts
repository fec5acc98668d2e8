/** The adapter life cycle in sessions of ONNX Runtime on WebAssembly. */
import { testAdapters } from '@fourierft/conformance/vitest'
import * as ort from 'onnxruntime-web'
import { KNOWN_GAPS, sessionSubjects } from './__fixtures__/session-subjects.js'

ort.env.wasm.numThreads = 1

testAdapters(() => sessionSubjects(ort, false), { lacks: KNOWN_GAPS })
