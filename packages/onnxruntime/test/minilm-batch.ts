/** Batches of the real mails of the tests, for MiniLM. */
import { readFileSync } from 'node:fs'
import * as node from 'onnxruntime-node'
import type { TrainingBatch } from '../src/index.js'
import { decodeArray, type EncodedArray } from './encoded-array.js'

type Classes = Readonly<Record<'ham' | 'spam', EncodedArray>>

const vectors = new URL('__fixtures__/minilm/vectors.json', import.meta.url)
const { mails }: { readonly mails: { readonly known: Classes } } = JSON.parse(readFileSync(vectors, 'utf8'))

const rowsOf = (texts: EncodedArray, first: number, count: number, width: number): bigint[] => {
  const { data, shape } = decodeArray(texts)
  const [, tokens] = shape as [number, number]
  return Array.from({ length: count * width }, (_, i) => {
    const [row, token] = [first + Math.floor(i / width), i % width]
    return token < tokens ? BigInt((data as Uint16Array)[row * tokens + token]) : 0n
  })
}

/** Pairs of mails: ham with ham (1), and ham with spam (0). */
export function makeBatch(first: number): TrainingBatch {
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
