/**
 * Mails as batches for `GraphTrainer`: of the size, the tokens and the number of epochs that `train` of `@fourierft/transformers` has. Their order is another
 * one, and rows are not grouped by length; most mails are longer than the limit.
 */
import { randomPermutation } from '@fourierft/core'
import type { TrainingBatch } from '@fourierft/onnxruntime'
import type { PreTrainedTokenizer } from '@huggingface/transformers'
import { Tensor } from 'onnxruntime-node'
import type { Mail } from './mails.js'

/** The classes in the order of their ids, as `train` sorts them. */
export const LABELS = ['ham', 'spam'] as const satisfies Mail['label'][]

export class MailBatches {
  readonly #rows: readonly { readonly ids: readonly number[]; readonly label: number }[]
  readonly #batchSize: number

  constructor(
    mails: readonly Mail[],
    {
      tokenizer,
      maxLength,
      batchSize,
    }: { tokenizer: PreTrainedTokenizer; maxLength: number; batchSize: number },
  ) {
    this.#batchSize = batchSize
    this.#rows = mails.map(({ text, label }) => {
      const ids = tokenizer.encode(text)
      // The last token is [SEP].
      const cut = ids.length > maxLength ? [...ids.slice(0, maxLength - 1), ...ids.slice(-1)] : ids
      return { ids: cut, label: LABELS.indexOf(label) }
    })
  }

  get length(): number {
    return Math.ceil(this.#rows.length / this.#batchSize)
  }

  /** @param seed of the order; undefined: the order of the mails */
  *read(seed?: number): Iterable<TrainingBatch> {
    const count = this.#rows.length
    const order =
      seed === undefined ? Array.from({ length: count }, (_, i) => i) : randomPermutation(count, seed)
    for (let start = 0; start < count; start += this.#batchSize) {
      const rows = order.slice(start, start + this.#batchSize).map((index) => this.#rows[index])
      const width = Math.max(...rows.map(({ ids }) => ids.length))
      const tensor = (numberAt: (ids: readonly number[], position: number) => number) => {
        const values = rows.flatMap(({ ids }) =>
          Array.from({ length: width }, (_, i) => BigInt(numberAt(ids, i))),
        )
        return new Tensor('int64', BigInt64Array.from(values), [rows.length, width])
      }
      yield {
        feeds: {
          input_ids: tensor((ids, i) => ids[i] ?? 0),
          attention_mask: tensor((ids, i) => (i < ids.length ? 1 : 0)),
          token_type_ids: tensor(() => 0),
        },
        labels: new Tensor(
          'int64',
          BigInt64Array.from(rows, ({ label }) => BigInt(label)),
          [rows.length],
        ),
      }
    }
  }
}
