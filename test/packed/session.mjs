// Saves and loads an adapter, and applies it with the native kernel and in sessions of onnxruntime-node, with the native kernel and with the portable
// function. The test copies this program into the project, and checks the JSON that it prints.

import { createAdapter, createConfig, delta, loadAdapter, savePretrained } from '@fourierft/core'
import { kernel, kernelProblem } from '@fourierft/native'
import { createModel, DataType } from '@fourierft/onnx'
import { createSession } from '@fourierft/onnxruntime'
import { Tensor } from 'onnxruntime-node'

const [d1, d2] = [64, 48]
const config = createConfig({ nFrequency: 100, scaling: 150, initWeights: false })
const created = createAdapter(config, { 'block.proj': [d1, d2] }, { initialSeed: 1 })
await savePretrained(created, 'session-adapter')
const adapter = await loadAdapter('./session-adapter')
const [layer] = adapter.layers()
const change = delta(layer)
const isUnchanged = delta(created.layers()[0]).every((value, i) => value === change[i])

const native = kernel()
if (native === undefined) throw new Error(kernelProblem())
const nativeChange = await native.delta(layer)

// y = W x with W = 0, so with the adapter y = ΔW x.
const weight = { name: 'w', dims: [d2, d1], dataType: DataType.float, data: new Uint8Array(4 * d1 * d2) }
const model = createModel(
  {
    name: 'main',
    nodes: [{ name: '/block/proj/MatMul', opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
    inputs: [{ name: 'x', dataType: DataType.float, dims: ['tokens', d2] }],
    outputs: [{ name: 'y', dataType: DataType.float, dims: ['tokens', d1] }],
    initializers: [weight],
  },
  { opset: 17 },
).toBytes()
const x = Float32Array.from({ length: d2 }, (_, q) => (q % 7) - 3)
const expected = Float64Array.from({ length: d1 }, (_, p) =>
  x.reduce((sum, value, q) => sum + change[p * d2 + q] * value, 0),
)

async function outputOfSession(options) {
  const session = await createSession(model, { adapters: { adapter }, ...options })
  const { y } = await session.run({ x: new Tensor('float32', x, [1, d2]) })
  await session.release()
  return y.data
}

/** Returns the largest difference, relative to the largest expected value. */
function differenceOf(received, expected) {
  const largest = Math.max(...expected.map(Math.abs))
  return Math.max(...expected.map((value, i) => Math.abs(value - received[i]))) / largest
}

console.log(
  JSON.stringify({
    isUnchanged,
    kernel: differenceOf(nativeChange, change),
    nativeSession: differenceOf(await outputOfSession({ native: true }), expected),
    portableSession: differenceOf(await outputOfSession({ native: false }), expected),
  }),
)
