/** The comparison has to detect wrong adapters and models. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { savePretrained } from '@fourierft/core'
import { attach } from '@fourierft/tfjs'
import { afterAll, describe, expect, it } from 'vitest'
import { weightNamed } from './checkpoint.js'
import { baseFolder, readCheckpoint } from './checkpoint-files.js'
import { compareImplementations } from './compare-implementations.js'
import { firstDigits } from './digits.js'
import { predict } from './fine-tune.js'
import { loadDigits } from './load-digits.js'
import { loadWeights } from './model-weights.js'
import { targetModules } from './settings.js'
import { visionTransformer } from './vision-transformer.js'
import { useWasm } from './wasm-products.js'

await useWasm()
const checkpoint = await readCheckpoint(baseFolder)
const model = visionTransformer(checkpoint.config)
loadWeights(model, checkpoint)
const digits = firstDigits((await loadDigits()).test, 50)
const adapters = attach(model, { targetModules, nFrequency: 32, scaling: 32 })
const logits = predict(model, digits)
const out = await mkdtemp(join(tmpdir(), 'quickstart-'))
afterAll(() => rm(out, { recursive: true }))

describe('compareImplementations', () => {
  it('agrees about the adapter that was saved', async () => {
    const folder = join(out, 'same')
    await adapters.savePretrained(folder)
    const comparison = await compareImplementations(adapters, folder, checkpoint, digits, logits)
    expect(comparison).toMatchObject({ differentLabels: 0, agrees: true })
    expect(comparison.deltas).toHaveLength(6)
  })

  it('disagrees if a single coefficient in the file differs', async () => {
    const folder = join(out, 'other')
    const adapter = await adapters.getAdapter()
    const [[name, { coefficients }] = ['', { coefficients: new Float32Array() }]] = adapter.modules
    const changed = coefficients.map((value, i) => (i === 7 ? value + 0.01 : value))
    await savePretrained(adapter.withCoefficients({ [name]: changed }), folder)
    const { agrees, deltas } = await compareImplementations(adapters, folder, checkpoint, digits, logits)
    expect(agrees).toBe(false)
    const wrong = deltas.filter(({ difference, limit }) => difference > limit)
    expect(wrong.map(({ module }) => module)).toEqual([name])
  })

  it('disagrees if the base model differs', async () => {
    const folder = join(out, 'base')
    await adapters.savePretrained(folder)
    const bias = weightNamed(checkpoint, 'classifier.bias')
    const values = bias.values.map((value, i) => (i === 0 ? value + 0.01 : value))
    const weights = new Map([...checkpoint.weights, ['classifier.bias', { ...bias, values }]])
    const { agrees, logitDifference, logitLimit } = await compareImplementations(
      adapters,
      folder,
      { ...checkpoint, weights },
      digits,
      logits,
    )
    expect(agrees).toBe(false)
    expect(logitDifference).toBeGreaterThan(logitLimit)
  })
})
