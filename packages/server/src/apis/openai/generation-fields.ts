/** The fields that chat and plain completions share. */
import * as v from 'valibot'
import type { Pipe } from '../../engine.js'
import { boolean, integer, invalid, list, number, optional, text } from '../check.js'
import type { Sampling } from './sampler.js'

const MOST_TOKENS = 1_000_000

/** OpenAI accepts up to four. */
const stopString = v.pipe(
  text,
  v.minLength(1, 'expected a text that is not empty'),
  v.maxLength(1000, 'expected at most 1000 characters'),
)

export const GENERATION_FIELDS = {
  model: text,
  stream: optional(boolean),
  stream_options: optional(v.object({ include_usage: optional(boolean) }, '')),
  max_tokens: optional(integer(1, MOST_TOKENS)),
  temperature: optional(number(0, 2)),
  top_p: optional(v.pipe(number(0, 1), v.gtValue(0, 'expected more than 0'))),
  /** Not OpenAI's, but vLLM's; -1 and 0: all tokens. */
  top_k: optional(integer(-1, MOST_TOKENS)),
  seed: optional(integer(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)),
  stop: optional(v.union([stopString, list(stopString, 0, 4)], 'expected a text or a list of up to 4 texts')),
  frequency_penalty: optional(number(-2, 2)),
  presence_penalty: optional(number(-2, 2)),
  logit_bias: optional(
    v.pipe(
      v.record(v.pipe(text, v.regex(/^\d{1,9}$/, 'expected token ids as keys')), number(-100, 100), ''),
      v.check((bias) => Object.keys(bias).length <= 1024, 'expected at most 1024 tokens'),
    ),
  ),
  n: optional(v.literal(1, 'only one choice for each prompt is made: leave n out, or set it to 1')),
}

type Fields = v.InferOutput<v.ObjectSchema<typeof GENERATION_FIELDS, undefined>>

/** What is not given comes from the model's own generation settings if it samples by default; else it is as in OpenAI's API. */
export function samplingOf(fields: Fields, { model }: Pipe): Sampling {
  const own = model.generation_config?.do_sample === true ? model.generation_config : {}
  return {
    temperature: fields.temperature ?? own.temperature ?? 1,
    topP: fields.top_p ?? own.top_p ?? 1,
    topK: Math.max(fields.top_k ?? own.top_k ?? 0, 0),
    seed: fields.seed ?? undefined,
    frequencyPenalty: fields.frequency_penalty ?? 0,
    presencePenalty: fields.presence_penalty ?? 0,
    logitBias: new Map(Object.entries(fields.logit_bias ?? {}).map(([token, bias]) => [Number(token), bias])),
  }
}

export const stopsOf = ({ stop }: Fields): readonly string[] => [stop ?? []].flat()

/** The usage of all prompts of a request. */
export function usageOf(promptTokens: number, completionTokens: number) {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  }
}

/** Fields of OpenAI's API that would change the answer, but are not supported: an error is better than another answer. */
export function rejectUnsupported(
  body: unknown,
  neutral: Readonly<Record<string, (value: unknown) => boolean>>,
): void {
  if (typeof body !== 'object' || body === null) return
  for (const [field, isNeutral] of Object.entries(neutral)) {
    const value = Object.hasOwn(body, field) ? Reflect.get(body, field) : undefined
    if (value !== undefined && value !== null && !isNeutral(value))
      throw invalid(field, 'this server does not support it')
  }
}
