/** Sessions of ONNX Runtime as subjects of the tests of the adapter life cycle. The model has two layers. */
import type { AdapterSubjects } from '@fourierft/conformance'
import { createSession } from '../create-session.js'
import type { Ort } from '../ort.js'
import { SHAPES, twoLayers } from './two-layers.js'

/** The abilities that sessions do not have, for the option `lacks` of `testAdapters`. */
export const KNOWN_GAPS = ['train', 'writeWeights'] as const

export function sessionSubjects(ort: Ort, native: boolean): AdapterSubjects {
  return {
    layer: { module: 'block.first', shape: SHAPES['block.first'] },
    head: { module: 'block.second', shape: SHAPES['block.second'], hasBias: false },
    async create() {
      const session = await createSession(twoLayers(), { ort, native })
      const x = Float32Array.from({ length: 2 * 3 * 12 }, (_, i) => Math.sin(0.7 * i))
      const run = async (options = {}) => {
        const { y } = await session.run({ x: new ort.Tensor('float32', x, [2, 3, 12]) }, options)
        return y?.data as Float32Array
      }
      return {
        adapters: session,
        call: () => run(),
        callWithRows: (adapters) => run({ adapters }),
        async callDuring(action) {
          const output = run()
          await action()
          return output
        },
        end: () => session.release(),
      }
    },
  }
}
