/** Adapters on pipelines and models of transformers.js in Node, with and without the native kernel. */
import { cpSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Adapter, FourierFTError, savePretrained } from '@fourierft/core'
import {
  AutoModel,
  AutoTokenizer,
  BertForSequenceClassification,
  env,
  LogLevel,
  type PreTrainedModel,
  pipeline,
} from '@huggingface/transformers'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { platform } from '#platform'
import { adapterFor, OUTPUT, QUERY, SHAPES, tinyModel } from './__fixtures__/tiny-model.js'
import { writeTinyModels } from './__fixtures__/write-tiny-model.js'
import { type AttachOptions, attach } from './attach.js'

const MODELS = writeTinyModels()
beforeAll(() => {
  env.localModelPath = MODELS
  env.allowRemoteModels = false
  // transformers.js would log the inputs of failed runs.
  env.logLevel = LogLevel.NONE
})

const open: { dispose(): Promise<unknown> }[] = []
afterEach(async () => {
  for (const disposable of open.splice(0)) await disposable.dispose().catch(() => undefined)
})

async function classifier() {
  const classify = await pipeline('text-classification', 'tiny-bert', { dtype: 'fp32' })
  open.push(classify)
  return classify
}

async function extractor() {
  const extract = await pipeline('feature-extraction', 'tiny-bert', { dtype: 'fp32' })
  open.push(extract)
  return extract
}

const TEXT = 'a small model of few words'

/** Expects differences of less than `roundings` float32 rounding errors of the largest value. */
function expectNear(received: unknown, expected: ArrayLike<number>, roundings: number): void {
  const largest = Math.max(...Array.from(expected, Math.abs))
  for (const [i, value] of (received as Float32Array).entries())
    expect(Math.abs(value - expected[i])).toBeLessThan(roundings * 2 ** -24 * largest)
}

/** Returns the error of a call. It has to be a `FourierFTError`. */
async function errorOf(promise: Promise<unknown>): Promise<FourierFTError> {
  const error = await promise.then(
    () => new Error('nothing was thrown'),
    (thrown) => thrown,
  )
  expect(error).toBeInstanceOf(FourierFTError)
  return error
}

