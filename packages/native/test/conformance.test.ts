import { testBackend } from '@fourierft/conformance/vitest'
import { coreBackend } from '@fourierft/core/conformance'
import { describe } from 'vitest'
import { kernel, kernelProblem } from '../js/kernel.js'

const native = kernel()
const reason = native ? '' : ` (skipped: ${kernelProblem()})`

describe.skipIf(native === undefined)(`core-native${reason}`, () => {
  testBackend(() => coreBackend(native && { kernel: native }), { quick: true })
})
