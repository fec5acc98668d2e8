/** `/v1/tasks`: answers equal those of the pipelines; bad input is a 400 that names the field. */
import { RawImage, Tensor } from '@huggingface/transformers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { post } from '../__fixtures__/http.js'
import { openSingleEngine, type SingleEngine } from '../__fixtures__/single-engine.js'
import { writeTokenModel } from '../__fixtures__/write-token-model.js'
import { createHandler, type Handler } from '../handler.js'
import { maxCharacters } from './prompt-length.js'

const TEXTS = ['the river runs down from the hills', 'rain']
const OPTIONS = { signal: new AbortController().signal }

/** Opens an engine for the tests of a block. */
function serving(task: Parameters<typeof openSingleEngine>[0], model: string, root?: string) {
  const opened: { engine: SingleEngine; handler: Handler } = {} as never
  beforeAll(async () => {
    opened.engine = await openSingleEngine(task, model, root)
    opened.handler = createHandler(opened.engine, { logger: false })
  })
  afterAll(() => opened.engine.close())
  const ask = (inputs: unknown, parameters?: unknown, name: string = task ?? '', of = model) =>
    post(opened.handler, `/v1/tasks/${name}`, { model: of, inputs, parameters })
  /** What the pipeline itself returns, as JSON. */
  const alone = async (adapter: string | null, ...args: unknown[]) => {
    const result = await opened.engine.call(
      adapter,
      (pipe) => (pipe as (...args: unknown[]) => Promise<unknown>)(...args),
      OPTIONS,
    )
    return JSON.parse(JSON.stringify(result instanceof Tensor ? result.tolist() : result))
  }
  return { opened, ask, alone }
}

describe('text-classification', () => {
  const { opened, ask, alone } = serving('text-classification', 'bert')

  test('one text, with the base and with adapters', async () => {
    for (const [model, adapter] of [
      ['bert', null],
      ['bert:adapter-a', 'adapter-a'],
      ['adapter-b', 'adapter-b'],
    ] as const) {
      const { status, json } = await ask(TEXTS[0], undefined, undefined, model)
      expect(status).toBe(200)
      expect(json).toEqual(await alone(adapter, TEXTS[0]))
      expect((await ask(TEXTS[0], { top_k: 2 }, undefined, model)).json).toEqual(
        await alone(adapter, TEXTS[0], { top_k: 2 }),
      )
    }
  })
  test('a list gives what each text gives alone', async () => {
    const each = await Promise.all(TEXTS.map((text) => alone(null, text)))
    expect((await ask(TEXTS)).json).toEqual(each.flat())
    const two = await Promise.all(TEXTS.map((text) => alone(null, text, { top_k: 2 })))
    expect((await ask(TEXTS, { top_k: 2 })).json).toEqual(two)
  })
  test.each([
    [undefined, undefined, 'inputs'],
    [5, undefined, 'inputs'],
    [[], undefined, 'inputs'],
    [['a', 5], undefined, 'inputs.1'],
    [new Array(257).fill('a'), undefined, 'inputs'],
    ['a', { top_k: 0 }, 'parameters.top_k'],
    ['a', { top_k: 1.5 }, 'parameters.top_k'],
    ['a', { top_k: 'all' }, 'parameters.top_k'],
    ['a', { unknown: 1 }, 'parameters.unknown'],
    ['a', [], 'parameters'],
  ])('bad input %#: the error names the field', async (inputs, parameters, param) => {
    const { status, json } = await ask(inputs, parameters)
    expect([status, json.error.code, json.error.param]).toEqual([400, 'invalid_value', param])
    expect(json.error.message.length).toBeLessThan(300)
  })
  test('long texts are rejected by their characters, before any is tokenised', async () => {
    const { pipe } = opened.engine
    const { tokenizer } = pipe
    let calls = 0
    const counted = new Proxy(tokenizer, {
      apply(target, self, args) {
        calls++
        return Reflect.apply(target, self, args)
      },
    })
    Object.assign(pipe, { tokenizer: counted })
    try {
      const most = maxCharacters(pipe)
      const long = await ask(['a', 'a'.repeat(most + 1)])
      expect([long.status, long.json.error.code]).toEqual([400, 'context_length_exceeded'])
      expect(long.json.error.message).toContain(`at most ${most} characters`)
      expect(calls).toBe(0)
      expect((await ask('a'.repeat(most))).status).toBe(200)
      expect(calls).toBeGreaterThan(0)
    } finally {
      Object.assign(pipe, { tokenizer })
    }
  })
  test('unknown models are a 404', async () => {
    for (const model of ['nobody', 'bert:nobody', '../bert', 'other:adapter-a', '']) {
      const { status, json } = await ask('a', undefined, undefined, model)
      expect([status, json.error.code]).toEqual([404, 'model_not_found'])
    }
  })
  test('another task names the right one', async () => {
    for (const task of ['fill-mask', 'text-generation', 'constructor', 'nonsense']) {
      const { status, json } = await ask('a', undefined, task)
      expect([status, json.error.code]).toEqual([400, 'unsupported_task'])
      expect(json.error.message).toContain('/v1/tasks/text-classification')
    }
  })
})

