/** Encoder–decoders: a text → another text, such as its translation or summary. */

import { FourierFTError } from '@fourierft/core'
import { classificationLoss } from '../classification-loss.js'
import { eachRow } from '../each-row.js'
import { feedsOf, int64, padded, padTokens, type TokenExample } from '../feeds.js'
import { IGNORED, Perplexity } from '../metrics.js'
import { outputNamed } from '../outputs.js'
import { checkRow, textOf } from '../row-error.js'
import { RowTokenizer } from '../row-tokenizer.js'
import type { Task, TaskContext } from '../task.js'

export interface Text2TextRow {
  readonly text: string
  /** What the model should write. */
  readonly target: string
}

interface Translated extends TokenExample {
  readonly target: Int32Array
}

export const text2textGeneration: Task<Text2TextRow, Translated> = {
  pipelines: ['text2text-generation', 'translation', 'summarization'],
  taskType: 'SEQ_2_SEQ_LM',
  check(row, position) {
    const fields = checkRow(row, position, '{ text: "…", target: "…" }')
    return { text: textOf(fields, 'text', position), target: textOf(fields, 'target', position) }
  },
  encoder(context) {
    const text = new RowTokenizer(context)
    const { start, prefix } = settingsOf(context)
    return {
      ...classificationLoss(outputNamed(context, ['logits']).name, context),
      metric: () => new Perplexity(),
      encode: (rows, options) =>
        eachRow(
          rows,
          (row) => {
            const source = text.encode(prefix + row.text)
            const target = text.encode(row.target)
            return {
              ...source,
              target: target.ids,
              length: source.length + target.length,
              cut: source.cut + target.cut,
            }
          },
          options,
        ),
      async collate(examples) {
        const { ids, mask } = padTokens(examples, text.padId)
        const targets = examples.map(({ target }) => target)
        // The decoder reads the token before each token that it predicts.
        const shifted = targets.map((target) => [start, ...target.subarray(0, -1)])
        const { rows, columns, values } = padded(targets, IGNORED)
        return {
          feeds: feedsOf(context, {
            input_ids: ids,
            attention_mask: mask,
            encoder_attention_mask: mask,
            decoder_input_ids: padded(shifted, text.padId),
            decoder_attention_mask: padded(
              targets.map((target) => new Int32Array(target.length).fill(1)),
              0,
            ),
          }),
          labels: int64(values, [rows, columns]),
        }
      },
    }
  },
}

/** The fields of transformers' configurations that this task reads. */
interface Seq2SeqConfig {
  readonly decoder_start_token_id?: unknown
  /** Before each text. */
  readonly prefix?: unknown
  readonly task_specific_params?: Readonly<Record<string, { readonly prefix?: unknown } | undefined>> | null
}

/**
 * The first token of the decoder, and the text that the pipeline puts before each text.
 *
 * @throws {FourierFTError} `UNSUPPORTED` for a model without a first token, and for a model whose tokenizer has tokens for languages
 */
function settingsOf({ model, tokenizer, pipeline }: TaskContext): { start: number; prefix: string } {
  const config = model.config as unknown as Seq2SeqConfig
  const generation = (model as { generation_config?: Seq2SeqConfig | null }).generation_config
  const start = generation?.decoder_start_token_id ?? config.decoder_start_token_id
  if (typeof start !== 'number')
    throw new FourierFTError(
      'UNSUPPORTED',
      `${pipeline}: the model's configuration has no decoder_start_token_id`,
      {
        received: start,
      },
    )
  if (tokenizer && 'language_codes' in tokenizer)
    throw new FourierFTError(
      'UNSUPPORTED',
      `${pipeline}: models whose tokenizer has tokens for languages cannot be trained`,
    )
  const prefixes = [config.task_specific_params?.[pipeline]?.prefix, config.prefix]
  return { start, prefix: prefixes.filter((prefix) => typeof prefix === 'string').join('') }
}
