/**
 * `POST /v1/tasks/:task`: the tasks of transformers.js. `inputs` and `parameters` are those of the pipeline; the answer is what it
 * returns, as JSON. A list of inputs gives a list of answers, each the same as for that input alone.
 */
import { Tensor } from '@huggingface/transformers'
import { Hono } from 'hono'
import * as v from 'valibot'
import type { Engine, Pipe } from '../engine.js'
import { ServerError } from '../errors.js'
import { boolean, check, integer, invalid, list, oneOf, text } from './check.js'
import { type ApiContext, adapterOf, type RequestContext, readJson, type ServerEnv } from './context.js'
import { mapLimited } from './map-limited.js'
import { checkCharacters, checkLength, contextLength } from './prompt-length.js'
import { checkImage, withImage } from './read-image.js'
import { takeTurn } from './take-turn.js'

/** Inputs of a request. */
const MOST_INPUTS = 256
/** Inputs of one request that are in the model's queue at a time. */
const AT_ONCE = 32
const MOST_LABELS = 100
/** The default of transformers.js. */
const HYPOTHESIS = 'This example is {}.'

const label = v.pipe(
  text,
  v.minLength(1, 'expected a label'),
  v.maxLength(1000, 'expected at most 1000 characters'),
)
const topK = v.optional(integer(1, 1000))
/** An unknown parameter is an error, because ignoring it would give another answer than asked for. */
const parameters = <Entries extends v.ObjectEntries>(entries: Entries) => v.strictObject(entries, '')

/** A task: its inputs, its parameters, and the call of the pipeline for one input. */
interface Task<Input, Parameters> {
  readonly input: v.GenericSchema<unknown, Input>
  readonly parameters: v.GenericSchema<unknown, Parameters>
  /** Characters of the texts that the pipeline makes of an input. */
  lengths(input: Input, parameters: Parameters): readonly number[]
  /** Checks that need the model. */
  check?(pipe: Pipe, input: Input, parameters: Parameters): void
  /** @param signal aborted if the answer is not needed any more */
  call(pipe: Pipe, input: Input, parameters: Parameters, signal: AbortSignal): Promise<unknown>
  /** The pipeline answers with a list of one: in a list of answers each is without it. */
  readonly isListOfOne?: (parameters: Parameters) => boolean
}

const ofText = { input: text, lengths: (input: string) => [input.length] }

const define = <Input, Parameters>(task: Task<Input, Parameters>) => task as Task<unknown, unknown>

/** Text from text. Greedy, because the sampler of transformers.js draws from a generator that all requests share. */
const generated = define({
  ...ofText,
  parameters: parameters({
    max_new_tokens: v.optional(integer(1, 4096)),
    src_lang: v.optional(label),
    tgt_lang: v.optional(label),
  }),
  check: (pipe, input, given) => {
    checkTokens(pipe, input)
    checkLanguages(pipe, given)
  },
  call: (pipe, input, given) => pipe(input, { ...given, do_sample: false }),
  isListOfOne: () => true,
})

const TASKS: Readonly<Record<string, Task<unknown, unknown>>> = {
  'text-classification': define({
    ...ofText,
    parameters: parameters({ top_k: topK }),
    check: checkTokens,
    call: (pipe, input, given) => pipe(input, given),
    isListOfOne: ({ top_k = 1 }) => top_k === 1,
  }),
  'token-classification': define({
    ...ofText,
    parameters: parameters({
      aggregation_strategy: v.optional(oneOf(['none', 'simple'])),
      ignore_labels: v.optional(list(label, 0, MOST_LABELS)),
    }),
    check: checkTokens,
    call: (pipe, input, given) => pipe(input, given),
  }),
  'feature-extraction': define({
    ...ofText,
    parameters: parameters({
      pooling: v.optional(oneOf(['none', 'mean', 'cls', 'first_token', 'last_token', 'eos'])),
      normalize: v.optional(boolean),
    }),
    check: checkTokens,
    call: (pipe, input, given) => pipe(input, given),
    isListOfOne: () => true,
  }),
  'fill-mask': define({
    ...ofText,
    parameters: parameters({ top_k: topK }),
    check: (pipe, input) => {
      checkTokens(pipe, input)
      const { mask_token } = pipe.tokenizer
      if (!input.includes(mask_token)) throw invalid('inputs', `expected the token ${mask_token} in the text`)
      // The pipeline cuts long texts off, perhaps before the mask.
      checkLength(pipe, pipe.tokenizer.encode(input).length, 'inputs')
    },
    call: (pipe, input, given) => pipe(input, given),
  }),
  'image-classification': define({
    input: text,
    parameters: parameters({ top_k: topK }),
    lengths: () => [],
    check: (_, input) => void checkImage(input, 'inputs'),
    call: (pipe, input, given, signal) =>
      withImage(checkImage(input, 'inputs'), signal, (image) => pipe(image, given)),
  }),
  'question-answering': define({
    input: v.object({ question: text, context: text }, 'expected an object with question and context'),
    parameters: parameters({ top_k: topK }),
    lengths: ({ question, context }) => [question.length + context.length],
    check: (pipe, { question, context }) => checkTokens(pipe, `${question} ${context}`),
    call: (pipe, { question, context }, given) =>
      (pipe as unknown as (question: string, context: string, options: unknown) => Promise<unknown>)(
        question,
        context,
        given,
      ),
  }),
  'zero-shot-classification': define({
    input: text,
    lengths: (input, { candidate_labels, hypothesis_template = HYPOTHESIS }) =>
      candidate_labels.map(({ length }) => input.length + hypothesis_template.length + length),
    parameters: parameters({
      candidate_labels: list(label, 1, MOST_LABELS),
      hypothesis_template: v.optional(v.pipe(label, v.includes('{}', 'expected {} where the label belongs'))),
      multi_label: v.optional(boolean),
    }),
    check: (pipe, input, { candidate_labels, hypothesis_template = HYPOTHESIS }) => {
      for (const label of candidate_labels) checkTokens(pipe, `${input} ${hypothesis_template} ${label}`)
    },
    call: (pipe, input, { candidate_labels, ...given }) =>
      (pipe as unknown as (text: string, labels: string[], options: unknown) => Promise<unknown>)(
        input,
        candidate_labels,
        given,
      ),
  }),
  'text2text-generation': generated,
  summarization: generated,
  translation: generated,
}

