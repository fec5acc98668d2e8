/** Text → token ids, by the pipeline's own tokenizer. Rows that are too long are cut as Hugging Face's tokenizers cut them. */
import { FourierFTError } from '@fourierft/core'
import type { PreTrainedTokenizer } from '@huggingface/transformers'
import type { TokenExample } from './feeds.js'
import type { TaskContext } from './task.js'

export interface EncodeOptions {
  readonly pair?: string | undefined
  /** Whether the tokenizer adds its special tokens. Default: true. */
  readonly special?: boolean
}

/** The numbers of special tokens around a text. */
interface SpecialCounts {
  readonly before: number
  readonly after: number
}

const NO_SPECIAL: SpecialCounts = { before: 0, after: 0 }

/** Encodes and cuts texts. */
export class RowTokenizer {
  readonly padId: number
  readonly #tokenizer: PreTrainedTokenizer
  readonly #maxLength: number
  #hasPairs: boolean | undefined
  /** Of a single text; each text has as many. */
  #specialCounts: SpecialCounts | undefined

  /** @throws {FourierFTError} `UNSUPPORTED` for a pipeline without tokenizer */
  constructor({ tokenizer, maxLength, pipeline }: TaskContext) {
    if (!tokenizer)
      throw new FourierFTError('UNSUPPORTED', `${pipeline}: the pipeline has no tokenizer`, {
        advice: 'attach to a pipeline instead of a model',
      })
    this.#tokenizer = tokenizer
    this.#maxLength = maxLength
    this.padId = tokenizer.pad_token_id ?? 0
  }

  get side(): 'left' | 'right' {
    return this.#tokenizer.padding_side === 'left' ? 'left' : 'right'
  }

  get maxLength(): number {
    return this.#maxLength
  }

  /** The token ids of a text, not cut. */
  idsOf(text: string, { special = true }: EncodeOptions = {}): number[] {
    return this.#tokenizer(text, { add_special_tokens: special, return_tensor: false }).input_ids
  }

  /**
   * The token ids of a text or a pair. If they are too many, the ends of the texts are cut off, those of the longer text first. The special
   * tokens stay, other than in pipelines of transformers.js, which cut off the last ones too.
   *
   * @throws {FourierFTError} `UNSUPPORTED` for a pair, if the tokenizer has none
   */
  encode(text: string, { pair, special = true }: EncodeOptions = {}): TokenExample {
    if (pair !== undefined) this.#checkPairs()
    const encoded = this.#tokenizer(text, {
      text_pair: pair ?? null,
      add_special_tokens: special,
      return_tensor: false,
    })
    const { input_ids: ids, token_type_ids: types } = encoded
    const excess = ids.length - this.#maxLength
    const kept =
      excess <= 0
        ? ids.map((_, i) => i)
        : pair === undefined
          ? this.#keptOfText(ids, text, special)
          : keptPositions(
              ids,
              [text, pair].map((part) => this.idsOf(part, { special: false })),
              this.#maxLength,
            )
    return {
      ids: Int32Array.from(kept, (i) => ids[i]),
      ...(types && { types: Int32Array.from(kept, (i) => types[i]) }),
      length: kept.length,
      cut: ids.length - kept.length,
    }
  }

  /** The positions of the tokens of one text that are kept. Only the first text is tokenised twice. */
  #keptOfText(ids: readonly number[], text: string, special: boolean): number[] {
    if (special) this.#specialCounts ??= countsAround(ids, this.idsOf(text, { special: false }))
    const { before, after } = (special && this.#specialCounts) || NO_SPECIAL
    const end = Math.max(before, this.#maxLength - after)
    return Array.from(ids.keys()).filter((i) => i < end || i >= ids.length - after)
  }

  /** Some tokenizers, such as GPT-2's, ignore the second text. */
  #checkPairs(): void {
    const options = { add_special_tokens: false, return_tensor: false } as const
    this.#hasPairs ??=
      this.#tokenizer('a', { ...options, text_pair: 'a' }).input_ids.length >
      this.#tokenizer('a', options).input_ids.length
    if (this.#hasPairs) return
    throw new FourierFTError('UNSUPPORTED', "the model's tokenizer cannot encode pairs of texts", {
      option: 'text_pair',
    })
  }

  /** The special tokens that the tokenizer puts before and after a text. */
  special(): { readonly before: readonly number[]; readonly after: readonly number[] } {
    const ids = this.idsOf('a')
    const { before, after } = countsAround(ids, this.idsOf('a', { special: false }))
    return { before: ids.slice(0, before), after: ids.slice(ids.length - after) }
  }
}

/** @param text the tokens without special ones, which are within `ids` */
function countsAround(ids: readonly number[], text: readonly number[]): SpecialCounts {
  const before = findSequence(ids, text, 0)
  return { before, after: ids.length - before - text.length }
}

/**
 * The positions of the tokens of a pair that are kept.
 *
 * @param parts the tokens of both texts, which are within `ids` in that order, with special tokens around them
 */
function keptPositions(
  ids: readonly number[],
  parts: readonly (readonly number[])[],
  maxLength: number,
): number[] {
  const total = parts.reduce((sum, { length }) => sum + length, 0)
  const lengths = cutLengths(
    parts.map(({ length }) => length),
    Math.max(0, maxLength - (ids.length - total)),
  )
  const removed = new Set<number>()
  let position = 0
  for (const [i, part] of parts.entries()) {
    const start = findSequence(ids, part, position)
    for (let k = start + lengths[i]; k < start + part.length; k++) removed.add(k)
    position = start + part.length
  }
  return Array.from(ids.keys()).filter((i) => !removed.has(i))
}

/**
 * The lengths of two texts that are cut to `budget` tokens together: the longer one first, then both.
 *
 * @see `TruncationStrategy::LongestFirst` of Hugging Face's tokenizers
 */
function cutLengths(lengths: readonly number[], budget: number): number[] {
  const [first, second] = lengths
  const shorter = Math.min(first, second, Math.floor(budget / 2))
  return first <= second
    ? [shorter, Math.min(second, budget - shorter)]
    : [Math.min(first, budget - shorter), shorter]
}

/** Special tokens are few, so the sequence is near `from`. */
function findSequence(ids: readonly number[], sequence: readonly number[], from: number): number {
  for (let start = from; start + sequence.length <= ids.length; start++)
    if (sequence.every((id, i) => ids[start + i] === id)) return start
  throw new FourierFTError(
    'UNSUPPORTED',
    'the tokenizer gives a text other tokens if it adds special tokens, so that long rows cannot be cut',
  )
}
