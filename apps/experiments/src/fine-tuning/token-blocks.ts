/**
 * Texts as batches for `GraphTrainer`: the batches, in the order, that `train` of `@fourierft/transformers` makes with `packing` and the same seed.
 */
import { randomPermutation } from '@fourierft/core'
import type { OnnxModel } from '@fourierft/onnx'
import type { TrainingBatch } from '@fourierft/onnxruntime'
import type { PreTrainedTokenizer } from '@huggingface/transformers'
import { Tensor } from 'onnxruntime-node'

export interface TokenBlocksOptions {
  readonly tokenizer: PreTrainedTokenizer
  /** The graph, whose cache of keys and values is fed with no tokens. */
  readonly model: OnnxModel
  /** The tokens of a block. */
  readonly maxLength: number
  readonly batchSize: number
  /** More feeds of each batch. */
  readonly constants?: Readonly<Record<string, Tensor>>
}

/** What `train` does not learn: the label of the last token of a block. */
const IGNORED = -100
/** `train` sorts by length within so many batches. Only the last block is shorter than the others. */
const GROUP = 50
const LEAST_GROUPS = 4

export class TokenBlocks {
  readonly #blocks: readonly (readonly number[])[]
  readonly #options: TokenBlocksOptions

  constructor(texts: readonly { readonly text: string }[], options: TokenBlocksOptions) {
    const { tokenizer, maxLength } = options
    const end = (tokenizer as { readonly eos_token_id?: number }).eos_token_id
    const ids = texts.flatMap(({ text }) => {
      const tokens = tokenizer.encode(text)
      return end === undefined || tokens.at(-1) === end ? tokens : [...tokens, end]
    })
    // A block of one token has nothing to learn.
    this.#blocks = chunks(ids, maxLength).filter(({ length }) => length > 1)
    this.#options = options
  }

  /** The number of batches. */
  get length(): number {
    return Math.ceil(this.#blocks.length / this.#options.batchSize)
  }

  /** @param seed of the order; undefined: the order of the texts */
  *read(seed?: number): Iterable<TrainingBatch> {
    for (const indices of this.#order(seed)) yield this.#batch(indices.map((index) => this.#blocks[index]))
  }

  #order(seed: number | undefined): readonly (readonly number[])[] {
    const size = this.#options.batchSize
    const { length } = this.#blocks
    if (seed === undefined) return chunks([...this.#blocks.keys()], size)
    const groupBatches = Math.max(1, Math.min(GROUP, Math.floor(length / (size * LEAST_GROUPS))))
    const groups = chunks(randomPermutation(length, seed), groupBatches * size)
    const batches = groups.flatMap((group) =>
      chunks(
        group.toSorted((a, b) => this.#blocks[b].length - this.#blocks[a].length),
        size,
      ),
    )
    return randomPermutation(batches.length, seed).map((index) => batches[index])
  }

  #batch(blocks: readonly (readonly number[])[]): TrainingBatch {
    const { model, constants } = this.#options
    const width = Math.max(...blocks.map(({ length }) => length))
    const tensor = (numberAt: (ids: readonly number[], position: number) => number) => {
      const values = blocks.flatMap((ids) =>
        Array.from({ length: width }, (_, i) => BigInt(numberAt(ids, i))),
      )
      return new Tensor('int64', BigInt64Array.from(values), [blocks.length, width])
    }
    return {
      feeds: {
        ...constants,
        ...emptyCache(model, blocks.length),
        input_ids: tensor((ids, i) => ids[i] ?? 0),
        attention_mask: tensor((ids, i) => (i < ids.length ? 1 : 0)),
        position_ids: tensor((ids, i) => (i < ids.length ? i : 1)),
      },
      labels: tensor((ids, i) => ids[i + 1] ?? IGNORED),
    }
  }
}

function emptyCache({ graph }: OnnxModel, rows: number): Record<string, Tensor> {
  const caches = graph.inputs.filter(({ name }) => name.startsWith('past_key_values.'))
  return Object.fromEntries(
    caches.map(({ name, dims = [] }) => {
      const [, heads, , width] = dims.map(Number)
      return [name, new Tensor('float32', new Float32Array(), [rows, heads, 0, width])]
    }),
  )
}

function chunks<T>(values: readonly T[], size: number): T[][] {
  const count = Math.ceil(values.length / size)
  return Array.from({ length: count }, (_, i) => values.slice(i * size, (i + 1) * size))
}
