/** An adapter for a module that the exporter has left out of the file: refused, and served by the rest where the user says so. */
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

test.each([true, false])('native %s', async (native) => {
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
    message: expect.stringMatching(/null is for a module that PyTorch never calls.*block\.pooler\.dense/s),
  })
  const moduleNames = { [POOLER]: null }
  const first = await createSession(twoLayers(), { native, moduleNames, adapters: withPooler })
  const later = await createSession(twoLayers(), { native, moduleNames })
  await later.loadAdapter(withPooler)
  expect(later.serves(withPooler)).toBe(true)
  const wanted = (await expected.run(feeds)).y?.data
  expect((await first.run(feeds)).y?.data).toEqual(wanted)
  expect((await later.run(feeds)).y?.data).toEqual(wanted)
  later.disableAdapters()
  expect((await later.run(feeds)).y?.data).not.toEqual(wanted)
  await Promise.all([expected.release(), first.release(), later.release()])
})
