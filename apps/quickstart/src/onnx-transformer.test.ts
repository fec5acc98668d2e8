/** The exported model gives the logits of the typed-array implementation, with and without an adapter, for every batch size. */
import { type Adapter, createAdapter, createConfig } from '@fourierft/core'
import { findLinearLayers, readModel } from '@fourierft/onnx'
import { createSession } from '@fourierft/onnxruntime'
import * as ort from 'onnxruntime-node'
import { describe, expect, it } from 'vitest'
import { baseFolder, readCheckpoint } from './checkpoint-files.js'
import { firstDigits } from './digits.js'
import { largestDifference } from './largest-difference.js'
import { loadDigits } from './load-digits.js'
import { onnxLogits } from './onnx-logits.js'
import { onnxTransformer } from './onnx-transformer.js'
import { roundingLimit } from './rounding-limit.js'
import { predictions } from './score.js'
import { typedArrayTransformer } from './typed-array-transformer.js'

const checkpoint = await readCheckpoint(baseFolder)
const bytes = onnxTransformer(checkpoint).toBytes()
const digits = firstDigits((await loadDigits()).test, 100)

const targets = [0, 1, 2].flatMap((index) =>
  ['query', 'value'].map((name) => `vit.encoder.layer.${index}.attention.attention.${name}`),
)

/** An adapter with standard normal coefficients, which change every logit. */
function adapter(): Adapter {
  const config = createConfig({ nFrequency: 64, scaling: 64, randomLocSeed: 5, initWeights: false })
  const width = checkpoint.config.hidden_size
  return createAdapter(config, Object.fromEntries(targets.map((name) => [name, [width, width] as const])))
}

describe('onnxTransformer', () => {
  it('gives the logits of the typed-array implementation, without an adapter and with one', async () => {
    const session = await createSession(bytes, { ort })
    const base = typedArrayTransformer(checkpoint)(digits)
    const limit = roundingLimit(checkpoint.config, base)
    const first = await onnxLogits(session, ort.Tensor, digits)
    expect(largestDifference(first, base)).toBeLessThanOrEqual(limit)
    expect(predictions(first, digits.count)).toEqual(predictions(base, digits.count))

    await session.loadAdapter(adapter())
    const adapted = typedArrayTransformer(checkpoint, adapter().layers())(digits)
    const second = await onnxLogits(session, ort.Tensor, digits)
    expect(largestDifference(second, adapted)).toBeLessThanOrEqual(roundingLimit(checkpoint.config, adapted))
    expect(largestDifference(adapted, base)).toBeGreaterThan(100 * limit)
    await session.release()
  })

  it('accepts batches of any size', async () => {
    const session = await createSession(bytes, { ort })
    const limit = roundingLimit(checkpoint.config, typedArrayTransformer(checkpoint)(digits))
    const [single, batched] = [
      await onnxLogits(session, ort.Tensor, firstDigits(digits, 7), 1),
      await onnxLogits(session, ort.Tensor, digits, 33),
    ]
    expect(single).toHaveLength(7 * 10)
    expect(largestDifference(single, batched.subarray(0, 70))).toBeLessThanOrEqual(2 * limit)
    await session.release()
  })

  it('gives its linear layers the names that PyTorch gives them', () => {
    const layers = findLinearLayers(readModel(bytes))
    const modules = layers.map(({ module }) => module)
    expect(modules).toEqual([
      ...[0, 1, 2].flatMap((index) =>
        [
          'attention.attention.query',
          'attention.attention.key',
          'attention.attention.value',
          'attention.output.dense',
          'intermediate.dense',
          'output.dense',
        ].map((name) => `vit.encoder.layer.${index}.${name}`),
      ),
      'classifier',
    ])
    for (const { module, outFeatures, inFeatures } of layers)
      expect(checkpoint.weights.get(`${module}.weight`)?.shape).toEqual([outFeatures, inFeatures])
  })

  it('writes every weight of the checkpoint once', () => {
    const { initializers } = readModel(bytes).graph
    const sizes = (tensors: Iterable<{ dims: readonly number[] }>) =>
      Array.from(tensors, ({ dims }) => dims.reduce((a, b) => a * b, 1)).sort()
    expect(sizes(initializers.values())).toEqual(
      sizes(Array.from(checkpoint.weights.values(), ({ shape }) => ({ dims: shape }))),
    )
  })
})