describe.each([true, false])('native: %s', (native) => {
  test('loads, switches, adds, disables, deletes and detaches adapters', async () => {
    const classify = await classifier()
    const base = await classify(TEXT)
    const adapters = await attach(classify, { native })
    expect(await classify(TEXT)).toEqual(base)
    const folder = mkdtempSync(join(tmpdir(), 'fourierft-'))
    await savePretrained(adapterFor(1), folder)
    await adapters.loadAdapter(folder)
    const first = await classify(TEXT)
    expect(first).not.toEqual(base)
    await adapters.loadAdapter(adapterFor(2), { name: 'second' })
    expect(await classify(TEXT)).toEqual(first)
    expect(adapters.listAdapters()).toEqual(['default', 'second'])
    adapters.setAdapter('second')
    const second = await classify(TEXT)
    expect(second).not.toEqual(first)
    adapters.setAdapter(['default', 'second'])
    const both = await classify(TEXT)
    expect([first, second]).not.toContainEqual(both)
    adapters.disableAdapters()
    expect(await classify(TEXT)).toEqual(base)
    adapters.enableAdapters()
    expect(await classify(TEXT)).toEqual(both)
    adapters.deleteAdapter('second')
    expect(adapters.activeAdapters).toEqual(['default'])
    expect(await classify(TEXT)).toEqual(first)
    await adapters.detach()
    expect(await classify(TEXT)).toEqual(base)
    const reattached = await attach(classify, { native })
    await reattached.loadAdapter(folder)
    expect(await classify(TEXT)).toEqual(first)
  })

  test('loads an adapter from a subfolder, and rejects trained biases', async () => {
    const classify = await classifier()
    const adapters = await attach(classify, { native })
    const folder = mkdtempSync(join(tmpdir(), 'fourierft-'))
    await savePretrained(adapterFor(1), join(folder, 'german'))
    expect((await errorOf(adapters.loadAdapter(folder))).message).toContain("{ subfolder: 'german' }")
    await adapters.loadAdapter(folder, { subfolder: 'german', name: 'german' })
    const { config, modules } = adapterFor(1)
    const bias = { dtype: 'F32', shape: [1], bytes: new Uint8Array(4) } as const
    const savedTensors = new Map([['base_model.model.bert.LayerNorm.bias', bias]])
    const trained = new Adapter({ config: { ...config, bias: 'all' }, modules, savedTensors })
    expect(await errorOf(adapters.loadAdapter(trained, { name: 'biased' }))).toMatchObject({
      code: 'UNSUPPORTED',
      details: { option: 'bias' },
    })
    expect(adapters.listAdapters()).toEqual(['german'])
  })

  test('applies one adapter to each row of a batch', async () => {
    const extract = await extractor()
    const adapters = await attach(extract, { native })
    await adapters.loadAdapter(adapterFor(1), { name: 'a' })
    await adapters.loadAdapter(adapterFor(2, { [OUTPUT]: SHAPES[OUTPUT] }), { name: 'b' })
    const rowsOf = async (name: string | null) => {
      adapters.setAdapter(name ?? [])
      return (await extract([TEXT, TEXT, TEXT])).data as Float32Array
    }
    const [a, b, none] = [await rowsOf('a'), await rowsOf('b'), await rowsOf(null)]
    const mixed = await adapters.withAdapterPerRow(['a', null, 'b'], () => extract([TEXT, TEXT, TEXT]))
    const row = none.length / 3
    const expected = [...a.slice(0, row), ...none.slice(row, 2 * row), ...b.slice(2 * row)]
    // All calls have three rows, so products are rounded alike. Only the order of additions in the branch differs: 2·24 roundings.
    expectNear(mixed.data, expected, 48)
    const wrongCount = adapters.withAdapterPerRow(['a', 'b'], () => extract([TEXT, TEXT, TEXT]))
    expect((await errorOf(wrongCount)).code).toBe('INVALID_OPTION')
  })

  test('merged weights give the same outputs as branches, and unmerging restores the base', async () => {
    const extract = await extractor()
    const { data: base } = await extract(TEXT)
    const adapters = await attach(extract, { native })
    await adapters.loadAdapter(adapterFor(1), { name: 'a' })
    await adapters.loadAdapter(adapterFor(2), { name: 'b' })
    const { data: a } = await extract(TEXT)
    await adapters.mergeAdapter()
    expect(adapters.mergedAdapters).toEqual(['a'])
    // W + ΔW is rounded once to float32, and a branch of 24 coefficients has 2·24 roundings; there are two consecutive layers.
    expectNear((await extract(TEXT)).data, a, 2 * 48)
    expect((await errorOf(adapters.mergeAdapter())).code).toBe('INVALID_STATE')
    expect(() => adapters.withAdapterPerRow(['b'], () => extract(TEXT))).toThrow(/merged/)
    adapters.unmergeAdapter()
    expect((await extract(TEXT)).data).toEqual(a)
    await adapters.mergeAdapter('b')
    adapters.disableAdapters()
    expect(adapters.mergedAdapters).toEqual([])
    expect((await extract(TEXT)).data).toEqual(base)
    expect((await errorOf(adapters.mergeAdapter())).code).toBe('INVALID_STATE')
    adapters.enableAdapters()
    const { sessions } = extract.model
    expect(await adapters.mergeAndUnload()).toBe(extract.model)
    expect(extract.model.sessions).not.toBe(sessions)
    expectNear((await extract(TEXT)).data, a, 2 * 48)
    expect([adapters.listAdapters(), adapters.activeAdapters, adapters.mergedAdapters]).toEqual([[], [], []])
    expect((await errorOf(adapters.loadAdapter(adapterFor(3)))).code).toBe('INVALID_STATE')
    // New sessions would be created from the files, which do not contain the merged adapters.
    expect((await errorOf(attach(extract))).message).toMatch(/mergeAndUnload/)
  })

  test('a method that is called during a merge cancels the merge', async () => {
    const extract = await extractor()
    const { data: base } = await extract(TEXT)
    const adapters = await attach(extract, { native })
    await adapters.loadAdapter(adapterFor(1), { name: 'a' })
    await adapters.loadAdapter(adapterFor(2), { name: 'b' })
    const { data: a } = await extract(TEXT)
    const { data: b } = await adapters.withAdapterPerRow(['b'], () => extract(TEXT))
    for (const merge of ['mergeAdapter', 'mergeAndUnload'] as const) {
      const merging = errorOf(adapters[merge]())
      const rows = adapters.withAdapterPerRow(['b'], () => extract(TEXT))
      adapters.setAdapter([])
      // This call started before setAdapter, with adapter b.
      expect((await rows).data).toEqual(b)
      const { data } = await extract(TEXT)
      expect((await merging).code).toBe('INVALID_STATE')
      expect(adapters.mergedAdapters).toEqual([])
      expect(data).toEqual(base)
      expect((await extract(TEXT)).data).toEqual(base)
      adapters.setAdapter('a')
      expect((await extract(TEXT)).data).toEqual(a)
    }
    // Nothing is merged, so this does not throw.
    await adapters.withAdapterPerRow(['b'], () => extract(TEXT))
  })

  test('concurrent calls use the adapter that was active when they started', async () => {
    const classify = await classifier()
    const adapters = await attach(classify, { native })
    const names = ['a', 'b', 'c']
    for (const [seed, name] of names.entries()) await adapters.loadAdapter(adapterFor(seed + 1), { name })
    const expected = []
    for (const name of names) {
      adapters.setAdapter(name)
      expected.push(await classify(TEXT))
    }
    const calls = Array.from({ length: 60 }, (_, i) => {
      adapters.setAdapter(names[i % 3])
      return classify(TEXT)
    })
    for (const [i, answer] of (await Promise.all(calls)).entries()) expect(answer).toEqual(expected[i % 3])
  })
})

