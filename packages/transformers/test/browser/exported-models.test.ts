/** Exported models in a browser: decoders with an `If` (`decoder_model_merged`), quantised weights, weights in separate files. */
import { loadAdapter } from '@fourierft/core'
import { env, pipeline } from '@huggingface/transformers'
import { beforeAll, describe, expect, test } from 'vitest'
import { adapterFor, tinyModel } from '../../src/__fixtures__/tiny-model.js'
import { attach } from '../../src/attach.js'
import { withDenseBranches } from '../dense-branches.js'
import { fixture, useFixtures, type Vectors, vectorsOf } from './fixtures.js'

beforeAll(useFixtures)

test('reads weights in a separate file once for each adapter', async () => {
  const { fetch, useBrowserCache } = env
  const read: string[] = []
  const files = tinyModel({ isExternal: true })
  env.useBrowserCache = false
  env.fetch = async (url) => {
    const path = String(url).split('/tiny-bert/')[1] ?? ''
    read.push(path)
    return files[path] ? new Response(files[path]) : new Response(null, { status: 404 })
  }
  const classify = await pipeline('text-classification', 'tiny-bert', { dtype: 'fp32', device: 'wasm' })
  const text = 'a small model of few words'
  const base = await classify(text)
  const adapters = await attach(classify)
  read.length = 0
  await adapters.loadAdapter(adapterFor(1))
  // Each file is read once, by transformers.js.
  expect(read.filter((path) => path.startsWith('onnx/')).sort()).toEqual([
    'onnx/model.onnx',
    'onnx/model.onnx_data',
  ])
  const adapted = await classify(text)
  expect(adapted).not.toEqual(base)
  await adapters.mergeAdapter()
  const [merged] = (await classify(text)) as { score: number }[]
  expect(merged?.score).toBeCloseTo((adapted as { score: number }[])[0]?.score ?? 0, 5)
  await adapters.detach()
  expect(await classify(text)).toEqual(base)
  await classify.dispose()
  Object.assign(env, { fetch, useBrowserCache })
})

describe.each(['wasm', 'webgpu'] as const)('%s', (device) => {
  test('an encoder–decoder, whose layers are in both subgraphs of an If, generates the tokens of PyTorch and PEFT', async () => {
    const { cases } = await vectorsOf('t5')
    const generate = await pipeline('text2text-generation', 't5', { dtype: 'fp32', device })
    const adapters = await attach(generate)
    await adapters.loadAdapter(fixture('t5/adapter-b'), { name: 'adapter-b' })
    const [{ text, ...expected }] = cases as [Vectors['cases'][0]]
    const generated = await generate.model.generate({
      ...generate.tokenizer(text),
      max_new_tokens: 16,
      do_sample: false,
    })
    expect(Array.from((generated as { data: BigInt64Array }).data.slice(1), Number)).toEqual(
      expected['adapter-b'].tokens,
    )
    await generate.dispose()
  })

  // Limits: q8 rounds activations to 256 steps, so one step; q4 computes in float32, so its rounding. See `exported-models.slow.test.ts`.
  test.each([
    ['q8', '_quantized', 2 ** -8],
    ['q4', '_q4', 12 * 160 * 2 ** -24],
  ] as const)(
    '%s: the scores are those of the quantised base with exact branches',
    async (dtype, suffix, limit) => {
      const { cases } = await vectorsOf('bert')
      const text = cases[0]?.text
      const options = { dtype, device }
      const scores = async (classify: (text: string, options: { top_k: number }) => Promise<unknown>) =>
        ((await classify(text, { top_k: 3 })) as { score: number }[]).map(({ score }) => score)
      const classify = await pipeline('text-classification', 'bert', options)
      const base = await scores(classify)
      const adapters = await attach(classify)
      const adapter = await loadAdapter(fixture('bert/adapter-b'))
      await adapters.loadAdapter(adapter)

      const { fetch } = env
      const response = await fetch(fixture(`bert/onnx/model${suffix}.onnx`))
      const dense = withDenseBranches(new Uint8Array(await response.arrayBuffer()), adapter, false)
      env.fetch = async (url) =>
        String(url).endsWith('.onnx')
          ? new Response(Uint8Array.from(dense))
          : fetch(String(url).replace('bert-dense', 'bert'))
      const reference = await pipeline('text-classification', 'bert-dense', options)
      env.fetch = fetch
      const [received, expected] = [await scores(classify), await scores(reference)]
      for (const [i, score] of expected.entries()) expect(Math.abs(received[i] - score)).toBeLessThan(limit)
      expect(Math.abs(received[0] - base[0])).toBeGreaterThan(2 * limit)
      adapters.disableAdapters()
      expect(await scores(classify)).toEqual(base)
      await classify.dispose()
      await reference.dispose()
    },
  )
})
