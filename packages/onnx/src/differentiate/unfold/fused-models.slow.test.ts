/** Gradients of models whose attention was fused by ONNX Runtime's optimizer, against those of the same models before the fusion. */
import { decodeFloats, explicitEntries } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { modelBytes } from '../../__fixtures__/model-files.js'
import { createSession } from '../../__fixtures__/onnx-runtime.js'
import { attachBranches } from '../../attach/attach.js'
import { gradientFunction } from '../../attach/functions/gradient-function.js'
import type { LinearLayer } from '../../layers/linear-layer.js'
import { findLinearLayers } from '../../layers/linear-layers.js'
import { findPackedLayers, packedParts } from '../../layers/packed-layers.js'
import { type OnnxModel, readModel } from '../../model/model.js'
import { DataType } from '../../model/schema.js'
import { differentiate } from '../differentiate.js'
import { prepareTraining } from '../prepare/prepare-training.js'

const PARTS = { q: 'query', k: 'key', v: 'value' } as const
const ids = new Tensor(
  'int64',
  BigInt64Array.from({ length: 16 }, (_, i) => BigInt((3 * i) % 20)),
  [2, 8],
)
const mask = new Tensor(
  'int64',
  BigInt64Array.from({ length: 16 }, (_, i) => (i < 13 ? 1n : 0n)),
  [2, 8],
)

/** q, k and v of both blocks by name. */
function layersOf(model: OnnxModel): ReadonlyMap<string, LinearLayer> {
  const packed = findPackedLayers(model)
  const linear = findLinearLayers(model)
  const products = linear.filter(({ module }) => module?.endsWith('c_attn'))
  const layers = new Map<string, LinearLayer>()
  for (const block of [0, 1])
    for (const [part, name] of Object.entries(PARTS)) {
      const parts = products[block] ? packedParts(products[block], [16, 16, 16]) : packed
      const ofPart = parts.filter((one) => one.part?.name === part)
      const layer =
        (products[block] ? ofPart[0] : ofPart[block]) ??
        linear.find(({ module }) => module?.endsWith(`layer.${block}.attention.self.${name}`))
      if (!layer) throw new Error('a fixture has no attention')
      layers.set(`${block}.${part}`, layer)
    }
  return layers
}

/** ∂L/∂coefficients by layer, of a sum of the outputs with fixed weights. */
async function gradientsOf(name: string, hasMask: boolean): Promise<ReadonlyMap<string, Float32Array>> {
  const model = readModel(modelBytes(name))
  const layers = layersOf(model)
  const branches = Array.from(layers, ([module, layer]) => {
    const shape = [layer.outFeatures, layer.inFeatures] as const
    return { module, layer, entries: explicitEntries({ shape, rows: [0, 3, 5, 1], columns: [2, 1, 0, 7] }) }
  })
  const { rows, coefficients } = attachBranches(model, branches)
  const targets = [...coefficients.values()]
  prepareTraining(model, { targets })
  const feeds: Record<string, Tensor> = {
    x: ids,
    ...(hasMask && { mask }),
    [rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
    ...Object.fromEntries(
      targets.map((target, i) => [
        target,
        new Tensor(
          'float32',
          Float32Array.from({ length: 4 }, (_, l) => 9 * Math.sin(l + i)),
          [1, 4],
        ),
      ]),
    ),
  }
  const forward = await createSession(model.toBytes())
  const { y } = await forward.run(feeds)
  await forward.release()
  const isHalf = y.type === 'float16'
  model.graph.addInput({ name: 'seed', dataType: DataType.float, dims: y.dims.map((_, i) => `y${i}`) })
  const seed = isHalf ? 'seed16' : 'seed'
  if (isHalf)
    model.graph.insertBefore(model.graph.nodes[0], [
      { opType: 'Cast', inputs: ['seed'], outputs: [seed], attributes: { to: { int: DataType.float16 } } },
    ])
  const { gradients } = differentiate(model, { seeds: new Map([['y', seed]]), targets })
  for (const gradient of gradients.values()) model.graph.addOutput({ name: gradient })
  model.addFunction(gradientFunction(model.opsetImports.get('') ?? 0))
  const session = await createSession(model.toBytes())
  const results = await session.run({
    ...feeds,
    seed: new Tensor(
      'float32',
      Float32Array.from({ length: y.size }, (_, i) => Math.cos(1.7 * i)),
      y.dims,
    ),
  })
  await session.release()
  return new Map(
    Array.from(coefficients, ([module, target]) => {
      const { type, data } = results[gradients.get(target) as string]
      const { buffer, byteOffset, byteLength } = data as Float32Array
      const bytes = new Uint8Array(buffer, byteOffset, byteLength)
      return [
        module,
        type === 'float16'
          ? Float32Array.from(decodeFloats({ dtype: 'F16', bytes }))
          : (data as Float32Array),
      ]
    }),
  )
}

test.each([
  ['bert-fused', 'bert-plain', true, 1e-4],
  ['gpt2-fused', 'gpt2-plain', false, 1e-4],
  ['bert-half-fused', 'bert-plain', true, 2e-2],
] as const)('%s has the gradients of %s', async (fused, plain, hasMask, tolerance) => {
  const [received, expected] = [await gradientsOf(fused, hasMask), await gradientsOf(plain, hasMask)]
  expect([...received.keys()]).toEqual([...expected.keys()])
  for (const [module, values] of expected) {
    const norm = Math.hypot(...values)
    const error = Math.hypot(...values.map((value, i) => value - (received.get(module)?.[i] ?? NaN)))
    expect(norm).toBeGreaterThan(0)
    expect(error / norm).toBeLessThan(tolerance)
  }
})
