/** The Open Inference Protocol over real models: what goes in and comes out, and what is rejected. The official clients are in `test/python-clients.slow.test.ts`. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { attach } from '@fourierft/transformers'
import { env, pipeline, RawImage, random as randomNumbers } from '@huggingface/transformers'
import { Hono } from 'hono'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createModel, DataType, type NewTensor } from '../../../../onnx/src/index.js'
import { tinyModel } from '../../../../transformers/src/__fixtures__/tiny-model.js'
import type { Engine, Pipe } from '../../engine.js'
import { openLogger } from '../../log.js'
import { Metrics } from '../../metrics.js'
import { createEngine } from '../../model-engine.js'
import { functionResolver } from '../../resolver/function.js'
import type { ServerEnv } from '../context.js'
import { openInference } from './open-inference.js'
import { HEADER_LENGTH } from './read-body.js'

const FIXTURES = fileURLToPath(new URL('../../../../transformers/test/__fixtures__', import.meta.url))
const MAX_BODY = 2 ** 20

beforeAll(() => {
  env.localModelPath = FIXTURES
  env.allowRemoteModels = false
})

interface Output {
  readonly name: string
  readonly datatype: string
  readonly shape: readonly number[]
  // biome-ignore lint/suspicious/noExplicitAny: strings or numbers
  readonly data: any[]
  readonly parameters?: { readonly binary_data_size: number }
}

interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly error?: string
  // biome-ignore lint/suspicious/noExplicitAny: the JSON of a response
  readonly json: any
  readonly outputs: Readonly<Record<string, Output>>
  readonly binary: Buffer
}

type Send = (path: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer>

/** A server for one model of the fixtures, without the network. */
async function openServer(task: string, model: string, { name = model, adapter = 'adapter-b' } = {}) {
  const pipe = (await pipeline(task as 'text-classification', model, { dtype: 'fp32' })) as unknown as Pipe
  const files = new Map([
    ['adapter-a', join(FIXTURES, model, 'adapter-a')],
    [adapter, join(FIXTURES, model, 'adapter-b')],
  ])
  const engine = await createEngine(pipe, { name, resolver: functionResolver((name) => files.get(name)) })
  return { engine, send: sender(engine) }
}

function sender(engine: Engine): Send {
  const app = new Hono<ServerEnv>()
  app.use(async (c, next) => {
    c.set('requestId', 'test')
    c.set('signal', new AbortController().signal)
    await next()
  })
  const context = {
    logger: openLogger(false),
    metrics: new Metrics(),
    maxBodyBytes: MAX_BODY,
    embedding: {},
  }
  app.route('/', openInference(engine, context))
  return async (path, body, headers = {}) => {
    const isBytes = body instanceof Uint8Array
    const init =
      body === undefined
        ? {}
        : { method: 'POST', body: isBytes ? Buffer.from(body) : JSON.stringify(body), headers }
    const response = await app.request(path, init)
    const bytes = Buffer.from(await response.arrayBuffer())
    const length = Number(response.headers.get(HEADER_LENGTH) ?? bytes.length)
    const json = JSON.parse(bytes.subarray(0, length).toString())
    const outputs = Object.fromEntries((json.outputs ?? []).map((output: Output) => [output.name, output]))
    const { status } = response
    return {
      status,
      headers: response.headers,
      error: json.error,
      json,
      outputs,
      binary: bytes.subarray(length),
    }
  }
}

/** A body with binary data: the JSON, and after it the bytes. */
function withBinary(json: unknown, ...parts: Uint8Array[]) {
  const head = Buffer.from(JSON.stringify(json))
  return { body: Buffer.concat([head, ...parts]), headers: { [HEADER_LENGTH]: String(head.length) } }
}

const bytesElement = (content: Uint8Array | string) => {
  const bytes = Buffer.from(content as string)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(bytes.length)
  return Buffer.concat([length, bytes])
}

