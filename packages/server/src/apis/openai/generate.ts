/** One generation: the prompt's tokens in, text out while it is made. What chat and plain completions have in common. */
import { Tensor } from '@huggingface/transformers'
import type { Engine, Pipe } from '../../engine.js'
import { ServerError } from '../../errors.js'
import { checkCharacters, checkLength, contextLength } from '../prompt-length.js'
import { takeTurn } from '../take-turn.js'
import { StopStrings, TokenText } from './generated-text.js'
import { createSampler, type Sampling } from './sampler.js'

/** Tokens that are generated at most if neither the request nor the model says how many. */
const DEFAULT_TOKENS = 4096

export interface Generation {
  readonly prompt: readonly number[]
  readonly sampling: Sampling
  /** Undefined: as many as the model's context has room for. A larger number than that is lowered. */
  readonly maxTokens: number | undefined
  readonly stop: readonly string[]
  /** The field of the request that the prompt came from, for errors. */
  readonly param: string
}

export interface GenerationEvents {
  readonly signal: AbortSignal
  /** Called at each token with the text that became certain, which is often empty. */
  onText(text: string): void
}

export interface GenerationEnd {
  readonly finishReason: 'stop' | 'length'
  /** The end token counts, as in OpenAI's API. */
  readonly completionTokens: number
}

/** @throws {ServerError} `unsupported_task` if the model does not generate text after a prompt */
export function checkGenerates(engine: Engine): void {
  if (engine.task === 'text-generation') return
  throw new ServerError(
    'unsupported_task',
    `'${engine.model}' does not generate text after a prompt; its task is '${engine.task}'`,
    { param: 'model' },
  )
}

/** Prompts of one request that are generated at a time: each has a cache of its own. */
export const CONCURRENT_PROMPTS = 4

/**
 * Generates until the model ends, a stop string appears, or the tokens are used up.
 *
 * @param pipe the view of one call
 * @throws {ServerError} `context_length_exceeded` if the prompt leaves no room for a token
 */
export async function generate(
  pipe: Pipe,
  { prompt, sampling, maxTokens, stop, param }: Generation,
  { signal, onText }: GenerationEvents,
): Promise<GenerationEnd> {
  checkLength(pipe, prompt.length, param, 1)
  const context = contextLength(pipe)
  const room = context === undefined ? DEFAULT_TOKENS : context - prompt.length
  const limit = Math.min(maxTokens ?? room, context === undefined ? Number.POSITIVE_INFINITY : room)
  const ids = prompt.map(BigInt)
  const text = new TokenText(pipe.tokenizer, ids)
  const stops = new StopStrings(stop)
  const ends = endTokens(pipe)
  const processor = createSampler(sampling, ids.length)
  let completionTokens = 0
  let hasEnded = false

  const afterToken = ([sequence]: readonly (readonly bigint[])[]) => {
    // After an abort the answer is already lost: end before the next step, without more text.
    if (signal.aborted) return [true]
    const token = sequence?.at(-1) as bigint
    completionTokens++
    hasEnded = ends.has(Number(token))
    onText(stops.push(text.push(token)))
    return [stops.found]
  }
  await pipe.model.generate({
    input_ids: new Tensor('int64', BigInt64Array.from(ids), [1, ids.length]),
    attention_mask: new Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
    max_new_tokens: limit,
    do_sample: false,
    num_beams: 1,
    num_return_sequences: 1,
    return_dict_in_generate: false,
    logits_processor: processor === undefined ? null : [processor],
    stopping_criteria: [afterToken],
  })
  signal.throwIfAborted()
  onText(stops.push(text.end()))
  onText(stops.end())
  return {
    finishReason: stops.found || hasEnded || completionTokens < limit ? 'stop' : 'length',
    completionTokens,
  }
}

/** The tokens after which `generate` stops. */
function endTokens({ model }: Pipe): ReadonlySet<number> {
  const ids = model.generation_config?.eos_token_id ?? model.config.eos_token_id ?? []
  return new Set([ids].flat().map(Number))
}

export interface PromptText {
  readonly text: string
  /** The field of the request that the text came from, for errors. */
  readonly param: string
  /** A chat template has written the special tokens. Default: false. */
  readonly isTemplated?: boolean
}

/**
 * The tokens of a text, as the pipeline `text-generation` makes them.
 *
 * @throws {ServerError} `context_length_exceeded` for a text that is too long to be tokenised; the signal's reason if it is aborted
 */
export async function tokensOfPrompt(
  pipe: Pipe,
  { text, param, isTemplated = false }: PromptText,
  signal: AbortSignal,
): Promise<number[]> {
  checkCharacters(pipe, [text.length], param)
  await takeTurn(text.length, signal)
  const { tokenizer } = pipe
  const isMarked = Boolean(tokenizer.add_bos_token || tokenizer.add_eos_token)
  const { input_ids } = tokenizer(text, {
    add_special_tokens: !isTemplated && isMarked,
    return_tensor: false,
    padding: false,
    truncation: false,
  })
  return Array.from(input_ids as Iterable<number>, Number)
}
