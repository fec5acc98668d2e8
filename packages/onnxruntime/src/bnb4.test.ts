/** 4-bit weights as bitsandbytes packs them (`MatMulBnb4`, transformers.js's dtype `bnb4`): adapters work as branches and cannot be merged. */
import { type Adapter, createAdapter, createConfig, referenceForward } from '@fourierft/core'
import { createModel, DataType, findLinearLayers, type OnnxModel } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { createSession } from './create-session.js'

const [TOKENS, IN, OUT, BLOCK] = [3, 32, 24, 16]
const MODULE = 'block.first'

/** Returns a model of y = x·W + b, as ONNX Runtime's quantiser writes it. */
function quantisedLayer(quantType: bigint, attributes = {}): OnnxModel {
  const bytes = (values: Float32Array) => new Uint8Array(values.buffer)
  const float = DataType.float
  const model = createModel(
    {
      name: 'main',
      inputs: [{ name: 'x', dataType: float, dims: ['batch', TOKENS, IN] }],
      outputs: [{ name: 'y', dataType: float, dims: ['batch', TOKENS, OUT] }],
      initializers: [
        {
          name: 'w_Bnb4',
          dims: [(IN * OUT) / 2],
          dataType: DataType.uint8,
          data: Uint8Array.from({ length: (IN * OUT) / 2 }, (_, i) => (i * 37) % 256),
        },
        {
          name: 'w_absmax',
          dims: [(IN * OUT) / BLOCK],
          dataType: float,
          data: bytes(Float32Array.from({ length: (IN * OUT) / BLOCK }, (_, i) => 0.2 + 0.01 * i)),
        },
        { name: 'b', dims: [OUT], dataType: float, data: bytes(new Float32Array(OUT).fill(0.5)) },
      ],
      nodes: [
        {
          name: `/${MODULE.replace('.', '/')}/MatMul_Bnb4`,
          opType: 'MatMulBnb4',
          domain: 'com.microsoft',
          inputs: ['x', 'w_Bnb4', 'w_absmax'],
          outputs: ['p'],
          attributes: {
            K: { int: IN },
            N: { int: OUT },
            block_size: { int: BLOCK },
            quant_type: { int: quantType },
            ...attributes,
          },
        },
        { name: '/Add', opType: 'Add', inputs: ['p', 'b'], outputs: ['y'] },
      ],
    },
    { opset: 17 },
  )
  model.addOpsetImport('com.microsoft', 1)
  return model
}

const adapterFor = (seed: number): Adapter =>
  createAdapter(
    createConfig({ nFrequency: 24, scaling: 150, initWeights: false }),
    { [MODULE]: [OUT, IN] },
    {
      initialSeed: seed,
    },
  )

test('finds the layer with the name of its module and the shape of its weight', () => {
  const [layer] = findLinearLayers(quantisedLayer(1n))
  expect(layer).toMatchObject({ module: MODULE, outFeatures: OUT, inFeatures: IN })
  // With transB = 0, the product is with [N, K] itself.
  const [transposed] = findLinearLayers(quantisedLayer(1n, { transB: { int: 0 } }))
  expect(transposed).toMatchObject({ outFeatures: IN, inFeatures: OUT })
})

describe.each([true, false])('native %s', (native) => {
  test.each([
    ['FP4', 0n],
    ['NF4', 1n],
  ])('%s: the base model is unchanged, bit for bit, and each adapter adds ΔW·x', async (_, quantType) => {
    const file = quantisedLayer(quantType).toBytes()
    const x = Float32Array.from({ length: 2 * TOKENS * IN }, (_, i) => Math.sin(0.7 * i))
    const feeds = { x: new ort.Tensor('float32', x, [2, TOKENS, IN]) }
    const plain = await ort.InferenceSession.create(file)
    const base = (await plain.run(feeds)).y?.data as Float32Array
    await plain.release()
    const adapters = { a: adapterFor(1), b: adapterFor(2) }
    const session = await createSession(file, { native, adapters })
    expect(session.usesNativeKernel).toBe(native)
    const outputOf = async (options = {}) => (await session.run(feeds, options)).y?.data as Float32Array
    for (const name of ['a', 'b'] as const) {
      session.setAdapter(name)
      const change = referenceForward([adapters[name].layer(MODULE)], x)
      const largest = Math.max(...Array.from(base, Math.abs))
      const output = await outputOf()
      // Sums of 32 products and 24 coefficients, each rounded.
      for (const [i, value] of output.entries())
        expect(Math.abs(value - base[i] - change[i])).toBeLessThan(2 * (32 + 48) * 2 ** -24 * largest)
      expect(output).not.toEqual(base)
    }
    await expect(session.mergeAdapter()).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/MatMulBnb4.* is quantised; keep the adapter as a branch/),
    })
    session.disableAdapters()
    expect(await outputOf()).toEqual(base)
    await session.release()
  })
})
