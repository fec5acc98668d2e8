/**
 * Causal language models: texts, prompts with completions, and chats in the model's own template. The loss of prompts and chats is over the
 * answers only.
 */

import { FourierFTError } from '@fourierft/core'
import type { PreTrainedTokenizer } from '@huggingface/transformers'
import { classificationLoss } from '../classification-loss.js'
import { type EncodeOptions, eachRow } from '../each-row.js'
import { feedsOf, int64, padded, padTokens, type TokenExample } from '../feeds.js'
import { IGNORED, Perplexity } from '../metrics.js'
import { outputNamed } from '../outputs.js'
import { checkRow, fieldOf, hasField, rowError, shown, textOf } from '../row-error.js'
import { RowTokenizer } from '../row-tokenizer.js'
import type { Task, TaskContext } from '../task.js'

export interface Message {
  /** Whose message it is: `system`, `user`, `assistant`, or another role of the model's template. */
  readonly role: string
  readonly content: string
}

export type TextGenerationRow =
  | { readonly text: string }
  | { readonly prompt: string; readonly completion: string }
  /** A chat; the model learns the messages of the assistant. */
  | { readonly messages: readonly Message[] }

/** Tokens, of which the model learns those that are answers. */
interface Sequence extends TokenExample {
  /** For each token, the next one if it is learned, or {@link IGNORED}. */
  readonly targets: Int32Array
}

export const textGeneration: Task<TextGenerationRow, Sequence> = {
  pipelines: ['text-generation'],
  taskType: 'CAUSAL_LM',
  check(row, position) {
    const fields = checkRow(
      row,
      position,
      '{ text: "…" }, { prompt: "…", completion: "…" } or { messages: […] }',
    )
    if (hasField(fields, 'messages'))
      return { messages: checkMessages(fieldOf(fields, 'messages', position), position) }
    if (hasField(fields, 'prompt') || hasField(fields, 'completion'))
      return {
        prompt: textOf(fields, 'prompt', position),
        completion: textOf(fields, 'completion', position),
      }
    return { text: textOf(fields, 'text', position) }
  },
  encoder(context) {
    const encoder = new SequenceEncoder(context)
    return {
      ...classificationLoss(outputNamed(context, ['logits']).name, context),
      metric: () => new Perplexity(),
      encode: (rows, options) => encoder.encode(rows, options),
      async collate(examples) {
        const { ids, mask } = padTokens(examples, encoder.padId)
        const { rows, columns, values } = padded(
          examples.map(({ targets }) => targets),
          IGNORED,
        )
        return {
          feeds: feedsOf(context, { input_ids: ids, attention_mask: mask }),
          labels: int64(values, [rows, columns]),
        }
      },
    }
  },
}

function checkMessages(value: unknown, position: number): readonly Message[] {
  if (!Array.isArray(value) || value.length === 0)
    throw rowError(position, 'messages', `expected an array of messages; received ${shown(value)}`, {
      received: value,
    })
  const messages = value.map((message: unknown, i): Message => {
    const { role, content } = (message ?? {}) as Record<string, unknown>
    if (typeof role === 'string' && typeof content === 'string') return { role, content }
    throw rowError(position, `messages[${i}]`, 'expected { role, content }, both of them texts', {
      received: message,
    })
  })
  if (messages.some(({ role }) => role === 'assistant')) return messages
  throw rowError(position, 'messages', 'no message is of the role assistant, so there is nothing to learn', {
    received: messages.map(({ role }) => role),
  })
}

/** The tokens of a row, and which of them are learned. */
interface Answered {
  readonly ids: readonly number[]
  readonly isAnswer: (position: number) => boolean
}

class SequenceEncoder {
  readonly padId: number
  readonly #text: RowTokenizer
  readonly #tokenizer: PreTrainedTokenizer
  readonly #maxLength: number
  readonly #packing: boolean
  /** Whether texts begin with the tokenizer's special tokens: the same condition as in transformers.js' pipeline. */
  readonly #special: boolean

  constructor(context: TaskContext) {
    this.#text = new RowTokenizer(context)
    this.#tokenizer = context.tokenizer as PreTrainedTokenizer
    this.#maxLength = context.maxLength
    this.#packing = context.packing ?? false
    this.padId = this.#text.padId
    this.#special = Boolean(this.#tokenizer.add_bos_token || this.#tokenizer.add_eos_token)
  }

