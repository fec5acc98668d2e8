/** Tokenisation blocks the process: no API tokenises texts that are too long, or many long ones without a pause. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { post } from '../__fixtures__/http.js'
import { openSingleEngine, type SingleEngine } from '../__fixtures__/single-engine.js'
import { createHandler, type Handler } from '../handler.js'
import { maxCharacters } from './prompt-length.js'

/** Characters without a pause; the work of two turns can lie between two looks. */
const TWO_TURNS = 2 * 16_384

function serving(task: Parameters<typeof openSingleEngine>[0], model: string) {
  const opened: { engine: SingleEngine; handler: Handler; tokenised: number; most: number } = {} as never
  let look: NodeJS.Immediate
  beforeAll(async () => {
    opened.engine = await openSingleEngine(task, model)
    const { pipe } = opened.engine
    pipe.tokenizer.chat_template ??= '{% for m in messages %}{{ m.content }} {% endfor %}'
    const counted = new Proxy(pipe.tokenizer, {
      apply(target, self, args) {
        opened.tokenised += String(args[0]).length
        return Reflect.apply(target, self, args)
      },
    })
    Object.assign(pipe, { tokenizer: counted })
    opened.handler = createHandler(opened.engine, { logger: false })
  })
  afterAll(() => opened.engine.close())
  /** Sends a request. @returns its status, all characters that were tokenised, and the most without a pause */
  const measure = async (path: string, body: unknown) => {
    let total = 0
    let most = 0
    opened.tokenised = 0
    const count = () => {
      total += opened.tokenised
      most = Math.max(most, opened.tokenised)
      opened.tokenised = 0
      look = setImmediate(count)
    }
    count()
    const { status, json } = await post(opened.handler, path, body)
    clearImmediate(look)
    return { status, json, total: total + opened.tokenised, most: Math.max(most, opened.tokenised) }
  }
  return { opened, measure }
}

const text = (data: readonly string[]) => ({
  inputs: [{ name: 'text', datatype: 'BYTES', shape: [data.length], data }],
})

describe('embeddings', () => {
  const { opened, measure } = serving('feature-extraction', 'roberta')
  const requests: readonly (readonly [string, (texts: readonly string[]) => object])[] = [
    ['/v1/embeddings', (input) => ({ model: 'roberta', input })],
    [
      '/v1/tasks/feature-extraction',
      (inputs) => ({ model: 'roberta', inputs, parameters: { pooling: 'mean' } }),
    ],
    ['/v2/models/roberta/infer', text],
  ]
  test.each(requests)('%s: many long texts have pauses', async (path, bodyOf) => {
    // The vocabulary does not have dots, so these are two tokens.
    const long = '.'.repeat(maxCharacters(opened.engine.pipe))
    const texts = new Array(40).fill(long)
    const { status, total, most } = await measure(path, bodyOf(texts))
    expect([status, total]).toEqual([200, 40 * long.length])
    expect(most).toBeLessThanOrEqual(TWO_TURNS)
  })
  test.each(requests)('%s: nothing is tokenised if a text is too long', async (path, bodyOf) => {
    const long = '.'.repeat(maxCharacters(opened.engine.pipe) + 1)
    const { status, total } = await measure(path, bodyOf(['a', long]))
    expect([status, total]).toEqual([400, 0])
  })
})

describe('generation', () => {
  const { opened, measure } = serving('text-generation', 'llama')
  const requests: readonly (readonly [string, (texts: readonly string[]) => object])[] = [
    ['/v1/completions', (prompt) => ({ model: 'llama', prompt, max_tokens: 1 })],
    [
      '/v1/chat/completions',
      (texts) => ({ model: 'llama', messages: texts.map((content) => ({ role: 'user', content })) }),
    ],
    ['/v2/models/llama/infer', text],
  ]
  test.each(requests)('%s: nothing is tokenised if a text is too long', async (path, bodyOf) => {
    const long = 'a'.repeat(maxCharacters(opened.engine.pipe) + 1)
    const { status, total } = await measure(path, bodyOf(['a', long]))
    expect([status, total]).toEqual([400, 0])
  })
  test('/v1/completions: many long prompts have pauses', async () => {
    const long = '.'.repeat(maxCharacters(opened.engine.pipe))
    const { status, most } = await measure('/v1/completions', {
      model: 'llama',
      prompt: new Array(40).fill(long),
      max_tokens: 1,
    })
    expect(status).toBe(200)
    expect(most).toBeLessThanOrEqual(Math.max(TWO_TURNS, 2 * long.length))
  })
})
