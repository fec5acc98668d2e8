/** The life cycle of adapters in sessions of ONNX Runtime: in Node with and without the native kernel, and in wasm. */
import { testAdapters } from '@fourierft/conformance/vitest'
import * as node from 'onnxruntime-node'
import * as web from 'onnxruntime-web'
import { describe } from 'vitest'
import { SHAPES, twoLayers } from './__fixtures__/two-layers.js'
import { createSession } from './create-session.js'

describe.each([
  ['the native kernel', { ort: node, native: true }],
  ['the portable function', { ort: node, native: false }],
  ['wasm', { ort: web, native: false }],
] as const)('%s', (_, { ort, native }) => {
  web.env.wasm.numThreads = 1

  testAdapters(
    () => ({
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
    }),
    { lacks: ['train', 'writeWeights'] },
  )
})