test('attaches a model that was loaded by its path, without a pipeline', async () => {
  const path = join(env.localModelPath, 'tiny-bert')
  const tokenizer = await AutoTokenizer.from_pretrained(path)
  const model = await AutoModel.from_pretrained(path, { dtype: 'fp32' })
  open.push(model)
  const inputs = tokenizer(TEXT)
  const { logits: base } = await model(inputs)
  const adapters = await attach(model)
  await adapters.loadAdapter(adapterFor(1))
  expect((await model(inputs)).logits.data).not.toEqual(base.data)
  expect((await model.forward(inputs)).logits.data).not.toEqual(base.data)
})

test('works with weights in a separate file', async () => {
  const [classify, external] = [
    await classifier(),
    await pipeline('text-classification', 'tiny-bert-external'),
  ]
  open.push(external)
  const base = await classify(TEXT)
  expect(await external(TEXT)).toEqual(base)
  for (const pipe of [classify, external]) await (await attach(pipe)).loadAdapter(adapterFor(1))
  const adapted = await classify(TEXT)
  expect(adapted).not.toEqual(base)
  expect(await external(TEXT)).toEqual(adapted)
})

test('detach restores the original session objects and methods if no adapter was loaded', async () => {
  const classify = await classifier()
  const { model } = classify
  const { sessions } = model
  const entries = [...Object.entries(sessions)]
  const methods = [Object.getOwnPropertyNames(classify), Object.getOwnPropertyNames(model)]
  const adapters = await attach(classify)
  expect(model.sessions).not.toBe(sessions)
  await adapters.detach()
  expect(model.sessions).toBe(sessions)
  expect([...Object.entries(sessions)]).toEqual(entries)
  expect([Object.getOwnPropertyNames(classify), Object.getOwnPropertyNames(model)]).toEqual(methods)
  expect(() => adapters.setAdapter([])).toThrow(/detached/)
})

test('setAdapter during detach does not cancel it, and calls during detach use the base model', async () => {
  const extract = await extractor()
  const { data: base } = await extract(TEXT)
  const adapters = await attach(extract)
  await adapters.loadAdapter(adapterFor(1), { name: 'a' })
  await adapters.mergeAdapter()
  const detached = adapters.detach()
  adapters.setAdapter([])
  const { data } = await extract(TEXT)
  await detached
  expect(data).toEqual(base)
  expect((await extract(TEXT)).data).toEqual(base)
})