const texts = (...data: string[]) => ({ name: 'text', datatype: 'BYTES', shape: [data.length], data })
const close = (values: readonly number[]) => values.map((value) => expect.closeTo(value, 5))
const IDS = [5, 17, 44, 91, 23, 8]
const ids = (name: string, data: readonly unknown[], shape: readonly number[], datatype = 'INT64') => ({
  name,
  datatype,
  shape,
  data,
})
const tensors = (rows = 1) => {
  const shape = [rows, IDS.length]
  const repeat = (row: number[]) => Array.from({ length: rows }, () => row).flat()
  return [
    ids('input_ids', repeat(IDS), shape),
    ids('attention_mask', repeat(IDS.map(() => 1)), shape),
    ids('token_type_ids', repeat(IDS.map(() => 0)), shape),
  ]
}

describe('a text classifier', () => {
  let engine: Engine
  let send: Send
  beforeAll(async () => {
    ;({ engine, send } = await openServer('text-classification', 'bert'))
  })
  afterAll(() => engine.close())

  test('describes the server and its models', async () => {
    expect((await send('/v2')).json).toMatchObject({ name: 'fourierft', version: expect.any(String) })
    expect((await send('/v2/health/live')).json).toEqual({ live: true })
    expect((await send('/v2/health/ready')).json).toEqual({ ready: true })
    const { json } = await send('/v2/models/bert')
    expect(json).toMatchObject({ name: 'bert', versions: ['1'], platform: 'onnxruntime_onnx' })
    expect(json.inputs).toEqual([
      { name: 'input_ids', datatype: 'INT64', shape: [-1, -1] },
      { name: 'attention_mask', datatype: 'INT64', shape: [-1, -1] },
      { name: 'token_type_ids', datatype: 'INT64', shape: [-1, -1] },
      { name: 'text', datatype: 'BYTES', shape: [-1] },
    ])
    expect(json.outputs).toEqual([
      { name: 'logits', datatype: 'FP32', shape: [-1, 3] },
      { name: 'label', datatype: 'BYTES', shape: [-1] },
      { name: 'score', datatype: 'FP32', shape: [-1] },
      { name: 'scores', datatype: 'FP32', shape: [-1, -1] },
    ])
    for (const path of ['adapter-a', 'bert:adapter-a', 'bert%3Aadapter-a/versions/1']) {
      expect((await send(`/v2/models/${path}`)).json.outputs[0].shape).toEqual([-1, -1])
      expect((await send(`/v2/models/${path}/ready`)).json.ready).toBe(true)
    }
  })

  test('answers 404 for models and versions that do not exist', async () => {
    for (const path of [
      'nobody',
      'bert:nobody',
      'some/one',
      'some%2Fone',
      '..%2f..%2fetc',
      'bert/versions/2',
    ]) {
      for (const action of ['', '/ready']) {
        const { status, error } = await send(`/v2/models/${path}${action}`)
        expect([path, status, typeof error]).toEqual([path, 404, 'string'])
      }
      expect((await send(`/v2/models/${path}/infer`, { inputs: [texts('x')] })).status).toBe(404)
    }
    expect((await send('/v2/models/bert/infer')).status).toBe(404)
    expect((await send('/v2/models/bert/explain', {})).status).toBe(404)
  })

  test('finds a name with a slash, encoded or not', async () => {
    const { engine, send } = await openServer('text-classification', 'bert', {
      name: 'some/base',
      adapter: 'owner/name',
    })
    for (const path of [
      'owner/name',
      'owner%2Fname',
      'some/base:owner/name',
      'some%2Fbase%3Aowner%2Fname/versions/1',
    ]) {
      expect([path, (await send(`/v2/models/${path}/ready`)).status]).toEqual([path, 200])
    }
    expect((await send('/v2/models/some/base')).json.name).toBe('some/base')
    expect((await send('/v2/models/other/name')).status).toBe(404)
    await engine.close()
  })

  test('classifies texts as the pipeline with the adapter alone does', async () => {
    const pipe = (await pipeline('text-classification', 'bert', { dtype: 'fp32' })) as unknown as Pipe
    const adapters = await attach(pipe as unknown as Parameters<typeof attach>[0])
    const rows = ['a good model', 'bad', 'words of neutral length, and some more']
    for (const model of ['bert', 'bert:adapter-b', 'adapter-b']) {
      if (model === 'bert:adapter-b') await adapters.loadAdapter(join(FIXTURES, 'bert', 'adapter-b'))
      const { json, outputs } = await send(`/v2/models/${model}/infer`, {
        id: 'my id',
        inputs: [texts(...rows)],
      })
      expect(json).toMatchObject({ id: 'my id', model_name: model, model_version: '1' })
      const expected = []
      for (const row of rows) {
        expected.push((await pipe(row, { top_k: null })) as { label: string; score: number }[])
      }
      const best = expected.map(([first]) => first as { label: string; score: number })
      expect(outputs.label).toEqual({
        name: 'label',
        datatype: 'BYTES',
        shape: [3],
        data: best.map(({ label }) => label),
      })
      expect(outputs.score?.data).toEqual(close(best.map(({ score }) => score)))
      const scores = expected.flatMap((all) =>
        ['bad', 'neutral', 'good'].map((label) => all.find((one) => one.label === label)?.score ?? -1),
      )
      expect(outputs.scores).toEqual({ name: 'scores', datatype: 'FP32', shape: [3, 3], data: close(scores) })
    }
    await pipe.model.dispose()
  })

  test('passes parameters on', async () => {
    const body = {
      inputs: [texts('a good model', 'bad')],
      parameters: { top_k: 2 },
      outputs: [{ name: 'label' }],
    }
    const { json } = await send('/v2/models/bert/infer', body)
    expect(json.outputs).toEqual([
      { name: 'label', datatype: 'BYTES', shape: [2, 2], data: expect.any(Array) },
    ])
    for (const [parameters, message] of [
      [{ top_k: 0 }, 'parameters.top_k'],
      [{ top_k: '2' }, 'parameters.top_k'],
      [{ max_new_tokens: 3 }, 'expected one of top_k'],
    ] as const) {
      const { status, error } = await send('/v2/models/bert/infer', { ...body, parameters })
      expect(status).toBe(400)
      expect(error).toContain(message)
    }
  })

  test('runs the tensors of the model, and gives those that were asked for', async () => {
    const vectors = JSON.parse(readFileSync(join(FIXTURES, 'bert/vectors.json'), 'utf8'))
    const [one] = vectors.cases
    const shape = [1, one.inputIds.length]
    const inputs = [
      ids('input_ids', one.inputIds, shape),
      ids(
        'attention_mask',
        one.inputIds.map(() => 1),
        shape,
      ),
      ids(
        'token_type_ids',
        one.inputIds.map(() => 0),
        shape,
      ),
    ]
    for (const model of ['base', 'adapter-a', 'adapter-b']) {
      const { outputs } = await send(`/v2/models/${model === 'base' ? 'bert' : model}/infer`, { inputs })
      const expected = one[model].logits
      expect(outputs).toEqual({
        logits: { name: 'logits', datatype: 'FP32', shape: [1, expected.length], data: close(expected) },
      })
    }
  })

  test('reads and writes binary tensors, compressed too', async () => {
    const json = await send('/v2/models/bert/infer', { inputs: tensors(2) })
    const raw = tensors(2).map(({ data }) => Buffer.from(BigInt64Array.from(data as number[], BigInt).buffer))
    const inputs = tensors(2).map(({ data: _, ...input }, i) => ({
      ...input,
      parameters: { binary_data_size: raw[i]?.length },
    }))
    const { body, headers } = withBinary({ inputs, parameters: { binary_data_output: true } }, ...raw)
    for (const [sent, encoding] of [
      [body, 'identity'],
      [gzipSync(body), 'gzip'],
    ] as const) {
      const answer = await send('/v2/models/bert/infer', sent, { ...headers, 'content-encoding': encoding })
      expect(answer.outputs.logits?.parameters).toEqual({ binary_data_size: 24 })
      const floats = Array.from({ length: 6 }, (_, i) => answer.binary.readFloatLE(4 * i))
      expect(floats).toEqual(json.outputs.logits?.data)
    }
    const text = bytesElement('a good model')
    const input = {
      name: 'text',
      datatype: 'BYTES',
      shape: [1],
      parameters: { binary_data_size: text.length },
    }
    const outputs = [{ name: 'label', parameters: { binary_data: true } }, { name: 'score' }]
    const mixed = withBinary({ inputs: [input], outputs }, text)
    const answer = await send('/v2/models/bert/infer', mixed.body, mixed.headers)
    const expected = await send('/v2/models/bert/infer', { inputs: [texts('a good model')] })
    expect(answer.binary).toEqual(bytesElement(expected.outputs.label?.data[0]))
    expect(answer.outputs.score).toEqual(expected.outputs.score)
  })

  test('rejects bodies that are not requests', async () => {
    const bomb = gzipSync(Buffer.alloc(2 * MAX_BODY, 32))
    const cases: [body: unknown, headers: Record<string, string>, status: number, message: string][] = [
      [Buffer.from('{"inputs"'), {}, 400, 'not valid JSON'],
      [Buffer.from([0xff]), {}, 400, 'not valid JSON'],
      [bomb, { 'content-encoding': 'gzip' }, 413, 'decompressed'],
      [bomb.subarray(0, 200), { 'content-encoding': 'gzip' }, 400, 'not valid gzip'],
      [Buffer.from('no zlib'), { 'content-encoding': 'deflate' }, 400, 'not valid deflate'],
      [Buffer.from('{}'), { 'content-encoding': 'constructor' }, 400, 'expected gzip'],
      [Buffer.alloc(MAX_BODY + 1), {}, 413, 'larger than'],
      [Buffer.from('{}'), { [HEADER_LENGTH]: '3' }, 400, 'length of the JSON'],
      [Buffer.from('{}'), { [HEADER_LENGTH]: '-1' }, 400, 'length of the JSON'],
      [Buffer.from('{}'), { [HEADER_LENGTH]: '0' }, 400, 'without JSON'],
      [[], {}, 400, 'inputs'],
      [{}, {}, 400, 'inputs'],
      [{ inputs: [] }, {}, 400, 'inputs'],
      [{ inputs: [texts('a'), texts('b')] }, {}, 400, 'same name'],
      [{ inputs: [{ ...texts('a'), datatype: 'STRING' }] }, {}, 400, 'datatype'],
      [{ inputs: [{ ...texts('a'), shape: [-1] }] }, {}, 400, 'shape'],
      [
        { inputs: [{ ...texts('a'), parameters: { shared_memory_region: 'x' } }] },
        {},
        400,
        'binary_data_size',
      ],
      [{ inputs: [texts('a')], outputs: [{ name: 'logits' }] }, {}, 400, 'label, score, scores'],
    ]
    for (const [body, headers, status, message] of cases) {
      const answer = await send('/v2/models/bert/infer', body, headers)
      expect([message, answer.status, answer.error]).toEqual([
        message,
        status,
        expect.stringContaining(message),
      ])
    }
  })

  test('rejects tensors that do not fit the model, before it runs', async () => {
    const [input_ids, mask, types] = tensors() as [Output, Output, Output]
    const shape = [1, 6]
    const changed = (change: object) => [{ ...input_ids, ...change }, mask, types]
    const cases: [inputs: unknown[], message: string][] = [
      [[input_ids, mask], 'missing: token_type_ids'],
      [[input_ids, mask, types, ids('position_ids', IDS, shape)], 'another name'],
      [[...tensors(), texts('a')], 'another name'],
      [changed({ datatype: 'INT32' }), 'expected INT64, received INT32'],
      [changed({ datatype: 'FP32' }), 'expected INT64, received FP32'],
      [changed({ shape: [6] }), '2 dimensions'],
      [changed({ shape: [2, 6] }), 'of another input'],
      [
        [
          { ...input_ids, shape: [2, 6] },
          { ...mask, shape: [2, 6] },
          { ...types, shape: [2, 6] },
        ],
        '12 elements',
      ],
      [changed({ shape: [0, 6], data: [] }), '1 to 256 rows'],
      [changed({ shape: [2 ** 30, 2 ** 30] }), '1 to 256 rows'],
      [changed({ shape: [1, 2 ** 30] }), 'elements'],
      [changed({ shape: [1, 65], data: Array(65).fill(5) }), 'context has 64 tokens'],
      [changed({ data: [IDS, IDS] }), 'nested data'],
      [changed({ data: [[5, 17, 44, 91, 23, [8]]] }), 'expected integers, received an array'],
      [changed({ data: ['5', 17, 44, 91, 23, 8] }), 'received a string'],
      [changed({ data: [5.5, 17, 44, 91, 23, 8] }), 'fraction'],
      [changed({ data: [2 ** 53, 17, 44, 91, 23, 8] }), 'not exact'],
      [changed({ data: [1e300, 17, 44, 91, 23, 8] }), 'outside the range'],
      [changed({ data: [160, 17, 44, 91, 23, 8] }), 'from 0 to 159'],
      [changed({ data: [-1, 17, 44, 91, 23, 8] }), 'from 0 to 159'],
      [changed({ data: null }), 'data'],
      [changed({ data: undefined }), 'expected data'],
      [changed({ parameters: { binary_data_size: 48 } }), 'as well as'],
      [changed({ data: undefined, parameters: { binary_data_size: 48 } }), '0 bytes of binary data are left'],
      [[{ ...texts('a'), shape: [1, 1] }], 'expected the shape [n]'],
      [[{ ...texts('a'), shape: [2] }], '2 elements'],
      [[{ ...texts('a'), data: [1] }], 'expected strings'],
      [[{ ...texts('a'), datatype: 'INT64', data: [1] }], 'expected BYTES, received INT64'],
      [[{ ...texts(), shape: [0] }], '1 to 2048'],
    ]
    for (const [inputs, message] of cases) {
      const { status, error } = await send('/v2/models/bert/infer', { inputs })
      expect([message, status, error]).toEqual([message, 400, expect.stringContaining(message)])
    }
  })

  test('rejects binary data that does not fit its tensor', async () => {
    const element = bytesElement('a')
    const text = (size: number, count = 1) => ({
      name: 'text',
      datatype: 'BYTES',
      shape: [count],
      parameters: { binary_data_size: size },
    })
    const longLength = Buffer.from([0xff, 0xff, 0xff, 0xff, 0x61])
    const cases: [input: object, bytes: Uint8Array, message: string][] = [
      [text(6), element, '5 bytes of binary data are left'],
      [text(5), Buffer.concat([element, element]), 'belong to no input'],
      [text(5, 2), element, 'at least 8 bytes'],
      [text(10, 1), Buffer.concat([element, element]), '1 elements'],
      [text(5), longLength, 'ends after the binary data'],
      [text(9, 2), Buffer.concat([element, Buffer.alloc(4, 1)]), 'ends after the binary data'],
      [text(5, 2 ** 31 - 1), element, '1 to 2048'],
      [text(6), bytesElement(Buffer.from([0xc3, 0x28])), 'UTF-8'],
    ]
    for (const [input, bytes, message] of cases) {
      const { body, headers } = withBinary({ inputs: [input] }, bytes)
      const { status, error } = await send('/v2/models/bert/infer', body, headers)
      expect([message, status, error]).toEqual([message, 400, expect.stringContaining(message)])
    }
  })

  test('answers damaged bodies with 200, 400 or 413', async () => {
    const raw = tensors().map(({ data }) => Buffer.from(BigInt64Array.from(data as number[], BigInt).buffer))
    const inputs = tensors().map(({ data: _, ...input }) => ({
      ...input,
      parameters: { binary_data_size: 48 },
    }))
    const { body, headers } = withBinary({ inputs, parameters: { binary_data_output: true } }, ...raw)
    const compressed = gzipSync(body)
    const random = new randomNumbers.Random(7)
    const statuses = new Set<number>()
    for (let i = 0; i < 400; i++) {
      const isCompressed = random.random() < 0.3
      const damaged = Uint8Array.from(isCompressed ? compressed : body)
      for (let changes = 0; changes < 1 + (i % 3); changes++) {
        damaged[Math.floor(random.random() * damaged.length)] = Math.floor(random.random() * 256)
      }
      const end = random.random() < 0.2 ? Math.floor(random.random() * damaged.length) : damaged.length
      const encoding = isCompressed ? { 'content-encoding': 'gzip' } : {}
      const { status, error } = await send('/v2/models/bert/infer', damaged.subarray(0, end), {
        ...headers,
        ...encoding,
      })
      expect([200, 400, 413], error).toContain(status)
      statuses.add(status)
    }
    expect(statuses).toContain(200)
    expect(statuses).toContain(400)
  })

  test('ends a request after its own timeout', async () => {
    const rows = Array(500).fill('a good model')
    const body = { inputs: [texts(...rows)], parameters: { timeout: 1 } }
    const { status, error } = await send('/v2/models/bert/infer', body)
    expect([status, error]).toEqual([504, expect.stringContaining('1 microseconds')])
    const { status: without } = await send('/v2/models/bert/infer', {
      inputs: [texts('a')],
      parameters: { timeout: 0 },
    })
    expect(without).toBe(200)
  })

  test('lists what it has', async () => {
    expect((await send('/v2/repository/index', {})).json).toContainEqual({
      name: 'bert',
      version: '1',
      state: 'READY',
      reason: '',
    })
  })

  test('cuts a long text off as the pipeline does, and rejects it if the tokenizer has no limit', async () => {
    const { engine, send } = await openServer('text-classification', 'bert')
    const body = { inputs: [texts('words '.repeat(100))] }
    expect((await send('/v2/models/bert/infer', body)).status).toBe(200)
    Object.defineProperty(engine.pipe.tokenizer, 'model_max_length', { value: 1e30 })
    const { status, error } = await send('/v2/models/bert/infer', body)
    expect([status, error]).toEqual([400, expect.stringContaining('64')])
    await engine.close()
  })

  test('is not ready after it was closed', async () => {
    const { engine, send } = await openServer('text-classification', 'bert')
    await engine.close()
    for (const path of ['/v2/health/ready', '/v2/models/bert/ready', '/v2/models/bert']) {
      expect([path, (await send(path)).status]).toEqual([path, 503])
    }
    expect((await send('/v2/models/bert/infer', { inputs: [texts('a')] })).status).toBe(503)
    expect((await send('/v2/health/live')).status).toBe(200)
  })
})

