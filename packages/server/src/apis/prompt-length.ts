/** How many tokens and characters a model can read, and the checks of texts against both. */
import type { Pipe } from '../engine.js'
import { ServerError } from '../errors.js'
import { invalid } from './check.js'

/** Model types whose first position is `pad_token_id + 1`. */
const OFFSET_POSITIONS = /roberta|camembert|mpnet|longformer|data2vec-text|xmod|esm/

/** Characters of a text for each token of the model's context. A usual token has four; a text with more than this has nearly no words. */
const CHARACTERS_PER_TOKEN = 32
/** Characters of a text, whatever the context. WordPiece takes up to 15 microseconds for a character, and others fail beyond 100,000 tokens. */
const MOST_CHARACTERS = 100_000
/** Characters of all texts of a request. A text counts as often as it is tokenised. */
const MOST_REQUEST_CHARACTERS = 2_000_000

/** The rows of the model's table of positions; undefined if its configuration does not say so. */
export function positionCount({ model: { config } }: Pipe): number | undefined {
  const text = config.text_config ?? config
  const positions = text.max_position_embeddings ?? text.n_positions ?? text.n_ctx ?? text.max_seq_len
  return isLimit(positions) ? positions : undefined
}

const isLimit = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) > 0

/** The tokens that the model can read; undefined if neither its configuration nor its tokenizer says so. */
export function contextLength(pipe: Pipe): number | undefined {
  const { model, tokenizer } = pipe
  const { config } = model
  const limits: number[] = []
  if (isLimit(tokenizer?.model_max_length) && tokenizer.model_max_length < 1e9)
    limits.push(tokenizer.model_max_length)
  // Encoder-decoder models mostly have relative positions, so only the tokenizer's limit counts there.
  if (config.is_encoder_decoder !== true) {
    const positions = positionCount(pipe)
    const offset = OFFSET_POSITIONS.test(config.model_type ?? '') ? (config.pad_token_id ?? 1) + 1 : 0
    if (positions !== undefined) limits.push(positions - offset)
  }
  return limits.length === 0 ? undefined : Math.min(...limits)
}

/** The longest text that is tokenised: tokenising blocks the process, so texts are measured in characters first. */
export function maxCharacters(pipe: Pipe): number {
  const context = contextLength(pipe) ?? Number.POSITIVE_INFINITY
  return Math.min(context * CHARACTERS_PER_TOKEN, MOST_CHARACTERS)
}

/**
 * Checks the lengths of all texts of a request, before any of them is tokenised.
 *
 * @throws {ServerError} `context_length_exceeded` for a text that is too long, `invalid_value` for too many characters together
 */
export function checkCharacters(pipe: Pipe, lengths: Iterable<number>, param: string): void {
  const most = maxCharacters(pipe)
  let sum = 0
  for (const length of lengths) {
    if (length > most) {
      throw new ServerError(
        'context_length_exceeded',
        `${param}: expected at most ${most} characters for this model, but a text has ${length}`,
        { param },
      )
    }
    sum += length
    if (sum > MOST_REQUEST_CHARACTERS) {
      throw invalid(
        param,
        `expected at most ${MOST_REQUEST_CHARACTERS} characters in a request; send several requests`,
      )
    }
  }
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