test('an adapter that needs no new session is loaded without waiting for a running call', async () => {
  const extract = await extractor()
  const adapters = await attach(extract)
  await adapters.loadAdapter(adapterFor(1), { name: 'a' })
  const ends: string[] = []
  // A call that runs the model once, waits for the load, and runs the model again.
  let [ranOnce, end] = [() => {}, () => {}]
  const firstRun = new Promise<void>((done) => {
    ranOnce = done
  })
  const ended = new Promise<void>((done) => {
    end = done
  })
  const { forward } = extract.model
  extract.model.forward = async (inputs) => {
    await forward.call(extract.model, inputs)
    ranOnce()
    await ended
    return forward.call(extract.model, inputs)
  }
  const call = extract(TEXT).then(() => ends.push('call'))
  await firstRun
  await adapters.loadAdapter(adapterFor(2), { name: 'b' })
  ends.push('load')
  end()
  await call
  expect(ends).toEqual(['load', 'call'])
})

test('requires the option model for a model whose files are unknown', async () => {
  const classify = await classifier()
  const base = await classify(TEXT)
  const { config, sessions } = classify.model
  classify.model = new BertForSequenceClassification(config, sessions, {})
  const noOrigin = await errorOf(attach(classify))
  expect(noOrigin).toMatchObject({ code: 'INVALID_OPTION', details: { option: 'model' } })
  const wrong = await attach(classify, { model: 'no-such-model' })
  expect((await errorOf(wrong.loadAdapter(adapterFor(1)))).code).toBe('FILE_NOT_FOUND')
  expect(await classify(TEXT)).toEqual(base)
  await wrong.detach()
  const adapters = await attach(classify, { model: 'tiny-bert' })
  await adapters.loadAdapter(adapterFor(1))
  expect(await classify(TEXT)).not.toEqual(base)
})

test('checks the option model before a session is closed', async () => {
  const classify = await classifier()
  const base = await classify(TEXT)
  const three = join(MODELS, 'three-labels')
  cpSync(join(MODELS, 'tiny-bert'), three, { recursive: true })
  writeFileSync(join(three, 'onnx/model.onnx'), tinyModel({ labels: 3 })['onnx/model.onnx'])
  cpSync(join(three, 'onnx/model.onnx'), join(MODELS, 'tiny-bert/onnx/model_quantized.onnx'))
  const bert = fileURLToPath(new URL('../test/__fixtures__/bert', import.meta.url))
  const cases: [AttachOptions, string, RegExp][] = [
    [{ model: bert }, 'model', /inputs input_ids, attention_mask, the file has .*token_type_ids/],
    [{ model: 'three-labels' }, 'model', /'logits' of session 'model' is .*2\], in the file .*3\]/],
    [{ model: 'tiny-bert', modelOptions: { dtype: 'q8' } }, 'modelOptions', /dtype fp32.*with q8/],
  ]
  for (const [options, option, message] of cases) {
    const adapters = await attach(classify, options)
    const error = await errorOf(adapters.loadAdapter(adapterFor(1)))
    expect(error).toMatchObject({ code: 'INVALID_OPTION', details: { option } })
    expect(error.message).toMatch(message)
    expect(await classify(TEXT)).toEqual(base)
    await adapters.detach()
    expect(await classify(TEXT)).toEqual(base)
  }
})

test('takes ONNX Runtime from the session if it cannot be imported, as in a bundle', async () => {
  const [classify, bundled] = [await classifier(), await classifier()]
  await (await attach(classify, { native: false })).loadAdapter(adapterFor(1))
  vi.spyOn(platform, 'loadOrt').mockResolvedValue(undefined)
  const adapters = await attach(bundled)
  await adapters.loadAdapter(adapterFor(1))
  expect(await bundled(TEXT)).toEqual(await classify(TEXT))
  await adapters.detach()
  vi.restoreAllMocks()
})

test('loadAdapter fails if the model is disposed of during the load', async () => {
  const classify = await classifier()
  const adapters = await attach(classify)
  const loading = errorOf(adapters.loadAdapter(adapterFor(1)))
  await classify.dispose()
  for (const error of [await loading, await errorOf(adapters.loadAdapter(adapterFor(1)))])
    expect(error).toMatchObject({ code: 'INVALID_STATE', message: expect.stringMatching(/disposed/) })
})

