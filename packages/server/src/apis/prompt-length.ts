/** How many tokens a model can read, and the check of a text's tokens against it. */
import type { Pipe } from '../engine.js'
import { ServerError } from '../errors.js'

/** Model types whose first position is `pad_token_id + 1`. */
const OFFSET_POSITIONS = /roberta|camembert|mpnet|longformer|data2vec-text|xmod|esm/

/** The tokens that the model can read; undefined if neither its configuration nor its tokenizer says so. */
export function contextLength({ model, tokenizer }: Pipe): number | undefined {
  const { config } = model
  const limits: number[] = []
  const isLimit = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) > 0
  if (isLimit(tokenizer?.model_max_length) && tokenizer.model_max_length < 1e9)
    limits.push(tokenizer.model_max_length)
  // Encoder-decoder models mostly have relative positions, so only the tokenizer's limit counts there.
  if (config.is_encoder_decoder !== true) {
    const text = config.text_config ?? config
    const positions = text.max_position_embeddings ?? text.n_positions ?? text.n_ctx ?? text.max_seq_len
    const offset = OFFSET_POSITIONS.test(config.model_type ?? '') ? (config.pad_token_id ?? 1) + 1 : 0
    if (isLimit(positions)) limits.push(positions - offset)
  }
  return limits.length === 0 ? undefined : Math.min(...limits)
}

/** @throws {ServerError} `context_length_exceeded` if there are more tokens than the model can read, with `reserved` more for the answer */
export function checkLength(pipe: Pipe, length: number, param: string, reserved = 0): void {
  const limit = contextLength(pipe)
  if (limit === undefined || length + reserved <= limit) return
  throw new ServerError(
    'context_length_exceeded',
    `the prompt has ${length} tokens; the model's context has ${limit}, and one is needed for the answer`,
    { param },
  )
}
