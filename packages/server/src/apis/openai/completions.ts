/** `POST /v1/completions`: text that follows a prompt. */
import * as v from 'valibot'
import type { Engine } from '../../engine.js'
import { boolean, check, integer, invalid, list, optional, text } from '../check.js'
import { type ApiContext, adapterOf, type RequestContext, readJson } from '../context.js'
import { mapLimited } from '../map-limited.js'
import { checkCharacters } from '../prompt-length.js'
import { eventStream } from './event-stream.js'
import { CONCURRENT_PROMPTS, checkGenerates, generate, tokensOfPrompt } from './generate.js'
import { GENERATION_FIELDS, rejectUnsupported, samplingOf, stopsOf, usageOf } from './generation-fields.js'
import { checkTokenIds } from './token-ids.js'

const MOST_PROMPTS = 64
/** OpenAI's default for this API. */
const DEFAULT_TOKENS = 16

const tokenIds = list(integer(0, 2 ** 31 - 1), 1, 1_000_000)
const SCHEMA = v.object(
  {
    ...GENERATION_FIELDS,
    prompt: v.union(
      [text, list(text, 1, MOST_PROMPTS), tokenIds, list(tokenIds, 1, MOST_PROMPTS)],
      `expected a text, a list of up to ${MOST_PROMPTS} texts, token ids, or a list of up to ${MOST_PROMPTS} lists of token ids`,
    ),
    echo: optional(boolean),
  },
  'expected a JSON object',
)

const isFalse = (value: unknown) => value === false
const UNSUPPORTED = {
  echo: isFalse,
  logprobs: () => false,
  best_of: (value: unknown) => value === 1,
  suffix: (value: unknown) => value === '',
}

export async function completions(
  c: RequestContext,
  engine: Engine,
  { maxBodyBytes }: ApiContext,
): Promise<Response> {
  c.set('api', 'completions')
  const body = await readJson(c, maxBodyBytes)
  const fields = check(SCHEMA, body)
  rejectUnsupported(body, UNSUPPORTED)
  const adapter = adapterOf(c, engine, fields.model)
  checkGenerates(engine)
  const given = promptsOf(fields.prompt)
  const texts = given.filter((prompt) => typeof prompt === 'string')
  checkCharacters(
    engine.pipe,
    texts.map(({ length }) => length),
    'prompt',
  )
  const prompts: (readonly number[])[] = []
  for (const prompt of given) {
    if (typeof prompt === 'string') {
      prompts.push(await tokensOfPrompt(engine.pipe, { text: prompt, param: 'prompt' }, c.get('signal')))
    } else {
      checkTokenIds(engine.pipe, prompt, 'prompt')
      prompts.push(prompt)
    }
  }
  if (prompts.some(({ length }) => length === 0)) {
    throw invalid('prompt', 'expected at least one token in each prompt')
  }
  const common = {
    id: `cmpl-${crypto.randomUUID()}`,
    object: 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model: fields.model,
  }
  const promptTokens = prompts.reduce((sum, { length }) => sum + length, 0)
  const settings = {
    sampling: samplingOf(fields, engine.pipe),
    maxTokens: fields.max_tokens ?? DEFAULT_TOKENS,
    stop: stopsOf(fields),
    param: 'prompt',
  }
  const run = (signal: AbortSignal, onText: (index: number, text: string) => void) =>
    // One call, so that all prompts are answered by the same version of the adapter.
    engine.call(
      adapter,
      (pipe) =>
        mapLimited(
          prompts,
          CONCURRENT_PROMPTS,
          (prompt, index, signal) =>
            generate(pipe, { ...settings, prompt }, { signal, onText: (text) => onText(index, text) }),
          signal,
        ),
      { signal },
    )
  const tokensIn = (ends: readonly { completionTokens: number }[]) =>
    ends.reduce((sum, { completionTokens }) => sum + completionTokens, 0)

  if (fields.stream !== true) {
    const texts = prompts.map(() => '')
    const ends = await run(c.get('signal'), (index, text) => {
      texts[index] += text
    })
    return c.json({
      ...common,
      choices: texts.map((text, index) => ({
        text,
        index,
        logprobs: null,
        finish_reason: ends[index]?.finishReason,
      })),
      usage: usageOf(promptTokens, tokensIn(ends)),
    })
  }
  return eventStream(c, async (write, signal) => {
    const chunk = (index: number, text: string, finish_reason: string | null) =>
      write({ ...common, choices: [{ text, index, logprobs: null, finish_reason }] })
    const begun = new Set<number>()
    const ends = await run(signal, (index, text) => {
      // The first event of a choice also shows that the request was accepted.
      if (text !== '' || !begun.has(index)) chunk(index, text, null)
      begun.add(index)
    })
    for (const [index, { finishReason }] of ends.entries()) chunk(index, '', finishReason)
    if (fields.stream_options?.include_usage === true) {
      write({ ...common, choices: [], usage: usageOf(promptTokens, tokensIn(ends)) })
    }
  })
}

type Prompt = string | readonly number[]
function promptsOf(prompt: v.InferOutput<typeof SCHEMA>['prompt']): readonly Prompt[] {
  if (typeof prompt === 'string') return [prompt]
  return typeof prompt[0] === 'number' ? [prompt as number[]] : (prompt as Prompt[])
}