test('methods and calls fail for a model that was disposed of, and create no session', async () => {
  const [before, after, adapted] = [await classifier(), await classifier(), await classifier()]
  const adapters = await attach(adapted)
  await adapters.loadAdapter(adapterFor(1))
  await before.dispose()
  await after.dispose()
  await adapted.dispose()
  const create = vi.spyOn(
    (await platform.loadOrt())?.InferenceSession as object as { create(): unknown },
    'create',
  )
  const disposed = {
    code: 'INVALID_STATE',
    problem: expect.stringMatching(/disposed of$/),
    advice: 'load it again',
  }
  for (const method of [() => adapters.setAdapter([]), () => adapters.deleteAdapter('default')])
    expect(method).toThrow(expect.objectContaining(disposed))
  for (const work of [adapters.mergeAdapter(), adapters.mergeAndUnload(), adapted(TEXT)])
    expect(await errorOf(work)).toMatchObject(disposed)
  const late = await attach(before)
  const released = {
    code: 'INVALID_STATE',
    problem: expect.stringMatching(/released/),
    advice: 'load the model again',
  }
  for (let i = 0; i < 2; i++) expect(await errorOf(late.loadAdapter(adapterFor(1)))).toMatchObject(released)
  await (await attach(after)).detach()
  expect(create).not.toHaveBeenCalled()
  create.mockRestore()
})

test('detach restores a model that was closed elsewhere, and creates no session', async () => {
  const [disposed, merged, closedBefore] = [await classifier(), await classifier(), await classifier()]
  await closedBefore.dispose()
  for (const classify of [disposed, merged, closedBefore]) {
    const { model } = classify
    const { sessions } = model
    const methods = [Object.getOwnPropertyNames(classify), Object.getOwnPropertyNames(model)]
    const adapters = await attach(classify)
    const loading = adapters.loadAdapter(adapterFor(1))
    if (classify === closedBefore) expect((await errorOf(loading)).code).toBe('INVALID_STATE')
    else await loading
    if (classify === merged) await adapters.mergeAdapter()
    if (classify !== closedBefore) await classify.dispose()
    const create = vi.spyOn(
      (await platform.loadOrt())?.InferenceSession as object as { create(): unknown },
      'create',
    )
    await adapters.detach()
    expect(create).not.toHaveBeenCalled()
    create.mockRestore()
    expect(model.sessions).toBe(sessions)
    expect([Object.getOwnPropertyNames(classify), Object.getOwnPropertyNames(model)]).toEqual(methods)
    expect(adapters.listAdapters()).toEqual([])
    expect(() => adapters.setAdapter([])).toThrow(/detached/)
    expect((await errorOf(adapters.detach())).message).toMatch(/detached/)
  }
})

test('detach succeeds if the model is disposed of during the call', async () => {
  const classify = await classifier()
  const { model } = classify
  const { sessions } = model
  const adapters = await attach(classify)
  await adapters.loadAdapter(adapterFor(1))
  const detached = adapters.detach()
  await classify.dispose()
  await detached
  expect(model.sessions).toBe(sessions)
})

test('an adapter can be deleted during a call, and the model disposed of right after it', async () => {
  const classify = await pipeline('text-classification', 'tiny-bert', { dtype: 'fp32' })
  const adapters = await attach(classify)
  await adapters.loadAdapter(adapterFor(1))
  const call = classify(TEXT)
  adapters.deleteAdapter('default')
  const [, disposed] = await Promise.allSettled([call, call.then(() => classify.dispose())])
  expect(disposed.status).toBe('fulfilled')
  // An unhandled rejection would fail the test run.
  await new Promise((resolve) => setTimeout(resolve))
})

test('the sessions have the interface of ONNX Runtime’s sessions', async () => {
  const { model } = await classifier()
  const { model: original } = model.sessions
  const { inputNames, inputMetadata, outputNames, outputMetadata, config } = original
  const adapters = await attach(model)
  await adapters.loadAdapter(adapterFor(1))
  const { model: adapted } = model.sessions
  expect(adapted).not.toBe(original)
  expect(adapted).toMatchObject({ inputNames, inputMetadata, outputNames, outputMetadata, config })
})

