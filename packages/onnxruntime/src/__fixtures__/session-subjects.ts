/** Sessions of ONNX Runtime as the life cycle's suite sees them: two layers, whose calls can be interrupted. */
import type { AdapterSubjects } from '@fourierft/conformance'
import { createSession } from '../create-session.js'
import type { Ort } from '../ort.js'
import { SHAPES, twoLayers } from './two-layers.js'

/** What sessions cannot do: see `testAdapters`. */
export const LACKS = ['train', 'writeWeights'] as const

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
        async callDuring(happens) {
          const output = run()
          await happens()
          return output
        },
        end: () => session.release(),
      }
    },
  }
}