describe('feature-extraction', () => {
  const { ask, alone } = serving('feature-extraction', 'roberta')
  test('nested lists, for each token or pooled', async () => {
    for (const parameters of [undefined, { pooling: 'mean', normalize: true }, { pooling: 'cls' }]) {
      const { json } = await ask(TEXTS[0], parameters)
      expect(json).toEqual(await alone(null, TEXTS[0], parameters))
      const both = await Promise.all(TEXTS.map((text) => alone(null, text, parameters)))
      expect((await ask(TEXTS, parameters)).json).toEqual(both.map(([one]) => one))
    }
    expect((await ask('a', { pooling: 'sum' })).json.error.param).toBe('parameters.pooling')
  })
})

describe('text2text-generation', () => {
  const { ask, alone } = serving('text2text-generation', 't5')
  test('greedy text, also for adapters and lists', async () => {
    const parameters = { max_new_tokens: 12 }
    for (const [model, adapter] of [
      ['t5', null],
      ['adapter-a', 'adapter-a'],
    ] as const) {
      expect((await ask(TEXTS[0], parameters, undefined, model)).json).toEqual(
        await alone(adapter, TEXTS[0], parameters),
      )
    }
    const each = await Promise.all(TEXTS.map((text) => alone(null, text, parameters)))
    expect((await ask(TEXTS, parameters)).json).toEqual(each.flat())
    expect((await ask('a', { src_lang: 'fr' })).json.error.param).toBe('parameters.src_lang')
  })
})

describe('image-classification', () => {
  const { ask, alone } = serving('image-classification', 'vit')
  // 2 × 2 pixels: red, green, blue, white.
  const PNG =
    'iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEklEQVR4nGP4z8DAAMIM/4EAAB/uBfsL2WiLAAAAAElFTkSuQmCC'

  test('base64 and data URLs', async () => {
    const url = `data:image/png;base64,${PNG}`
    const image = await RawImage.fromBlob(new Blob([Buffer.from(PNG, 'base64')]))
    const wanted = await alone(null, image, { top_k: 3 })
    expect(wanted).toHaveLength(3)
    for (const sent of [PNG, url]) expect((await ask(sent, { top_k: 3 })).json).toEqual(wanted)
    expect((await ask([PNG, url], { top_k: 3 })).json).toEqual([wanted, wanted])
  })
  test('nothing is fetched, and nothing but images is decoded', async () => {
    const bytes = Buffer.from(PNG, 'base64')
    const bomb = Buffer.from(bytes)
    bomb.writeUInt32BE(100_000, 16)
    bomb.writeUInt32BE(100_000, 20)
    const camera = Buffer.from(bytes)
    camera.writeUInt32BE(2049, 16)
    camera.writeUInt32BE(2048, 20)
    for (const [image, message] of [
      ['http://127.0.0.1/a.png', 'not fetched'],
      ['file:///etc/passwd', 'not fetched'],
      ['/etc/passwd', 'PNG, JPEG'],
      ['not base64!', 'base64'],
      [Buffer.from('hello').toString('base64'), 'PNG, JPEG'],
      [bytes.subarray(0, 20).toString('base64'), 'PNG, JPEG'],
      [bytes.subarray(0, 40).toString('base64'), 'damaged'],
      [bomb.toString('base64'), 'pixels'],
      [camera.toString('base64'), 'at most 4194304 pixels'],
    ] as const) {
      const { status, json } = await ask(image)
      expect([status, json.error.param]).toEqual([400, 'inputs'])
      expect(json.error.message).toContain(message)
    }
  })
})

