/** Training of paraphrase-MiniLM-L3-v2 on the real mails of the tests: an adapter that PEFT has trained is trained further, as a sentence encoder. */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { createSession } from '../src/create-session.js'
import { contrastive, cosineSimilarity, createTrainer, type Loss } from '../src/index.js'
import { gradientErrors } from '../src/trainer/__fixtures__/check-whole-gradient.js'
import { makeBatch } from './minilm-batch.js'

type Name = 'cosineSimilarity' | 'contrastive'

const MODEL = fileURLToPath(new URL('../../../.cache/minilm-0.2.1/model.onnx', import.meta.url))
const FOLDER = fileURLToPath(new URL('__fixtures__/minilm', import.meta.url))
const hasModel = existsSync(MODEL)
const skipped = hasModel
  ? ''
  : ' (skipped: node packages/onnxruntime/scripts/minilm.js has not fetched the model)'

/** The name of the mean-pooled embeddings in the file. */
const EMBEDDINGS = '461'
/** The losses of PyTorch and PEFT, which `scripts/minilm-trajectory.py` has written. */
const trajectory: { readonly learningRate: number } & Readonly<
  Record<Name, { readonly losses: readonly number[]; readonly gradientNorms: readonly number[] }>
> = JSON.parse(readFileSync(`${FOLDER}/trajectory.json`, 'utf8'))

const losses: readonly (readonly [Name, Loss])[] = [
  ['cosineSimilarity', cosineSimilarity(EMBEDDINGS, { pooling: 'none' })],
  ['contrastive', contrastive(EMBEDDINGS, { pooling: 'none' })],
]

describe.skipIf(!hasModel)(`paraphrase-MiniLM-L3-v2${skipped}`, () => {
  describe.each([true, false])('native: %s', (native) => {
    test.each(losses)(
      '%s: the gradient equals central differences, and the loss falls',
      async (name, loss) => {
        const session = await createSession(MODEL, { native, adapters: { emails: `${FOLDER}/adapter` } })
        const trainer = await createTrainer(session, { adapter: 'emails', loss })
        const { feeds, labels } = makeBatch(0)
        const batch = name === 'contrastive' ? { feeds } : { feeds, labels }
        // The loss has an error of some 2⁻²² and changes by 0.01.
        for (const error of await gradientErrors(trainer, batch, { change: 0.01 }))
          expect(error).toBeLessThan(2e-3)
        const { loss: start } = await trainer.evaluate([batch])
        for (let i = 0; i < 6; i++) await trainer.step(batch, 0.2)
        expect((await trainer.evaluate([batch])).loss).toBeLessThan(0.9 * start)
        await session.release()
      },
    )

    test.each(losses)('%s: the trajectory is that of PyTorch and PEFT', async (name, loss) => {
      const session = await createSession(MODEL, { native, adapters: { emails: `${FOLDER}/adapter` } })
      const { learningRate } = trajectory
      const trainer = await createTrainer(session, { adapter: 'emails', loss, learningRate })
      const expected = trajectory[name]
      for (const [i, lossOfPeft] of expected.losses.entries()) {
        const { feeds, labels } = makeBatch(4 * (i % 4))
        const report = await trainer.step(name === 'contrastive' ? { feeds } : { feeds, labels })
        const lossError = Math.abs(report.loss / lossOfPeft - 1)
        const normError = Math.abs(report.gradientNorm / expected.gradientNorms[i] - 1)
        // Before the first step only sums are rounded. AdamW's first steps depend on the signs of gradients, also of tiny ones.
        expect(lossError, `loss of step ${i}`).toBeLessThan(i === 0 ? 1e-5 : 1e-3)
        expect(normError, `gradient of step ${i}`).toBeLessThan(i === 0 ? 1e-4 : 1e-2)
      }
      await session.release()
    })
  })
})
