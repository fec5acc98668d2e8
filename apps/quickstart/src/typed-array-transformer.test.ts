/** Two implementations of one model: the committed base is as good as its README says in both, with and without an adapter. */
import { type Adapter, createAdapter, createConfig } from '@fourierft/core'
import { attach } from '@fourierft/tfjs'
import { describe, expect, it } from 'vitest'
import { baseFolder, readCheckpoint } from './checkpoint-files.js'
import { firstDigits } from './digits.js'
import { predict } from './fine-tune.js'
import { largestDifference } from './largest-difference.js'
import { loadDigits } from './load-digits.js'
import { loadWeights } from './model-weights.js'
import { roundingLimit } from './rounding-limit.js'
import { predictions, score } from './score.js'
import { degrees } from './settings.js'
import { turned } from './turned-digits.js'
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

  it('labels the same in both implementations, with logits that differ by rounding only', () => {
    expect(largestDifference(first, second)).toBeLessThanOrEqual(roundingLimit(checkpoint.config, second))
    expect(predictions(first, upright.count)).toEqual(predictions(second, upright.count))
  })

  it('reads upright digits and not turned ones', () => {
    // 97.3 % of all test digits; 300 of them deviate from that by one percent, and three of those are a wide margin.
    expect(score(second, upright.labels).accuracy).toBeGreaterThan(0.943)
    expect(score(predict(model, turned(upright, degrees)), upright.labels).accuracy).toBeLessThan(0.5)
  })
})

describe('an adapter', () => {
  /** With coefficients that change every label's logits: standard normal, as PEFT starts them. */
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
  it('does not depend on how many images go through together', () => {
    const transformer = typedArrayTransformer(checkpoint)
    const [one] = [transformer(firstDigits(upright, 1))]
    expect(transformer(firstDigits(upright, 20)).subarray(0, one.length)).toEqual(one)
  })

  it('names a tensor that is missing', () => {
    const weights = new Map(checkpoint.weights)
    weights.delete('classifier.bias')
    const broken = typedArrayTransformer({ ...checkpoint, weights })
    expect(() => broken(firstDigits(upright, 1))).toThrow('classifier.bias')
  })
})