/** Tokenizers that do not know the model's limit would pass on more tokens than the model has positions. */
function checkTokens(pipe: Pipe, input: string): void {
  const limit = contextLength(pipe)
  const cut = pipe.tokenizer.model_max_length
  if (limit === undefined || cut <= limit || input.length <= limit / 4) return
  checkLength(pipe, pipe.tokenizer.encode(input).length, 'inputs')
}

/**
 * Multilingual tokenizers keep the source language of the last call, so each request has to name its own. Others have no languages.
 */
function checkLanguages({ tokenizer, task }: Pipe, given: { src_lang?: unknown; tgt_lang?: unknown }): void {
  const isMultilingual = task === 'translation' && '_build_translation_inputs' in tokenizer
  for (const field of ['src_lang', 'tgt_lang'] as const) {
    const language = given[field]
    const param = `parameters.${field}`
    if (!isMultilingual && language !== undefined)
      throw invalid(param, 'the model has no choice of languages')
    if (isMultilingual && !tokenizer.language_codes.includes(language)) {
      const known: string[] = tokenizer.language_codes
      throw invalid(param, `expected a language code of the model, such as ${known.slice(0, 5).join(', ')}`)
    }
  }
}

const REQUEST = v.object(
  { model: text, inputs: v.unknown(), parameters: v.unknown() },
  'expected a JSON object',
)

export function tasks(engine: Engine, { maxBodyBytes }: ApiContext): Hono<ServerEnv> {
  const app = new Hono<ServerEnv>()
  app.post('/v1/tasks/:task', async (c) => {
    c.set('api', 'tasks')
    const body = await readJson(c, maxBodyBytes)
    return c.json(await answer(c, engine, c.req.param('task'), body))
  })
  return app
}

async function answer(c: RequestContext, engine: Engine, name: string, body: unknown): Promise<unknown> {
  const request = check(REQUEST, {
    inputs: undefined,
    parameters: undefined,
    ...check(v.looseObject({}, 'expected a JSON object'), body),
  })
  const adapter = adapterOf(c, engine, request.model)
  const task = taskOf(engine, name)
  const isList = Array.isArray(request.inputs)
  const inputs = isList
    ? check(list(task.input, 1, MOST_INPUTS), request.inputs, 'inputs')
    : [check(task.input, request.inputs, 'inputs')]
  if (Array.isArray(request.parameters)) throw invalid('parameters', 'expected an object')
  const given = check(task.parameters, request.parameters ?? {}, 'parameters')
  const signal = c.get('signal')
  const lengths = inputs.map((input) => task.lengths(input, given))
  checkCharacters(engine.pipe, lengths.flat(), 'inputs')
  const characters = lengths.map((texts) => texts.reduce((sum, length) => sum + length, 0))
  for (const [i, input] of inputs.entries()) {
    await takeTurn(characters[i] as number, signal)
    task.check?.(engine.pipe, input, given)
  }
  const answers = await engine.call(
    adapter,
    (pipe) =>
      mapLimited(
        inputs,
        AT_ONCE,
        async (input, i, signal) => {
          await takeTurn(characters[i] as number, signal)
          return task.call(pipe, input, given, signal)
        },
        signal,
      ),
    { signal },
  )
  const plain = answers.map((one) => (one instanceof Tensor ? nestedNumbers(one) : one))
  if (!isList) return plain[0]
  return task.isListOfOne?.(given) === true ? plain.map((one) => (one as unknown[])[0]) : plain
}

function taskOf(engine: Engine, name: string): Task<unknown, unknown> {
  const task = Object.hasOwn(TASKS, name) ? TASKS[name] : undefined
  if (task !== undefined && name === engine.task) return task
  const advice = Object.hasOwn(TASKS, engine.task) ? `use /v1/tasks/${engine.task}` : 'use /v1/completions'
  throw new ServerError('unsupported_task', `the task of '${engine.model}' is '${engine.task}'; ${advice}`, {
    param: 'task',
  })
}

/** A tensor as nested lists of numbers. */
function nestedNumbers(tensor: Tensor): unknown {
  return tensor.type === 'float32' ? tensor.tolist() : tensor.to('float32').tolist()
}