test('embeds texts, one vector for each', async () => {
  const { engine, send } = await openServer('feature-extraction', 'roberta')
  const rows = ['a good model', 'a longer text with more words']
  const plain = (await pipeline('feature-extraction', 'roberta', { dtype: 'fp32' })) as unknown as Pipe
  for (const [parameters, options] of [
    [{}, { pooling: 'mean', normalize: true }],
    [
      { pooling: 'cls', normalize: false },
      { pooling: 'cls', normalize: false },
    ],
  ]) {
    const { outputs } = await send('/v2/models/roberta/infer', { inputs: [texts(...rows)], parameters })
    const expected = []
    for (const row of rows) expected.push(...((await plain(row, options)) as { data: Float32Array }).data)
    expect(outputs.embedding).toEqual({
      name: 'embedding',
      datatype: 'FP32',
      shape: [2, 32],
      data: close(expected),
    })
  }
  await plain.model.dispose()
  await engine.close()
})

test('continues texts, greedily unless a temperature is given', async () => {
  const { engine, send } = await openServer('text-generation', 'gpt2')
  const plain = (await pipeline('text-generation', 'gpt2', { dtype: 'fp32' })) as unknown as Pipe
  const infer = async (parameters: object) => {
    const body = {
      inputs: [texts('a good model', 'words')],
      parameters: { max_new_tokens: 5, ...parameters },
    }
    const { error, outputs } = await send('/v2/models/gpt2/infer', body)
    return outputs.generated_text?.data ?? error
  }
  const expected = []
  for (const text of ['a good model', 'words']) {
    const [answer] = (await plain(text, { max_new_tokens: 5, do_sample: false })) as [
      { generated_text: string },
    ]
    expected.push(answer.generated_text)
  }
  expect(await infer({ return_full_text: true })).toEqual(expected)
  const seeded = { temperature: 2, seed: 3 }
  expect(await infer(seeded)).toEqual(await infer(seeded))
  expect(await infer(seeded)).not.toEqual(await infer({}))
  await plain.model.dispose()
  await engine.close()
})