  async encode(rows: readonly TextGenerationRow[], options?: EncodeOptions): Promise<Sequence[]> {
    const joined: number[] = []
    const encode = (row: TextGenerationRow, position: number): Sequence[] => {
      if ('messages' in row) return this.#chat(row.messages, position)
      if ('prompt' in row) return [this.#sequence(this.#completion(row), position)]
      const ids = this.#textIds(row.text)
      if (!this.#packing) return [this.#sequence(everything(ids), position)]
      for (const id of ids) joined.push(id)
      return []
    }
    const sequences = (await eachRow(rows, encode, options)).flat()
    for (let start = 0; start + 1 < joined.length; start += this.#maxLength)
      sequences.push(this.#sequence(everything(joined.slice(start, start + this.#maxLength)), 0))
    return sequences
  }

  /** A text with the token that ends texts, so that the model learns to end. */
  #textIds(text: string): number[] {
    const ids = this.#text.idsOf(text, { special: this.#special })
    const { eos_token_id: end } = this.#tokenizer as { eos_token_id?: number }
    return end === undefined || ids.at(-1) === end ? ids : [...ids, end]
  }

  /** The answer begins with the first token in which the prompt differs from prompt and completion. */
  #completion({ prompt, completion }: { prompt: string; completion: string }): Answered {
    const ids = this.#textIds(prompt + completion)
    const start = commonPrefix(this.#text.idsOf(prompt, { special: this.#special }), ids)
    return { ids, isAnswer: (position) => position >= start }
  }

  /**
   * One sequence for the whole chat. If the template writes earlier messages in another way than the last one (some remove the reasoning of
   * earlier answers), one sequence for each answer, which is what the model reads when it answers.
   */
  #chat(messages: readonly Message[], position: number): Sequence[] {
    const answers = Array.from(messages.keys()).filter((i) => messages[i].role === 'assistant')
    const turns = answers.map((i) => {
      const ids = this.#render(messages.slice(0, i + 1), false, position)
      const start = commonPrefix(this.#render(messages.slice(0, i), true, position), ids)
      return { ids, start }
    })
    const { ids } = turns[turns.length - 1]
    const isWhole = turns.every((turn) => commonPrefix(turn.ids, ids) === turn.ids.length)
    if (!isWhole)
      return turns.map(({ ids, start }) => this.#sequence({ ids, isAnswer: (i) => i >= start }, position))
    const isAnswer = (i: number) => turns.some(({ start, ids }) => i >= start && i < ids.length)
    return [this.#sequence({ ids, isAnswer }, position)]
  }

  #render(messages: readonly Message[], isPrompt: boolean, position: number): number[] {
    try {
      const text = this.#tokenizer.apply_chat_template([...messages], {
        tokenize: false,
        add_generation_prompt: isPrompt,
      })
      return this.#text.idsOf(text, { special: false })
    } catch (cause) {
      const hasTemplate = Boolean(this.#tokenizer.chat_template)
      if (!hasTemplate)
        throw new FourierFTError('UNSUPPORTED', "the model's tokenizer has no chat template", {
          advice: 'give rows of { prompt, completion } or { text }',
          option: 'messages',
          row: position,
          cause,
        })
      throw rowError(
        position,
        'messages',
        `the model's chat template rejects the messages: ${(cause as Error).message}`,
        { cause },
      )
    }
  }

  /** Cuts a sequence at its end, and moves the targets by one token: each token predicts the next one. */
  #sequence({ ids, isAnswer }: Answered, position: number): Sequence {
    const length = Math.min(ids.length, this.#maxLength)
    const targets = new Int32Array(length).fill(IGNORED)
    let count = 0
    for (let i = 1; i < length; i++)
      if (isAnswer(i)) {
        targets[i - 1] = ids[i]
        count++
      }
    if (count === 0)
      throw rowError(
        position,
        'text',
        ids.length > length
          ? `all tokens that are to be learned are cut off, because the row has ${ids.length} tokens`
          : 'the row has too few tokens',
        { received: ids.length, advice: `at most ${this.#maxLength} tokens are used (maxLength)` },
      )
    return { ids: Int32Array.from(ids.slice(0, length)), targets, length, cut: ids.length - length }
  }
}

function everything(ids: readonly number[]): Answered {
  return { ids, isAnswer: () => true }
}

/** The number of tokens with which both sequences begin. */
function commonPrefix(a: readonly number[], b: readonly number[]): number {
  let length = 0
  while (length < a.length && length < b.length && a[length] === b[length]) length++
  return length
}
