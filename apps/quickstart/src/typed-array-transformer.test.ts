/** The two implementations of the model agree, with and without an adapter, and the committed base model has the accuracy that the README states. */
import { type Adapter, createAdapter, createConfig } from '@fourierft/core'
import { attach } from '@fourierft/tfjs'
import { describe, expect, it } from 'vitest'
import { baseFolder, readCheckpoint } from './checkpoint-files.js'
import { firstDigits } from './digits.js'
import { predict } from './fine-tune.js'
import { largestDifference } from './largest-difference.js'
import { loadDigits } from './load-digits.js'
import { loadWeights } from './model-weights.js'
import { rotateDigits } from './rotated-digits.js'
import { roundingLimit } from './rounding-limit.js'
import { predictions, score } from './score.js'
import { degrees } from './settings.js'
import { typedArrayTransformer } from './typed-array-transformer.js'
import { visionTransformer } from './vision-transformer.js'
import { useWasm } from './wasm-products.js'

await useWasm()
const checkpoint = await readCheckpoint(baseFolder)
const model = visionTransformer(checkpoint.config)
loadWeights(model, checkpoint)
const upright = firstDigits((await loadDigits()).test, 300)

describe('the committed base model', () => {
  const first = predict(model, upright)
  const second = typedArrayTransformer(checkpoint)(upright)

  it('gives the same labels in both implementations, and logits that differ by rounding only', () => {
    expect(largestDifference(first, second)).toBeLessThanOrEqual(roundingLimit(checkpoint.config, second))
    expect(predictions(first, upright.count)).toEqual(predictions(second, upright.count))
  })

  it('has the accuracies of the README on upright and on rotated digits', () => {
    // 97.3 % and 37.2 % of all test digits. The standard deviations for 300 of them are 1 and 2.8 percent; the limit is three of these.
    expect(Math.abs(score(second, upright.labels).accuracy - 0.973)).toBeLessThan(0.03)
    const { accuracy } = score(predict(model, rotateDigits(upright, degrees)), upright.labels)
    expect(Math.abs(accuracy - 0.372)).toBeLessThan(0.084)
  })
})

describe('an adapter', () => {
  /** Its coefficients are standard normal, PEFT's initial values, and change every logit. */
  const adapter = (): Adapter => {
    const config = createConfig({
      targetModules: ['query', 'value'],
      nFrequency: 64,
      scaling: 64,
      randomLocSeed: 5,
    })
    const names = Array.from({ length: checkpoint.config.num_hidden_layers }, (_, index) =>
      ['query', 'value'].map((name) => `vit.encoder.layer.${index}.attention.attention.${name}`),
    ).flat()
    const width = checkpoint.config.hidden_size
    return createAdapter(config, Object.fromEntries(names.map((name) => [name, [width, width] as const])))
  }

  it('has the same effect in both implementations', async () => {
    const adapters = attach(model)
    await adapters.loadAdapter(adapter())
    const first = predict(model, upright)
    adapters.detach()
    const second = typedArrayTransformer(checkpoint, adapter().layers())(upright)
    const limit = roundingLimit(checkpoint.config, second)
    expect(largestDifference(first, second)).toBeLessThanOrEqual(limit)
    expect(largestDifference(second, typedArrayTransformer(checkpoint)(upright))).toBeGreaterThan(100 * limit)
  })
})

describe('typedArrayTransformer', () => {
  it('gives an image the same logits in every batch', () => {
    const transformer = typedArrayTransformer(checkpoint)
    const single = transformer(firstDigits(upright, 1))
    expect(transformer(firstDigits(upright, 20)).subarray(0, single.length)).toEqual(single)
  })

  it('names a missing tensor', () => {
    const weights = new Map(checkpoint.weights)
    weights.delete('classifier.bias')
    const broken = typedArrayTransformer({ ...checkpoint, weights })
    expect(() => broken(firstDigits(upright, 1))).toThrow('classifier.bias')
  })
})