test('tensors that a decoder cannot run are a 400 without its internals', async () => {
  const { engine, send } = await openServer('text-generation', 'gpt2')
  const inputs = (engine.signature?.inputs ?? []).flatMap((input) => {
    if (!input.isTensor) return []
    const { name, type } = input
    const shape = input.shape.map((size, axis) => {
      if (typeof size === 'number') return size
      return axis === 0 ? 1 : name === 'attention_mask' ? 3 : name.startsWith('past') ? 1 : 2
    })
    const length = shape.reduce((product, size) => product * size, 1)
    return [
      {
        name,
        shape,
        datatype: type === 'int64' ? 'INT64' : 'FP32',
        data: new Array(length).fill(name === 'input_ids' ? 5 : 1),
      },
    ]
  })
  const infer = (changed: object) =>
    send('/v2/models/gpt2/infer', {
      inputs: inputs.map((input) => ({ ...input, ...Reflect.get(changed, input.name) })),
    })
  expect((await infer({})).status).toBe(200)
  const positions = await infer({ position_ids: { data: [0, 4242424] } })
  expect([positions.status, positions.error]).toEqual([
    400,
    expect.stringMatching(/^position_ids: expected integers from 0/),
  ])
  for (const model of ['gpt2', 'gpt2:adapter-a']) {
    const mask = await send(`/v2/models/${model}/infer`, {
      inputs: inputs.map((input) =>
        input.name === 'attention_mask' ? { ...input, shape: [1, 2], data: [1, 1] } : input,
      ),
    })
    expect([model, mask.status]).toEqual([model, 400])
    expect(mask.error).toMatch(/^\w+: the model cannot run these tensors/)
    expect(mask.error).not.toMatch(/node|status code|onnx/i)
  }
  expect((await send('/v2/models/gpt2:nobody/infer', { inputs })).status).toBe(404)
  await engine.close()
})

