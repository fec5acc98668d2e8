/**
 * The assumptions of this package about transformers.js, one in each test. After an update of the library, the names of failing tests show what
 * has changed.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import {
  AutoModel,
  AutoModelForSequenceClassification,
  BertModel,
  env,
  LogLevel,
  PreTrainedModel,
  PretrainedConfig,
  pipeline,
  Tensor,
} from '@huggingface/transformers'
import type * as Ort from 'onnxruntime-common'
import { beforeAll, expect, test, vi } from 'vitest'
import { writeTinyModels } from './__fixtures__/write-tiny-model.js'
import {
  callNames,
  findSessionOrigins,
  isMissingFile,
  type ModelOrigin,
  modelOf,
  originOf,
  ortOf,
  sessionsOf,
} from './library.js'

const installed: typeof Ort = createRequire(
  createRequire(import.meta.url).resolve('@huggingface/transformers'),
)('onnxruntime-node')
const Session = installed.InferenceSession as unknown as { create: (...args: unknown[]) => Promise<unknown> }

const MODELS = writeTinyModels()
beforeAll(() => {
  env.localModelPath = MODELS
  env.allowRemoteModels = false
  env.logLevel = LogLevel.ERROR
})

const load = () => AutoModel.from_pretrained('tiny-bert', { dtype: 'fp32' })

test('the installed version is 4.3, with which this package was tested', () => {
  expect(env.version).toMatch(/^4\.3\./)
})

test('AutoModel and pipeline call PreTrainedModel.from_pretrained with the name and the options', async () => {
  const session_options = { graphOptimizationLevel: 'basic' } as const
  const model = await AutoModelForSequenceClassification.from_pretrained('tiny-bert', {
    dtype: 'fp32',
    session_options,
  })
  expect(originOf(model)).toMatchObject({ name: 'tiny-bert', options: { dtype: 'fp32', session_options } })
  const { model: inner } = await pipeline('feature-extraction', 'tiny-bert', { dtype: 'fp32', device: 'cpu' })
  expect(originOf(inner)).toMatchObject({ name: 'tiny-bert', options: { dtype: 'fp32', device: 'cpu' } })
  await model.dispose()
  await inner.dispose()
})

test('a model has the field `sessions`, a pipeline the field `model`', async () => {
  const extract = await pipeline('feature-extraction', 'tiny-bert', { dtype: 'fp32' })
  expect(extract.model).toBeInstanceOf(PreTrainedModel)
  expect(modelOf(extract)).toBe(extract.model)
  expect(modelOf(extract.model)).toBe(extract.model)
  expect([...sessionsOf(extract.model).keys()]).toEqual(['model'])
  await extract.dispose()
})

test('a session is a session of onnxruntime-node with dtype and device in the field `config`', async () => {
  const model = await load()
  const session = sessionsOf(model).get('model')
  expect(session).toBeInstanceOf(installed.InferenceSession)
  expect(session).toMatchObject({ config: { dtype: 'fp32', device: 'cpu' } })
  expect(await ortOf(session as Ort.InferenceSession)).toBe(installed)
  await model.dispose()
})

test('the field `ort_tensor` of a tensor is a tensor of ONNX Runtime; env.backends.onnx has the versions', async () => {
  const { ort_tensor } = new Tensor('float32', [0], [1]) as unknown as { ort_tensor: object }
  const OrtTensor = ort_tensor.constructor as typeof Ort.Tensor
  const model = await load()
  const ids = () => new OrtTensor('int64', BigInt64Array.of(4n, 5n), [1, 2])
  const session = sessionsOf(model).get('model') as Ort.InferenceSession
  const { logits } = await session.run({ input_ids: ids(), attention_mask: ids() })
  expect(logits?.dims).toEqual([1, 2])
  expect(env.backends.onnx.versions).toEqual(installed.env.versions)
  await model.dispose()
})

test('models and pipelines are functions that call their `_call`, even if it is replaced later', async () => {
  const extract = await pipeline('feature-extraction', 'tiny-bert', { dtype: 'fp32' })
  for (const target of [extract, extract.model]) {
    Object.defineProperty(target, '_call', { configurable: true, value: (x: unknown) => ['called', x] })
    expect((target as unknown as (x: unknown) => unknown)(1)).toEqual(['called', 1])
    Reflect.deleteProperty(target, '_call')
  }
  await extract.dispose()
})

test('the methods that users call are asynchronous', async () => {
  const extract = await pipeline('feature-extraction', 'tiny-bert', { dtype: 'fp32' })
  expect(callNames(extract)).toEqual(['_call'])
  expect(callNames(extract.model).slice(0, 3)).toEqual(['_call', 'forward', 'generate'])
  expect(callNames(extract.model)).not.toContain('dispose')
  await extract.dispose()
})

test('a call runs session.run(feeds) with exactly the inputs in `inputNames`', async () => {
  const model = await load()
  const { model: session } = model.sessions
  const calls: unknown[][] = []
  model.sessions = {
    model: {
      inputNames: ['input_ids', 'attention_mask'],
      run: (...args: unknown[]) => {
        calls.push(args)
        return session.run(...args)
      },
      release: () => session.release(),
    },
  }
  const ids = new Tensor('int64', [4n, 5n], [1, 2])
  const { logits } = await model({ input_ids: ids, attention_mask: ids, others: ids })
  expect(logits).toBeInstanceOf(Tensor)
  expect(calls.map((args) => args.map((argument) => Object.keys(argument as object)))).toEqual([
    [['input_ids', 'attention_mask']],
  ])
  await model.dispose()
})

test('dispose releases the sessions in `sessions`', async () => {
  const model = await load()
  let released = 0
  const { model: session } = model.sessions
  model.sessions = { model: { release: async () => ++released } }
  await model.dispose()
  expect(released).toBe(1)
  await session.release()
})

test('InferenceSession.create receives a symbol in the session options, the path and the final options', async () => {
  const model = await load()
  const { create } = Session
  let created = 0
  Session.create = (...args) => {
    created++
    return create.apply(Session, args)
  }
  const origins = await findSessionOrigins(model, sessionsOf(model), {
    name: 'tiny-bert',
    options: { dtype: 'fp32', session_options: { intraOpNumThreads: 1 } },
  })
  Session.create = create
  expect(created).toBe(0)
  expect([...origins.keys()]).toEqual(['model'])
  expect(origins.get('model')).toMatchObject({
    model: join(env.localModelPath, 'tiny-bert/onnx/model.onnx'),
    options: { executionProviders: ['cpu'], intraOpNumThreads: 1 },
  })
  expect(Object.getOwnPropertySymbols(origins.get('model')?.options)).toEqual([])
  await model.dispose()
})

test('in Node, paths and options are recorded while a model is loaded, so it is not loaded again', async () => {
  const { create } = Session
  const options = { dtype: 'fp32', session_options: { intraOpNumThreads: 1 } } as const
  const [model, other] = await Promise.all([AutoModel.from_pretrained('tiny-bert', options), load()])
  expect(Session.create).toBe(create)
  const loads = vi.spyOn(model.constructor as typeof PreTrainedModel, 'from_pretrained')
  const origins = await findSessionOrigins(model, sessionsOf(model), originOf(model) as ModelOrigin)
  expect(loads).not.toHaveBeenCalled()
  loads.mockRestore()
  const { model: path, options: recorded } = origins.get('model') ?? {}
  expect(path).toBe(join(env.localModelPath, 'tiny-bert/onnx/model.onnx'))
  expect(recorded).toMatchObject({ executionProviders: ['cpu'], intraOpNumThreads: 1 })
  expect(Object.getOwnPropertySymbols(recorded)).toEqual([])
  expect(originOf(model)?.options).toMatchObject(options)
  await model.dispose()
  await other.dispose()
})

test('a model without a file throws a ModelFileNotFoundError', async () => {
  const error = await AutoModel.from_pretrained('no-such-model').catch((thrown) => thrown)
  expect(isMissingFile(error)).toBe(true)
})

test('a model is constructed from a configuration and its sessions', () => {
  const sessions = { model: {} }
  const model = new BertModel(new PretrainedConfig({ model_type: 'bert' }), sessions, {})
  expect(model.sessions).toBe(sessions)
})
