/** The comparison is fair: the methods start from the same head, and one batch for every epoch moves the head in the same way, whichever trainer trains it. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { MailComparison, type MailMethod } from './mail-methods.js'
import { cacheFolder } from './mail-model.js'
import type { Mail } from './mails.js'

const hasModel = existsSync(join(cacheFolder, 'minilm-0.2.1/model.onnx'))
const skipped = hasModel
  ? ''
  : ' (skipped: node packages/onnxruntime/scripts/minilm.js has not fetched the model)'

const mails: readonly Mail[] = Array.from({ length: 8 }, (_, i) =>
  i % 2 === 0
    ? {
        label: 'spam',
        text: `Offer ${i}: order our pills today and get ${i + 1} bottles free, click here now!`,
      }
    : {
        label: 'ham',
        text: `Re: build ${i}. The test fails on my machine too; I will look at line ${7 * i} tonight.`,
      },
)
const parts = { training: mails, scored: mails }

describe.skipIf(!hasModel)(`methods on mails${skipped}`, () => {
  test('the head alone, LoRA and FourierFT whose adapters stay zero reach the same loss; adapters change it', async () => {
    // A batch has all mails, so its order does not matter. Mails longer than 12 tokens are cut.
    const comparison = await MailComparison.open({ epochs: 3, batchSize: 8, maxLength: 12 })
    const headLearningRate = 1e-3
    const lossOf = async (method: MailMethod) => (await comparison.run(method, parts, 4)).loss
    const headOnly = await lossOf({ kind: 'head only', headLearningRate })
    const still = [
      await lossOf({ kind: 'FourierFT', n: 100, learningRate: 0, headLearningRate }),
      await lossOf({ kind: 'LoRA', rank: 2, learningRate: 0, headLearningRate }),
    ]
    // Three steps of AdamW, which divides each gradient by its size, on a loss that float32 rounds.
    for (const loss of still) expect(Math.abs(loss / headOnly - 1)).toBeLessThan(1e-3)
    const moved = [
      await lossOf({ kind: 'FourierFT', n: 100, learningRate: 0.1, headLearningRate }),
      await lossOf({ kind: 'LoRA', rank: 2, learningRate: 0.02, headLearningRate }),
    ]
    for (const loss of moved) expect(loss).toBeLessThan(0.99 * headOnly)
    const atStart = await lossOf({ kind: 'head only', headLearningRate: 0 })
    expect(headOnly).toBeLessThan(0.99 * atStart)
  })

  test('counts the trained numbers, and the bytes of the file', async () => {
    const comparison = await MailComparison.open({ epochs: 1, batchSize: 8, maxLength: 4 })
    const headLearningRate = 1e-3
    const head = 384 * 384 + 384 + 2 * 384 + 2
    const fourier = await comparison.run(
      { kind: 'FourierFT', n: 50, learningRate: 0, headLearningRate },
      parts,
      1,
    )
    const lora = await comparison.run({ kind: 'LoRA', rank: 1, learningRate: 0, headLearningRate }, parts, 1)
    expect([fourier.parameters, lora.parameters]).toEqual([6 * 50, 6 * 2 * 384])
    for (const { bytes, parameters } of [fourier, lora]) {
      const numbers = 4 * (head + parameters)
      expect(bytes).toBeGreaterThan(numbers)
      // The names of at most 16 tensors.
      expect(bytes).toBeLessThan(numbers + 16 * 256)
    }
  })
})