test('classifies images from bytes or base64, and rejects other files', async () => {
  const { engine, send } = await openServer('image-classification', 'vit')
  const plain = (await pipeline('image-classification', 'vit', { dtype: 'fp32' })) as unknown as Pipe
  const { cases } = JSON.parse(readFileSync(join(FIXTURES, 'vit/vectors.json'), 'utf8'))
  const image = new RawImage(Uint8ClampedArray.from(cases[0].rgb), 16, 16, 3)
  const png: Buffer = await image.toSharp().png().toBuffer()
  const [best] = (await plain(image, { top_k: 1 })) as [{ label: string; score: number }]
  const input = { name: 'image', datatype: 'BYTES', shape: [1] }
  const element = bytesElement(png)
  const sized = { ...input, parameters: { binary_data_size: element.length } }
  const { body, headers } = withBinary({ inputs: [sized] }, element)
  for (const { outputs } of [
    await send('/v2/models/vit/infer', body, headers),
    await send('/v2/models/vit/infer', { inputs: [{ ...input, data: [png.toString('base64')] }] }),
  ]) {
    expect(outputs.label?.data).toEqual([best.label])
    expect(outputs.score?.data).toEqual(close([best.score]))
  }
  const huge = Buffer.from(png)
  huge.writeUInt32BE(10_000, 16)
  huge.writeUInt32BE(10_000, 20)
  for (const [content, message] of [
    [huge.toString('base64'), 'pixels'],
    [png.subarray(0, 60).toString('base64'), 'damaged'],
    [Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>').toString('base64'), 'expected a PNG'],
    ['not base64!', 'base64'],
  ]) {
    const { status, error } = await send('/v2/models/vit/infer', { inputs: [{ ...input, data: [content] }] })
    expect([status, error]).toEqual([400, expect.stringContaining(message as string)])
  }
  await plain.model.dispose()
  await engine.close()
})

/** Writes a model that gives each token the scores of two labels. */
function writeTokenClassifier(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fourierft-tokens-'))
  const {
    'config.json': config,
    'tokenizer.json': tokenizer,
    ...files
  } = tinyModel() as Record<string, string>
  const floats = (name: string, ...dims: [number, number] | [number]): NewTensor => {
    const length = dims[0] * (dims[1] ?? 1)
    const values = Float32Array.from({ length }, (_, i) => Math.sin(7 * i + dims.length))
    return { name, dims, dataType: DataType.float, data: new Uint8Array(values.buffer) }
  }
  const ids = (name: string) => ({ name, dataType: DataType.int64, dims: ['batch', 'sequence'] })
  const product = 'product'
  const model = createModel(
    {
      name: 'main_graph',
      inputs: [ids('input_ids'), ids('attention_mask')],
      outputs: [{ name: 'logits', dataType: DataType.float, dims: ['batch', 'sequence', 2] }],
      initializers: [floats('words', 10, 16), floats('onnx::MatMul_1', 16, 2), floats('classifier.bias', 2)],
      nodes: [
        { name: '/Gather', opType: 'Gather', inputs: ['words', 'input_ids'], outputs: ['hidden'] },
        {
          name: '/classifier/MatMul',
          opType: 'MatMul',
          inputs: ['hidden', 'onnx::MatMul_1'],
          outputs: [product],
        },
        { name: '/classifier/Add', opType: 'Add', inputs: ['classifier.bias', product], outputs: ['logits'] },
      ],
    },
    { opset: 17 },
  )
  mkdirSync(join(folder, 'tokens/onnx'), { recursive: true })
  writeFileSync(join(folder, 'tokens/onnx/model.onnx'), model.toBytes())
  writeFileSync(join(folder, 'tokens/tokenizer.json'), tokenizer as string)
  writeFileSync(join(folder, 'tokens/tokenizer_config.json'), files['tokenizer_config.json'] as string)
  const architectures = ['BertForTokenClassification']
  const changed = { ...JSON.parse(config as string), architectures, vocab_size: 10 }
  writeFileSync(join(folder, 'tokens/config.json'), JSON.stringify(changed))
  return folder
}

test('classifies tokens, with the answer of each text as JSON', async () => {
  const folder = writeTokenClassifier()
  env.localModelPath = folder
  try {
    const { engine, send } = await openServer('token-classification', 'tokens')
    const plain = (await pipeline('token-classification', 'tokens', { dtype: 'fp32' })) as unknown as Pipe
    const rows = ['a small model', 'few words']
    for (const aggregation_strategy of ['none', 'simple']) {
      const body = { inputs: [texts(...rows)], parameters: { aggregation_strategy } }
      const { outputs } = await send('/v2/models/tokens/infer', body)
      const expected = []
      for (const row of rows) expected.push(await plain(row, { aggregation_strategy }))
      expect(outputs.json?.data.map((json) => JSON.parse(json))).toEqual(expected)
      expect(expected.flat().length).toBeGreaterThanOrEqual(rows.length)
    }
    await plain.model.dispose()
    await engine.close()
  } finally {
    env.localModelPath = FIXTURES
    rmSync(folder, { recursive: true })
  }
})
