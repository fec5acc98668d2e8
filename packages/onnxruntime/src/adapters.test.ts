/** The adapter life cycle in sessions of ONNX Runtime in Node, with the native kernel and without it. */
import { testAdapters } from '@fourierft/conformance/vitest'
import * as ort from 'onnxruntime-node'
import { describe } from 'vitest'
import { KNOWN_GAPS, sessionSubjects } from './__fixtures__/session-subjects.js'

describe.each([
  ['the native kernel', true],
  ['the portable function', false],
] as const)('%s', (_, native) => {
  testAdapters(() => sessionSubjects(ort, native), { lacks: KNOWN_GAPS })
})
