/**
 * A trained encoder, paraphrase-MiniLM-L3-v2, with an adapter that PEFT trained on real emails. Embeddings are equal to PyTorch's, and the adapter
 * moves held-out emails closer to emails of the same class. `scripts/minilm.js` fetches the model, `scripts/train-minilm.py` made the other files.
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as node from 'onnxruntime-node'
import * as web from 'onnxruntime-web'
import { describe, expect, test } from 'vitest'
import type { AdaptedSession } from '../src/adapted-session.js'
import { createSession } from '../src/create-session.js'
import type { Ort } from '../src/ort.js'
import { decodeArray, type EncodedArray } from './encoded-array.js'

type Classes = Readonly<Record<'ham' | 'spam', EncodedArray>>

const MODEL = fileURLToPath(new URL('../../../.cache/minilm-0.2.1/model.onnx', import.meta.url))
const FOLDER = fileURLToPath(new URL('__fixtures__/minilm', import.meta.url))
const hasModel = existsSync(MODEL)
const skipped = hasModel
  ? ''
  : ' (skipped: node packages/onnxruntime/scripts/minilm.js has not fetched the model)'

/** The name of the mean-pooled embeddings in the file. */
const EMBEDDINGS = '461'
const WIDTH = 384
/** The project's limit for whole models: the largest error, relative to the largest value. */
const LIMIT = 1e-4

const vectors: {
  readonly sentences: EncodedArray
  readonly base: EncodedArray
  readonly adapted: EncodedArray
  readonly mails: { readonly known: Classes; readonly new: Classes }
  readonly accuracy: { readonly base: number; readonly adapted: number }
} = JSON.parse(readFileSync(`${FOLDER}/vectors.json`, 'utf8'))

web.env.wasm.numThreads = 1

/** Opens the model with the adapter. The modules are `model.model.0.auto_model.encoder…` in the file and `encoder…` in PEFT. */
async function openSession({ ort, native }: { ort: Ort; native: boolean }): Promise<AdaptedSession> {
  const model = ort === web ? new Uint8Array(readFileSync(MODEL)) : MODEL
  const adapters = { emails: `${FOLDER}/adapter` }
  return createSession(model, { ort, native, adapters })
}

/** Converts token ids, padded with zeros, to embeddings `[texts, 384]`. */
async function embed(
  session: Pick<AdaptedSession, 'run'>,
  { Tensor }: Pick<Ort, 'Tensor'>,
  texts: EncodedArray,
  adapters?: readonly (string | null)[],
): Promise<Float32Array> {
  const { data, shape } = decodeArray(texts)
  const ids = BigInt64Array.from(data as Uint16Array, BigInt)
  const mask = ids.map((id) => (id === 0n ? 0n : 1n))
  const feeds = {
    input_ids: new Tensor('int64', ids, shape),
    attention_mask: new Tensor('int64', mask, shape),
  }
  const results = await session.run(feeds, [EMBEDDINGS], adapters ? { adapters } : {})
  return results[EMBEDDINGS]?.data as Float32Array
}

function relativeError(received: Float32Array, expected: Float32Array): number {
  expect(received.length).toBe(expected.length)
  const largest = (values: Float32Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return largest(received.map((value, i) => value - expected[i])) / largest(expected)
}

const floats = (array: EncodedArray) => decodeArray(array).data as Float32Array
const rowsOf = (embeddings: Float32Array) =>
  Array.from({ length: embeddings.length / WIDTH }, (_, i) => {
    const row = embeddings.subarray(i * WIDTH, (i + 1) * WIDTH)
    const length = Math.hypot(...row)
    return row.map((value) => value / length)
  })
const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i], 0)

/** Returns the share of held-out emails that are nearest to the mean direction of their class. */
async function accuracy(session: AdaptedSession): Promise<number> {
  const { known, new: heldOut } = vectors.mails
  const classes = ['ham', 'spam'] as const
  const centres = await Promise.all(
    classes.map(async (name) => {
      const centre = new Float32Array(WIDTH)
      for (const row of rowsOf(await embed(session, node, known[name])))
        for (const [i, value] of row.entries()) centre[i] = centre[i] + value
      return rowsOf(centre)[0]
    }),
  )
  let [right, total] = [0, 0]
  for (const [expected, name] of classes.entries()) {
    for (const row of rowsOf(await embed(session, node, heldOut[name]))) {
      const [ham, spam] = centres.map((centre) => dot(centre, row)) as [number, number]
      if (Number(spam > ham) === expected) right++
      total++
    }
  }
  return right / total
}

describe.skipIf(!hasModel)(`paraphrase-MiniLM-L3-v2${skipped}`, () => {
  test.each([
    { runtime: 'the native kernel', ort: node, native: true },
    { runtime: 'onnxruntime-node, portable', ort: node, native: false },
    { runtime: 'onnxruntime-web, wasm', ort: web, native: false },
  ])('$runtime: embeddings are equal to those of PyTorch and PEFT', async ({ ort, native }) => {
    const session = await openSession({ ort, native })
    expect(session.usesNativeKernel).toBe(native)
    const [base, adapted] = [floats(vectors.base), floats(vectors.adapted)]
    expect(relativeError(base, adapted)).toBeGreaterThan(1000 * LIMIT)
    expect(relativeError(await embed(session, ort, vectors.sentences), adapted)).toBeLessThan(LIMIT)
    session.disableAdapters()
    const disabled = await embed(session, ort, vectors.sentences)
    expect(relativeError(disabled, base)).toBeLessThan(LIMIT)
    const plain = await ort.InferenceSession.create(new Uint8Array(readFileSync(MODEL)))
    expect(disabled).toEqual(await embed(plain, ort, vectors.sentences))
    await plain.release()
    session.enableAdapters()
    const count = base.length / WIDTH
    const perRow = Array.from({ length: count }, (_, i) => (i % 3 === 0 ? 'emails' : null))
    const mixed = base.map((value, i) => (perRow[Math.floor(i / WIDTH)] ? adapted[i] : value))
    expect(relativeError(await embed(session, ort, vectors.sentences, perRow), mixed)).toBeLessThan(LIMIT)
    await session.release()
  })

  test('the adapter classifies held-out emails as well as in PyTorch', async () => {
    const session = await openSession({ ort: node, native: true })
    const adapted = await accuracy(session)
    session.disableAdapters()
    const base = await accuracy(session)
    await session.release()
    // Rounding may change the class of one email.
    const { ham, spam } = vectors.mails.new
    const oneEmail = 1 / (ham.shape[0] + spam.shape[0])
    expect(Math.abs(adapted - vectors.accuracy.adapted)).toBeLessThanOrEqual(oneEmail)
    expect(Math.abs(base - vectors.accuracy.base)).toBeLessThanOrEqual(oneEmail)
    expect(adapted).toBeGreaterThan(base + 0.05)
  })
})