describe('bad input', () => {
  test('attach rejects values that are not models, models without sessions, and attached models', async () => {
    expect((await errorOf(attach({} as PreTrainedModel))).code).toBe('INVALID_OPTION')
    expect((await errorOf(attach(null as unknown as PreTrainedModel))).code).toBe('INVALID_OPTION')
    const empty = { model: { sessions: {} } } as unknown as { model: PreTrainedModel }
    expect((await errorOf(attach(empty))).code).toBe('UNSUPPORTED')
    const classify = await classifier()
    await attach(classify)
    expect((await errorOf(attach(classify))).code).toBe('INVALID_STATE')
    expect((await errorOf(attach(classify.model))).code).toBe('INVALID_STATE')
  })

  test('rejects invalid options', async () => {
    const classify = await classifier()
    for (const invalid of ['german', null, ['german'], 3] as unknown as object[])
      expect(await errorOf(attach(classify, invalid))).toMatchObject({
        code: 'INVALID_OPTION',
        details: { option: 'options' },
      })
    const native = 'yes' as unknown as 'auto'
    expect(await errorOf(attach(classify, { native }))).toMatchObject({
      code: 'INVALID_OPTION',
      message: "native: expected 'auto', true or false; received yes",
    })
    const adapters = await attach(classify)
    for (const invalid of ['german', null, ['german'], 3] as unknown as object[])
      expect(await errorOf(adapters.loadAdapter(adapterFor(1), invalid))).toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringContaining("such as { name: 'german' }"),
      })
    await adapters.loadAdapter(adapterFor(1), { name: 'a' })
    const names = 'a' as unknown as string[]
    expect(() => adapters.withAdapterPerRow(names, () => classify(TEXT))).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION' }),
    )
  })

  test('rejects wrong modules, shapes, names and files; the pipeline then works as before', async () => {
    const classify = await classifier()
    const adapters = await attach(classify)
    await adapters.loadAdapter(adapterFor(1), { name: 'a' })
    const answer = await classify(TEXT)
    const load = (...args: Parameters<typeof adapters.loadAdapter>) => errorOf(adapters.loadAdapter(...args))
    const misspelled = adapterFor(1, { 'bert.encoder.layer.0.attention.self.queri': [32, 16] })
    const missing = await load(misspelled, { name: 'b' })
    expect(missing.code).toBe('MODULE_NOT_FOUND')
    expect(missing.message).toContain(QUERY)
    expect((await load(adapterFor(1, { [QUERY]: [16, 16] }), { name: 'b' })).code).toBe('SHAPE_MISMATCH')
    expect((await load(adapterFor(2), { name: 'a' })).code).toBe('ADAPTER_EXISTS')
    expect((await load(adapterFor(2), { name: '' })).code).toBe('INVALID_OPTION')
    expect((await load('./no-such-folder')).code).toBe('FILE_NOT_FOUND')
    expect((await load(fileURLToPath(new URL('.', import.meta.url)))).code).toBe('FILE_NOT_FOUND')
    const config = new TextEncoder().encode(JSON.stringify({ peft_type: 'LORA', r: 8 }))
    expect((await load({ config, model: new Uint8Array(8) })).code).toBe('UNSUPPORTED_PEFT_TYPE')
    const { config: validConfig, model } = adapterFor(1).toBytes()
    expect((await load({ config: validConfig, model: model.subarray(0, model.length - 9) })).code).toBe(
      'INVALID_SAFETENSORS',
    )
    expect(() => adapters.setAdapter('nobody')).toThrow('loaded adapters: a')
    for (const invalid of [undefined, null, 3] as unknown as string[][]) {
      const methods = [
        () => adapters.setAdapter(invalid),
        () => adapters.withAdapterPerRow(invalid, () => 0),
        () => adapters.mergeAdapter(invalid ?? null),
      ]
      for (const method of methods)
        expect(await errorOf(Promise.resolve().then(method))).toMatchObject({
          code: 'INVALID_OPTION',
          details: { option: 'names' },
        })
    }
    expect(adapters.activeAdapters).toEqual(['a'])
    expect(adapters.listAdapters()).toEqual(['a'])
    expect(await classify(TEXT)).toEqual(answer)
  })
})
