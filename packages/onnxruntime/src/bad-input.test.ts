/** Bad input throws a `FourierFTError` that names the node, tensor or option, and the session keeps working as before. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Adapter, createAdapter, createConfig, FourierFTError, type Shape } from '@fourierft/core'
import { createModel, DataType, type NewNode, readModel } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import * as web from 'onnxruntime-web'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { SHAPES, twoLayers } from './__fixtures__/two-layers.js'
import type { AdaptedSession } from './adapted-session.js'
import { createSession, type SessionOptions } from './create-session.js'

const folder = mkdtempSync(join(tmpdir(), 'fourierft-bad-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
const adapterFor = (shapes: Record<string, Shape>): Adapter =>
  createAdapter(config, shapes, { initialSeed: 1 })
const a = adapterFor(SHAPES)

const x = Float32Array.from({ length: 2 * 3 * 12 }, (_, i) => Math.sin(0.7 * i))
const feeds = { x: new ort.Tensor('float32', x, [2, 3, 12]) }
const outputOf = async (session: AdaptedSession) => (await session.run(feeds)).y?.data

const open: AdaptedSession[] = []
async function session(options: SessionOptions = {}): Promise<AdaptedSession> {
  const created = await createSession(twoLayers(), { adapters: { a }, ...options })
  open.push(created)
  return created
}
afterEach(async () => {
  for (const session of open.splice(0)) await session.release().catch(() => undefined)
})

async function errorOf(run: Promise<unknown> | (() => unknown)): Promise<FourierFTError> {
  try {
    await (typeof run === 'function' ? run() : run)
  } catch (error) {
    if (FourierFTError.isInstance(error)) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

/** Returns a model of one node, `/block/first/MatMul`: y = op(x, w). */
function oneNode(node: Partial<NewNode>, { opset = 17, domain = '' } = {}): Uint8Array {
  const [out, inFeatures] = SHAPES['block.first']
  const data = new Uint8Array(Float32Array.from({ length: out * inFeatures }, Math.sin).buffer)
  const model = createModel(
    {
      name: 'main',
      inputs: [{ name: 'x', dataType: DataType.float, dims: ['batch', 'tokens', inFeatures] }],
      outputs: [{ name: 'y', dataType: DataType.float, dims: ['batch', 'tokens', 'features'] }],
      initializers: [{ name: 'w', dims: [inFeatures, out], dataType: DataType.float, data }],
      nodes: [{ name: '/block/first/MatMul', opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'], ...node }],
    },
    { opset },
  )
  if (domain !== '') model.addOpsetImport(domain, 1)
  return model.toBytes()
}

/** Returns a model of y = (x · mask)·w. */
function maskedLayer(): Uint8Array {
  const model = readModel(oneNode({ inputs: ['masked', 'w'] }))
  const [product] = model.graph.nodes
  if (!product) throw new Error('the model has no node')
  model.graph.insertBefore(product, [
    { name: '/Mul', opType: 'Mul', inputs: ['x', 'mask'], outputs: ['masked'] },
  ])
  model.graph.addInput({ name: 'mask', dataType: DataType.float, dims: ['batch', 'tokens', 1] })
  return model.toBytes()
}

const oneLayer = adapterFor({ 'block.first': SHAPES['block.first'] })

describe('a file that is not a model is rejected', () => {
  test.each([
    ['an HTML page', new TextEncoder().encode('<!doctype html><html>not found</html>')],
    ['an empty file', new Uint8Array()],
    ['a zip file', new TextEncoder().encode('PK\u0003\u0004 and so on')],
  ])('%s, as bytes and as a file, with adapters and without', async (_, bytes) => {
    const path = join(folder, 'bad.onnx')
    writeFileSync(path, bytes)
    for (const options of [{}, { adapters: a }]) {
      expect((await errorOf(createSession(bytes, options))).code).toBe('INVALID_ONNX')
      const error = await errorOf(createSession(path, options))
      expect(error).toMatchObject({ code: 'INVALID_ONNX', message: expect.stringContaining(path) })
    }
  })

  test('a model that is truncated at any byte', async () => {
    const bytes = oneNode({})
    const path = join(folder, 'truncated.onnx')
    for (let length = 0; length < bytes.length; length++) {
      const truncated = bytes.subarray(0, length)
      const isFile = length % 2 === 0
      if (isFile) writeFileSync(path, truncated)
      // If only the last fields are missing, the rest can be a model without the layer, its output or its opset.
      const error = await errorOf(createSession(isFile ? path : truncated, { adapters: oneLayer }))
      expect(['INVALID_ONNX', 'MODULE_NOT_FOUND', 'UNSUPPORTED', 'SHAPE_MISMATCH']).toContain(error.code)
    }
    expect((await errorOf(createSession(bytes.subarray(0, bytes.length - 1)))).code).toBe('INVALID_ONNX')
  })

  test('a missing file, a folder, and values that are not models', async () => {
    const path = join(folder, 'nowhere.onnx')
    expect(await errorOf(createSession(path))).toMatchObject({ code: 'FILE_NOT_FOUND' })
    expect(await errorOf(createSession(folder, { adapters: a }))).toMatchObject({ code: 'IO_ERROR' })
    expect(await errorOf(createSession(null as unknown as string))).toMatchObject({ code: 'INVALID_OPTION' })
    for (const result of [undefined, new Uint8Array(3)]) {
      const source = async () => result as unknown as { bytes: Uint8Array }
      const error = await errorOf(createSession(source, { adapters: a }))
      expect(error).toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringMatching(/^model: .*bytes/),
      })
    }
  })

  test('a model that cannot be downloaded: the error contains the reason', async () => {
    const server = createServer((_, response) => response.writeHead(404).end())
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.onnx`
    expect(await errorOf(createSession(url))).toMatchObject({
      code: 'IO_ERROR',
      message: `${url} could not be fetched: 404 Not Found`,
    })
    await new Promise((closed) => server.close(closed))
    expect(await errorOf(createSession(url))).toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringMatching(/could not be fetched: fetch failed \(.*ECONNREFUSED.*\)$/),
      details: { file: url },
    })
  })

  test('a link to a model is accepted', async () => {
    const [target, link] = [join(folder, 'target.onnx'), join(folder, 'link.onnx')]
    writeFileSync(target, twoLayers())
    symlinkSync(target, link)
    const linked = await createSession(link, { adapters: a })
    open.push(linked)
    expect(await outputOf(linked)).toEqual(await outputOf(await session()))
  })
})

describe('a model that cannot be run or adapted is rejected', () => {
  test.each([
    [
      'an opset without the operators of the branch',
      oneNode({}, { opset: 10 }),
      /opset 10; adapters need 11/,
    ],
    ['an opset that is too new', oneNode({}, { opset: 999 }), /cannot open the model/],
    ['an unknown operator set', oneNode({ domain: 'nobody' }, { domain: 'nobody' }), /nobody/],
    ['an unknown operator', oneNode({ opType: 'MatMool' }), /MatMool/],
    ['an input that no node computes', oneNode({ inputs: ['nowhere', 'w'] }), /nowhere/],
  ])('%s', async (_, bytes, message) => {
    // These models lack the adapter's layer, which would be reported first.
    const adapters = /MatMool|nobody/.test(message.source) ? undefined : oneLayer
    const error = await errorOf(createSession(bytes, { ...(adapters && { adapters }) }))
    expect(error.code).toBe('UNSUPPORTED')
    expect(error.message).toMatch(message)
  })

  test('a weight whose size contradicts its shape', async () => {
    const model = readModel(twoLayers())
    const weight = model.graph.initializers.get('block.first.weight')
    model.graph.removeInitializers(new Set(['block.first.weight']))
    model.graph.addInitializer({
      name: 'block.first.weight',
      dims: [2 ** 20, 2 ** 20],
      dataType: DataType.float,
      data: weight?.data() ?? new Uint8Array(),
    })
    const huge = adapterFor(SHAPES)
    const error = await errorOf(createSession(model.toBytes(), { adapters: huge }))
    expect(error).toMatchObject({
      code: 'SHAPE_MISMATCH',
      message: expect.stringContaining('block.first.weight'),
    })
  })
})

describe('adapters and runs', () => {
  test.each([
    [
      'of another architecture',
      { 'transformer.h.0.attn.c_attn': [36, 12] },
      'MODULE_NOT_FOUND',
      /block\.first/,
    ],
    [
      'of other shapes',
      { 'block.first': [20, 13] },
      'SHAPE_MISMATCH',
      /^the model, module block.first: the layer \/block\/first\/MatMul is \[20, 12\].*\[20, 13\]$/,
    ],
  ] as const)('an adapter %s is rejected', async (_, shapes, code, message) => {
    const adapted = await session()
    const before = await outputOf(adapted)
    const bad = adapterFor(shapes)
    const error = await errorOf(adapted.loadAdapter(bad, { name: 'bad' }))
    expect(error.code).toBe(code)
    expect(error.message).toMatch(message)
    expect(adapted.listAdapters()).toEqual(['a'])
    expect(await outputOf(adapted)).toEqual(before)
    expect(await errorOf(createSession(twoLayers(), { adapters: bad }))).toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  test('rejects names that are taken, empty or unknown', async () => {
    const adapted = await session()
    const before = await outputOf(adapted)
    const calls: [string, () => unknown][] = [
      ['ADAPTER_EXISTS', () => adapted.loadAdapter(a, { name: 'a' })],
      ['INVALID_OPTION', () => adapted.loadAdapter(a, { name: '' })],
      ['INVALID_OPTION', () => createSession(twoLayers(), { adapters: { '': a } })],
      ['ADAPTER_NOT_FOUND', () => adapted.setAdapter('b')],
      ['ADAPTER_NOT_FOUND', () => adapted.deleteAdapter('b')],
      ['ADAPTER_NOT_FOUND', () => adapted.mergeAdapter('b')],
      ['ADAPTER_NOT_FOUND', () => adapted.run(feeds, { adapters: ['a', 'b'] })],
      ['ADAPTER_NOT_FOUND', () => adapted.withAdapterPerRow(['b'], () => 0)],
      ['INVALID_OPTION', () => adapted.run(feeds, { adapters: ['a', 'a', null] })],
    ]
    for (const [code, call] of calls) expect((await errorOf(call)).code).toBe(code)
    expect((await errorOf(() => adapted.setAdapter('b'))).message).toBe(
      "there is no adapter 'b'; loaded adapters: a",
    )
    expect(adapted.activeAdapters).toEqual(['a'])
    expect(await outputOf(adapted)).toEqual(before)
  })

  test('rejects names, adapters and the option native if their types are wrong', async () => {
    const adapted = await session()
    const before = await outputOf(adapted)
    const missing = undefined as unknown as string[]
    const calls: [string, () => unknown][] = [
      ['names', () => adapted.setAdapter(missing)],
      ['names', () => adapted.mergeAdapter(null as unknown as string[])],
      ['names', () => adapted.withAdapterPerRow(missing, () => 0)],
      ['adapters', () => adapted.run(feeds, { adapters: 'a' as unknown as string[] })],
      ['adapters', () => createSession(twoLayers(), { adapters: 3 as unknown as string })],
      ['adapters', () => createSession(twoLayers(), { adapters: null as unknown as string })],
      ['native', () => createSession(twoLayers(), { native: 'no' as unknown as boolean })],
    ]
    for (const [option, call] of calls)
      expect(await errorOf(call)).toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringMatching(new RegExp(`^${option}: expected`)),
        details: { option },
      })
    expect(adapted.activeAdapters).toEqual(['a'])
    expect(await outputOf(adapted)).toEqual(before)
  })

  test.each([
    ['the native kernel', { native: true }, ort],
    ['the portable function', { native: false }, ort],
    ['wasm', { ort: web }, web],
  ] as const)('rejects wrong feeds of %s', async (_, options, { Tensor }) => {
    web.env.wasm.numThreads = 1
    // Level 4, because ONNX Runtime also logs the errors that it throws.
    const adapted = await createSession(maskedLayer(), {
      ...options,
      adapters: oneLayer,
      logSeverityLevel: 4,
    })
    open.push(adapted)
    const floats = (...dims: number[]) =>
      new Tensor('float32', new Float32Array(dims.reduce((size, dim) => size * dim)).fill(0.5), dims)
    const good = { x: floats(2, 3, 12), mask: floats(2, 3, 1) }
    const run = async () => (await adapted.run(good)).y?.data
    const before = await run()
    const wrong: [unknown, FourierFTError['code'], string | undefined, RegExp][] = [
      [{}, 'INVALID_OPTION', 'x', /^input x is missing; expected x, mask; received none/],
      [{ ...good, mask: undefined }, 'INVALID_OPTION', 'mask', /^input mask is missing.*received x$/],
      [{ x: good.x, Mask: good.mask }, 'INVALID_OPTION', 'mask', /received x, Mask$/],
      [
        { ...good, x: [1, 2] },
        'INVALID_OPTION',
        'x',
        /^input x: expected a tensor, float32 \[batch, tokens, 12\]/,
      ],
      [{ ...good, x: null }, 'INVALID_OPTION', 'x', /received null/],
      [
        { ...good, x: new Tensor('float64', new Float64Array(72), [2, 3, 12]) },
        'INVALID_OPTION',
        'x',
        /float32 .* received float64 \[2, 3, 12\]/,
      ],
      [
        { ...good, x: floats(2, 3, 11) },
        'SHAPE_MISMATCH',
        'x',
        /\[batch, tokens, 12\]; received float32 \[2, 3, 11\]/,
      ],
      [
        { ...good, mask: floats(2, 3) },
        'SHAPE_MISMATCH',
        'mask',
        /\[batch, tokens, 1\]; received float32 \[2, 3\]/,
      ],
      [
        { ...good, mask: floats(5, 3, 1) },
        'SHAPE_MISMATCH',
        'mask',
        /but batch is 2 in input x. ONNX Runtime: /,
      ],
      [good.x, 'INVALID_OPTION', undefined, /^feeds: expected an object/],
      [undefined, 'INVALID_OPTION', undefined, /^feeds: expected an object/],
    ]
    for (const [feeds, code, tensor, message] of wrong) {
      const error = await errorOf(adapted.run(feeds as typeof good))
      expect(error).toMatchObject({ code, message: expect.stringMatching(message) })
      expect(error.details).toMatchObject({ ...(tensor && { tensor }), cause: expect.any(Error) })
      expect(await run()).toEqual(before)
    }
    expect(
      await errorOf(adapted.run(null as unknown as typeof good, { adapters: ['default'] })),
    ).toMatchObject({
      code: 'INVALID_OPTION',
      details: { option: 'feeds' },
    })
  })

  test('rejects an unknown input on the web, as ONNX Runtime does', async () => {
    const adapted = await createSession(maskedLayer(), { ort: web })
    open.push(adapted)
    const x = new web.Tensor('float32', new Float32Array(12), [1, 1, 12])
    const mask = new web.Tensor('float32', new Float32Array(1), [1, 1, 1])
    const error = await errorOf(adapted.run({ x, mask, token_type_ids: mask }))
    expect(error).toMatchObject({ code: 'INVALID_OPTION', details: { tensor: 'token_type_ids' } })
    expect(error.message).toMatch(/^the model has no input token_type_ids; expected x, mask; /)
  })

  test("keeps ONNX Runtime's own error if the feeds are not the cause", async () => {
    const adapted = await session({ logSeverityLevel: 4 })
    const before = await outputOf(adapted)
    // This model does not declare the shape of its input.
    const wrong = { x: new ort.Tensor('float32', new Float32Array(66), [2, 3, 11]) }
    await expect(adapted.run(wrong)).rejects.toThrow('MatMul')
    await expect(adapted.run(feeds, ['z'])).rejects.toThrow('z')
    expect(await outputOf(adapted)).toEqual(before)
  })

  test('rejects every call after release', async () => {
    const adapted = await session()
    await adapted.release()
    const calls: (() => unknown)[] = [
      () => adapted.run(feeds),
      () => adapted.loadAdapter(a, { name: 'b' }),
      () => adapted.setAdapter('a'),
      () => adapted.disableAdapters(),
      () => adapted.enableAdapters(),
      () => adapted.deleteAdapter('a'),
      () => adapted.mergeAdapter(),
      () => adapted.unmergeAdapter(),
      () => adapted.mergeAndUnload(),
      () => adapted.withAdapterPerRow(['a'], () => 0),
      () => adapted.release(),
    ]
    for (const call of calls)
      expect(await errorOf(call)).toMatchObject({
        code: 'INVALID_STATE',
        message: expect.stringContaining('released'),
      })
    expect(adapted.inputNames).toEqual(['x'])
  })

  test('rejects misspelt options, and passes unknown options to ONNX Runtime', async () => {
    for (const [option, meant] of [
      ['adapter', 'adapters'],
      ['moduleName', 'moduleNames'],
      ['modulenames', 'moduleNames'],
    ] as const)
      expect(await errorOf(createSession(twoLayers(), { [option]: a }))).toMatchObject({
        code: 'INVALID_OPTION',
        problem: `${option}: there is no such option`,
        advice: `did you mean ${meant}?`,
        message: `${option}: there is no such option; did you mean ${meant}?`,
        details: { option },
      })
    const adapted = await session({ logId: 'ours', ofTomorrow: true } as SessionOptions)
    expect(await outputOf(adapted)).toHaveLength(2 * 3 * 8)
  })

  test.each([true, false])('names the option that ONNX Runtime rejects; native: %s', async (native) => {
    for (const wrong of [
      { intraOpNumThreads: -5 },
      { interOpNumThreads: 1.5 },
      { graphOptimizationLevel: 'most' as 'all' },
      { executionMode: 'backwards' as 'parallel' },
      { enableMemPattern: 3 as unknown as boolean },
    ]) {
      const [[option, received]] = Object.entries(wrong) as [[string, unknown]]
      const error = await errorOf(createSession(twoLayers(), { native, ...wrong }))
      expect(error).toMatchObject({ code: 'INVALID_OPTION', details: { option, received } })
      expect(error.message).toMatch(new RegExp(`^${option}: ONNX Runtime rejects this option: `))
    }
  })

  test('rejects an output location on a device with the native kernel', async () => {
    const options = { native: true, adapters: { a } }
    const adapted = await session({ ...options, preferredOutputLocation: { y: 'cpu' } })
    expect(await outputOf(adapted)).toHaveLength(2 * 3 * 8)
    for (const preferredOutputLocation of ['gpu-buffer', { y: 'gpu-buffer' }] as const) {
      const error = await errorOf(createSession(twoLayers(), { ...options, preferredOutputLocation }))
      expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('gpu-buffer') })
    }
  })
})
