/** `moduleNames`: names of nodes, patterns, and null for modules that the exporter left out of the file. */
import { createAdapter, createConfig, createLayer } from '@fourierft/core'
import * as ort from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { SHAPES, twoLayers } from './__fixtures__/two-layers.js'
import { createSession } from './create-session.js'

const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
const POOLER = 'block.pooler.dense'
const withPooler = createAdapter(config, { ...SHAPES, [POOLER]: [8, 8] })
const withoutPooler = createAdapter(config, SHAPES)
for (const [module, { coefficients }] of withoutPooler.modules)
  coefficients.set(createLayer(withPooler.layer(module)).coefficients)

test.each([true, false])('null drops a module that the file does not have; native: %s', async (native) => {
  const feeds = {
    x: new ort.Tensor(
      'float32',
      Float32Array.from({ length: 24 }, (_, i) => Math.cos(i)),
      [2, 12],
    ),
  }
  const expected = await createSession(twoLayers(), { native, adapters: withoutPooler })
  await expect(createSession(twoLayers(), { native, adapters: withPooler })).rejects.toMatchObject({
    code: 'MODULE_NOT_FOUND',
    advice: expect.stringMatching(/to null if PyTorch never calls them.*block\.pooler\.dense/s),
  })
  const moduleNames = { [POOLER]: null }
  const first = await createSession(twoLayers(), { native, moduleNames, adapters: withPooler })
  const later = await createSession(twoLayers(), { native, moduleNames })
  await later.loadAdapter(withPooler)
  expect(later.serves(withPooler)).toBe(true)
  const output = (await expected.run(feeds)).y?.data
  expect((await first.run(feeds)).y?.data).toEqual(output)
  expect((await later.run(feeds)).y?.data).toEqual(output)
  later.disableAdapters()
  expect((await later.run(feeds)).y?.data).not.toEqual(output)
  await Promise.all([expected.release(), first.release(), later.release()])
})

type Shapes = Readonly<Record<string, readonly [number, number]>>
const adapterFor = (shapes: Shapes) => createAdapter(config, shapes)

test('maps modules by a pattern; rejects a malformed pattern before the file is read', async () => {
  const shapes = { 'stage.first': [20, 12], 'stage.second': [8, 20] } as const
  const adapters = adapterFor(shapes)
  const session = await createSession(twoLayers(), {
    native: false,
    adapters,
    moduleNames: { 'stage.*': '/block/*/MatMul' },
  })
  expect(session.serves(adapters)).toBe(true)
  await session.release()
  await expect(
    createSession('nowhere.onnx', { native: false, moduleNames: { 'stage.*': '/block/MatMul' } }),
  ).rejects.toMatchObject({ code: 'INVALID_OPTION', details: { option: 'moduleNames', module: 'stage.*' } })
})

test('rejects an adapter for another part of the model, and lists all of its modules', async () => {
  const modules = ['decoder.block.first', 'decoder.block.second'] as const
  const [first, second] = modules
  await expect(
    createSession(twoLayers(), { adapters: adapterFor({ [first]: [20, 12], [second]: [8, 20] }) }),
  ).rejects.toMatchObject({
    code: 'MODULE_NOT_FOUND',
    message: expect.stringMatching(
      /module decoder\.block\.first.*\(1 further modules are not found either\)/,
    ),
    details: { module: first, received: modules },
  })
})

test('the error advises null only for modules that PyTorch never calls', async () => {
  const errorFor = (shapes: Shapes) =>
    createSession(twoLayers(), { native: false, adapters: adapterFor({ ...SHAPES, ...shapes }) }).catch(
      (error: unknown) => error,
    )
  expect(await errorFor({ 'block.third': [8, 8] })).toMatchObject({
    code: 'MODULE_NOT_FOUND',
    message: expect.not.stringMatching(/null/),
  })
  // The products of `nn.MultiheadAttention` have the name of the attention. In other modules, `out_proj` is an ordinary layer.
  expect(await errorFor({ 'block.first.out_proj': [8, 8] })).toMatchObject({
    message: expect.stringMatching(/to null if.*block\.first\.out_proj/),
  })
  expect(await errorFor({ 'block.third.out_proj': [8, 8] })).toMatchObject({
    message: expect.not.stringMatching(/null/),
  })
})

test('accepts a module named `constructor`', async () => {
  const adapters = adapterFor({ constructor: [20, 12] as const, 'block.second': [8, 20] })
  await expect(createSession(twoLayers(), { native: false, adapters })).rejects.toMatchObject({
    code: 'MODULE_NOT_FOUND',
    details: { received: ['constructor'] },
  })
  const moduleNames = { constructor: '/block/first/MatMul' }
  const session = await createSession(twoLayers(), { native: false, adapters, moduleNames })
  expect(session.serves(adapters)).toBe(true)
  await session.release()
})
