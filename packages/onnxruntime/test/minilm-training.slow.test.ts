/** Training of paraphrase-MiniLM-L3-v2 on the real mails of the tests: an adapter that PEFT has trained is trained further, as a sentence encoder. */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as node from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { createSession } from '../src/create-session.js'
import { contrastive, cosineSimilarity, createTrainer, type Loss, type TrainingBatch } from '../src/index.js'
import { gradientErrors } from '../src/trainer/__fixtures__/check-whole-gradient.js'
import { decodeArray, type EncodedArray } from './encoded-array.js'

type Name = 'cosineSimilarity' | 'contrastive'
type Classes = Readonly<Record<'ham' | 'spam', EncodedArray>>

const MODEL = fileURLToPath(new URL('../../../.cache/minilm-0.2.1/model.onnx', import.meta.url))
const FOLDER = fileURLToPath(new URL('__fixtures__/minilm', import.meta.url))
const hasModel = existsSync(MODEL)
const skipped = hasModel
  ? ''
  : ' (skipped: node packages/onnxruntime/scripts/minilm.js has not fetched the model)'

/** The name of the mean-pooled embeddings in the file. */
const EMBEDDINGS = '461'
const { mails }: { readonly mails: { readonly known: Classes } } = JSON.parse(
  readFileSync(`${FOLDER}/vectors.json`, 'utf8'),
)

/** The losses of PyTorch and PEFT, which `scripts/minilm-trajectory.py` has written. */
const trajectory: { readonly learningRate: number } & Readonly<
  Record<Name, { readonly losses: readonly number[]; readonly gradientNorms: readonly number[] }>
> = JSON.parse(readFileSync(`${FOLDER}/trajectory.json`, 'utf8'))

const rowsOf = (texts: EncodedArray, first: number, count: number, width: number): bigint[] => {
  const { data, shape } = decodeArray(texts)
  const [, tokens] = shape as [number, number]
  return Array.from({ length: count * width }, (_, i) => {
    const [row, token] = [first + Math.floor(i / width), i % width]
    return token < tokens ? BigInt((data as Uint16Array)[row * tokens + token]) : 0n
  })
}

/** Pairs of mails: ham with ham (1), and ham with spam (0). */
function makeBatch(first: number): TrainingBatch {
  const { ham, spam } = mails.known
  const width = Math.max(ham.shape[1] as number, spam.shape[1] as number)
  const part = (texts: EncodedArray, start: number) => rowsOf(texts, start, 4, width)
  const ids = BigInt64Array.from([
    ...part(ham, first),
    ...part(ham, first),
    ...part(ham, first + 4),
    ...part(spam, first),
  ])
  const shape = [16, width]
  const mask = ids.map((id) => (id === 0n ? 0n : 1n))
  return {
    feeds: {
      input_ids: new node.Tensor('int64', ids, shape),
      attention_mask: new node.Tensor('int64', mask, shape),
    },
    labels: new node.Tensor('float32', Float32Array.of(1, 1, 1, 1, 0, 0, 0, 0), [8]),
  }
}

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
