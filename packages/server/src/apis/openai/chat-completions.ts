/** `POST /v1/chat/completions`: the next message of a chat. */
import * as v from 'valibot'
import type { Engine, Pipe } from '../../engine.js'
import { check, integer, invalid, list, oneOf, optional, text } from '../check.js'
import { type ApiContext, adapterOf, type RequestContext, readJson } from '../context.js'
import { checkCharacters } from '../prompt-length.js'
import { eventStream } from './event-stream.js'
import { checkGenerates, generate, tokensOfPrompt } from './generate.js'
import { GENERATION_FIELDS, rejectUnsupported, samplingOf, stopsOf, usageOf } from './generation-fields.js'

const part = v.object({ type: v.literal('text', "only parts of the type 'text' are supported"), text }, '')
const SCHEMA = v.object(
  {
    ...GENERATION_FIELDS,
    messages: list(
      v.object(
        {
          role: oneOf(['system', 'developer', 'user', 'assistant']),
          content: v.union(
            [text, list(part, 0, 4096)],
            'expected a text or a list of parts of the type text',
          ),
          name: optional(text),
        },
        'expected an object with role and content',
      ),
      1,
      4096,
    ),
    max_completion_tokens: optional(integer(1, 1_000_000)),
  },
  'expected a JSON object',
)

const isFalse = (value: unknown) => value === false
const isEmpty = (value: unknown) => Array.isArray(value) && value.length === 0
const UNSUPPORTED = {
  tools: isEmpty,
  functions: isEmpty,
  logprobs: isFalse,
  top_logprobs: (value: unknown) => value === 0,
  response_format: (value: unknown) =>
    typeof value === 'object' && value !== null && Reflect.get(value, 'type') === 'text',
  audio: () => false,
  modalities: (value: unknown) => Array.isArray(value) && value.every((modality) => modality === 'text'),
}

export async function chatCompletions(
  c: RequestContext,
  engine: Engine,
  { maxBodyBytes }: ApiContext,
): Promise<Response> {
  c.set('api', 'chat_completions')
  const body = await readJson(c, maxBodyBytes)
  rejectUnsupported(body, UNSUPPORTED)
  const fields = check(SCHEMA, body)
  const adapter = adapterOf(c, engine, fields.model)
  checkGenerates(engine)
  checkCharacters(engine.pipe, [charactersOf(fields.messages)], 'messages')
  const text = templated(engine.pipe, fields.messages)
  const prompt = await tokensOfPrompt(
    engine.pipe,
    { text, param: 'messages', isTemplated: true },
    c.get('signal'),
  )
  const generation = {
    prompt,
    sampling: samplingOf(fields, engine.pipe),
    maxTokens: fields.max_completion_tokens ?? fields.max_tokens ?? undefined,
    stop: stopsOf(fields),
    param: 'messages',
  }
  const common = {
    id: `chatcmpl-${crypto.randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: fields.model,
  }

  const run = (signal: AbortSignal, onText: (text: string) => void) =>
    engine.call(adapter, (pipe) => generate(pipe, generation, { signal, onText }), { signal })

  if (fields.stream !== true) {
    let content = ''
    const onText = (text: string) => {
      content += text
    }
    const end = await run(c.get('signal'), onText)
    const message = { role: 'assistant', content, refusal: null }
    return c.json({
      ...common,
      object: 'chat.completion',
      choices: [{ index: 0, message, logprobs: null, finish_reason: end.finishReason }],
      usage: usageOf(prompt.length, end.completionTokens),
    })
  }
  return eventStream(c, async (write, signal) => {
    const chunk = (delta: object, finish_reason: string | null) =>
      write({
        ...common,
        object: 'chat.completion.chunk',
        choices: [{ index: 0, delta, logprobs: null, finish_reason }],
      })
    let hasBegun = false
    const end = await run(signal, (text) => {
      // The first event shows that the request was accepted.
      if (!hasBegun) chunk({ role: 'assistant', content: '' }, null)
      hasBegun = true
      if (text !== '') chunk({ content: text }, null)
    })
    chunk({}, end.finishReason)
    if (fields.stream_options?.include_usage === true) {
      const usage = usageOf(prompt.length, end.completionTokens)
      write({ ...common, object: 'chat.completion.chunk', choices: [], usage })
    }
  })
}

type Messages = v.InferOutput<typeof SCHEMA>['messages']

/** The characters of the contents. Templates are not made for long texts either. */
function charactersOf(messages: Messages): number {
  return messages
    .flatMap(({ content }) => (typeof content === 'string' ? content : content.map(({ text }) => text)))
    .reduce((sum, { length }) => sum + length, 0)
}

/** The prompt that the model's chat template makes of the messages. */
function templated({ tokenizer }: Pipe, messages: Messages): string {
  if (!tokenizer.chat_template) {
    throw invalid('model', 'the model has no chat template; use /v1/completions')
  }
  const plain = messages.map(({ role, content, name }) => ({
    // Templates know the older name of this role.
    role: role === 'developer' ? 'system' : role,
    content: typeof content === 'string' ? content : content.map(({ text }) => text).join(''),
    ...(name && { name }),
  }))
  try {
    return tokenizer.apply_chat_template(plain, { tokenize: false, add_generation_prompt: true })
  } catch (error) {
    // Templates reject orders of roles that the model was not trained for.
    throw invalid(
      'messages',
      `the model's chat template rejects them: ${error instanceof Error ? error.message : error}`,
    )
  }
}