const TOKENS = writeTokenModel()

describe('token-classification', () => {
  const { ask, alone } = serving('token-classification', 'tokens', TOKENS)
  test('tokens and groups', async () => {
    for (const parameters of [{}, { aggregation_strategy: 'simple' }, { ignore_labels: ['B-0', 'B-1'] }]) {
      const { status, json } = await ask(TEXTS[0], parameters)
      expect(status).toBe(200)
      expect(json.length).toBeGreaterThan(2)
      expect(json).toEqual(await alone(null, TEXTS[0], parameters))
      expect((await ask(TEXTS, parameters)).json).toEqual([json, await alone(null, TEXTS[1], parameters)])
    }
    expect((await ask('a', { aggregation_strategy: 'max' })).json.error.param).toBe(
      'parameters.aggregation_strategy',
    )
  })
  test('a text that the tokenizer does not cut is a 400 before the model fails', async () => {
    const { status, json } = await ask('the river '.repeat(100))
    expect([status, json.error?.code]).toEqual([400, 'context_length_exceeded'])
  })
})

describe('fill-mask', () => {
  const { ask, alone } = serving('fill-mask', 'tokens', TOKENS)
  test('words for the mask', async () => {
    const text = 'the <mask> runs'
    expect((await ask(text, { top_k: 3 })).json).toEqual(await alone(null, text, { top_k: 3 }))
    expect((await ask([text, text])).json).toHaveLength(2)
    const { status, json } = await ask(['the <mask>', 'no mask'])
    expect([status, json.error.param]).toEqual([400, 'inputs'])
    expect(json.error.message).toContain('<mask>')
  })
})

describe('question-answering', () => {
  const { ask, alone } = serving('question-answering', 'tokens', TOKENS)
  const QA = { question: 'the river', context: 'the river runs down' }
  test('a question with its text', async () => {
    const wanted = await alone(null, QA.question, QA.context)
    expect(wanted.answer.length).toBeGreaterThan(0)
    expect((await ask(QA)).json).toEqual(wanted)
    expect((await ask([QA, QA])).json).toEqual([wanted, wanted])
    expect((await ask(QA, { top_k: 2 })).json).toEqual(
      await alone(null, QA.question, QA.context, { top_k: 2 }),
    )
    expect((await ask({ question: 'a' })).json.error.param).toBe('inputs.context')
    expect((await ask('a question')).json.error.param).toBe('inputs')
  })
})

describe('zero-shot-classification', () => {
  const { ask, alone } = serving('zero-shot-classification', 'bert')
  test('labels of the request', async () => {
    const candidate_labels = ['rain', 'letters']
    const wanted = await alone('adapter-a', TEXTS[0], candidate_labels, { multi_label: true })
    const { json } = await ask(TEXTS[0], { candidate_labels, multi_label: true }, undefined, 'adapter-a')
    expect(json).toEqual(wanted)
    expect((await ask(TEXTS, { candidate_labels })).json).toHaveLength(2)
    expect((await ask('a')).json.error.param).toBe('parameters.candidate_labels')
    expect((await ask('a', { candidate_labels: [] })).json.error.param).toBe('parameters.candidate_labels')
    const template = await ask('a', { candidate_labels, hypothesis_template: 'no place' })
    expect(template.json.error.param).toBe('parameters.hypothesis_template')
  })
})
