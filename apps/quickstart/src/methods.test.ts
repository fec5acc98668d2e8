/** Every method starts with the frozen model's outputs, trains only its own variables, and restores the model. */
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadAdapter, readSafetensors } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import { afterAll, describe, expect, it } from 'vitest'
import { baseFolder, readCheckpoint } from './checkpoint-files.js'
import { firstDigits } from './digits.js'
import { fineTune, predict } from './fine-tune.js'
import { largestDifference } from './largest-difference.js'
import { loadDigits } from './load-digits.js'
import { countParameters, fourierft, fullFineTuning, loraMethods, methods } from './methods.js'
import { loadWeights } from './model-weights.js'
import { rotateDigits } from './rotated-digits.js'
import { roundingLimit } from './rounding-limit.js'
import { score } from './score.js'
import { degrees, fourierSettings, loraSettings } from './settings.js'
import { visionTransformer } from './vision-transformer.js'
import { useWasm } from './wasm-products.js'

await useWasm()
const checkpoint = await readCheckpoint(baseFolder)
const model = visionTransformer(checkpoint.config)
loadWeights(model, checkpoint)
const digits = rotateDigits(firstDigits((await loadDigits()).adaptation, 64), degrees)
const folder = await mkdtemp(join(tmpdir(), 'quickstart-'))
afterAll(() => rm(folder, { recursive: true }))

/**
 * The loss of each method after 8 steps; the frozen model's loss is 3.6465. Noise of 1e-5 (170 unit roundoffs) in the pixels changes these losses by
 * less than 1e-5, so the rounding of another machine stays far below LOSS_LIMIT.
 */
const LOSSES: Readonly<Record<string, number>> = {
  FourierFT: 1.352767,
  'LoRA, rank 2': 1.852812,
  'LoRA, rank 4': 2.052317,
  'Full fine-tuning': 0.824108,
}
const LOSS_LIMIT = 1e-4

const weights = () => model.getWeights().map((weight) => weight.dataSync())

describe.each(methods)('$name', (method) => {
  it('starts with the outputs of the frozen model, reaches the known loss, and restores the model bit for bit', async () => {
    const before = { logits: predict(model, digits), weights: weights(), ...tf.memory() }
    const attached = method.attach(model, 1)
    // FourierFT adds the bias after the product, but the frozen layer adds it in a fused product, so the logits differ by rounding.
    const difference = largestDifference(predict(model, digits), before.logits)
    expect(difference).toBeLessThanOrEqual(roundingLimit(checkpoint.config, before.logits))
    const training = { digits, epochs: 2, batchSize: 16, learningRate: method.learningRate, seed: 1 }
    await fineTune(model, attached.variables, training)
    expect(score(before.logits, digits.labels).loss).toBeCloseTo(3.6465, 4)
    const { loss } = score(predict(model, digits), digits.labels)
    expect(Math.abs(loss - (LOSSES[method.name] ?? Number.NaN))).toBeLessThan(LOSS_LIMIT)
    attached.detach()
    expect(predict(model, digits)).toEqual(before.logits)
    expect(weights()).toEqual(before.weights)
    expect(tf.memory().numTensors).toBe(before.numTensors)
  })

  it('gives logits that depend on the seed only', async () => {
    const learn = async (seed: number) => {
      const attached = method.attach(model, seed)
      await fineTune(model, attached.variables, {
        digits,
        epochs: 1,
        batchSize: 16,
        learningRate: method.learningRate,
        seed,
      })
      const logits = predict(model, digits)
      attached.detach()
      return logits
    }
    const first = await learn(1)
    expect(await learn(1)).toEqual(first)
    expect(await learn(2)).not.toEqual(first)
  })
})

describe('the trained and saved parameters', () => {
  const [width, layers] = [checkpoint.config.hidden_size, 2 * checkpoint.config.num_hidden_layers]

  it('FourierFT: n coefficients for each query and value layer, in an adapter that core loads', async () => {
    const attached = fourierft.attach(model, 1)
    const file = await attached.save(join(folder, 'fourierft'))
    expect(countParameters(attached.variables)).toBe(layers * fourierSettings.nFrequency)
    attached.detach()
    const adapter = await loadAdapter(join(folder, 'fourierft'))
    expect(
      [...adapter.modules.keys()].every((name) => /attention\.attention\.(query|value)$/.test(name)),
    ).toBe(true)
    expect(adapter.modules.size).toBe(layers)
    expect((await stat(file)).size).toBeLessThan(8192)
  })

  it.each(loraSettings.map(({ rank }, index) => [rank, index]))(
    'LoRA, rank %i: two factors for each query and value layer, with the names and shapes of PEFT',
    async (rank, index) => {
      const attached = loraMethods[index]?.attach(model, 1)
      if (attached === undefined) throw new Error(`no method for rank ${rank}`)
      expect(countParameters(attached.variables)).toBe(layers * 2 * width * rank)
      const file = await attached.save(join(folder, `lora-${rank}`))
      attached.detach()
      const { tensors } = readSafetensors(await readFile(file), file)
      expect(tensors.size).toBe(2 * layers)
      const name = 'base_model.model.vit.encoder.layer.0.attention.attention.query'
      expect(tensors.get(`${name}.lora_A.weight`)?.shape).toEqual([rank, width])
      expect(tensors.get(`${name}.lora_B.weight`)?.shape).toEqual([width, rank])
    },
  )

  it('full fine-tuning: all weights, in a checkpoint that reads back bit for bit', async () => {
    const attached = fullFineTuning.attach(model, 1)
    expect(countParameters(attached.variables)).toBe(model.countParams())
    await attached.save(join(folder, 'full'))
    attached.detach()
    expect(await readCheckpoint(join(folder, 'full'))).toEqual(checkpoint)
  })
})
