/** Heads of adapters in a model that was exported without one, and labels that follow the adapters of each call. More cases: `heads.slow.test.ts`. */
import { fileURLToPath } from 'node:url'
import { FourierFTError } from '@fourierft/core'
import { env, LogLevel, pipeline, type TextClassificationPipeline } from '@huggingface/transformers'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { attach } from '../src/attach.js'

beforeAll(() => {
  env.localModelPath = fileURLToPath(new URL('__fixtures__', import.meta.url))
  env.allowRemoteModels = false
  env.logLevel = LogLevel.NONE
})

const open: TextClassificationPipeline[] = []
afterEach(async () => {
  for (const classify of open.splice(0)) await classify.dispose()
})

const TEXT = 'the river runs down from the hills'
const OPTIONS = { targetModules: ['query', 'value'], nFrequency: 40 } as const
const MAILS = ['complaint', 'praise', 'question'] as const
const MOODS = ['calm', 'angry'] as const

async function classifier() {
  const classify = await pipeline('text-classification', 'roberta', { dtype: 'fp32' })
  open.push(classify)
  return classify
}

async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  const error = await promise.then(
    () => new Error('nothing was thrown'),
    (thrown) => thrown,
  )
  expect(error).toBeInstanceOf(FourierFTError)
  return error.code
}

/** About twelve consecutive layers, each a sum of at most 160 numbers that is rounded to float32. Logits and scores are at most 1. */
function expectNear(received: number, expected = Number.NaN): void {
  expect(Math.abs(received - expected)).toBeLessThan(12 * 160 * 2 ** -24)
}

const labelsIn = (results: unknown) => (results as { label: string }[]).map(({ label }) => label).sort()

describe('a model that was exported without a head', () => {
  test('rejects calls without the weights of the head', async () => {
    const classify = await classifier()
    const adapters = await attach(classify, { native: false })
    expect(classify.model.sessions.model.outputNames).toEqual(['last_hidden_state', 'logits'])
    expect(await codeOf(classify(TEXT))).toBe('INVALID_STATE')
    await adapters.addAdapter('plain', OPTIONS)
    await expect(classify(TEXT)).rejects.toThrow(
      /'plain' has no weights of classifier.dense, classifier.out_proj; load or train/,
    )
    expect(await codeOf(adapters.mergeAdapter())).toBe('INVALID_STATE')
    expect(await codeOf(adapters.mergeAndUnload())).toBe('INVALID_STATE')
    expect(adapters.headOf('plain')).toEqual({ labels: undefined, isMissing: true })
    await adapters.giveHead('plain', { names: MAILS }, { seed: 1 })
    expect(adapters.headOf('plain')).toEqual({ labels: { names: MAILS }, isMissing: false })
    await classify(TEXT)
    const rows = (names: (string | null)[]) => adapters.withAdapterPerRow(names, () => classify([TEXT, TEXT]))
    expect((await rows(['plain', 'plain'])).length).toBe(2)
    expect(await codeOf(rows([null, null]))).toBe('INVALID_STATE')
    adapters.disableAdapters()
    expect(await codeOf(classify(TEXT))).toBe('INVALID_STATE')
  })

  test('has the labels of the adapters with which each call started', async () => {
    const classify = await classifier()
    const adapters = await attach(classify, { native: false })
    for (const [name, names] of [
      ['mails', MAILS],
      ['moods', MOODS],
    ] as const) {
      await adapters.addAdapter(name, OPTIONS)
      await adapters.giveHead(name, { names }, { seed: 1 })
    }
    const { config } = classify.model
    const mails = classify(TEXT, { top_k: 3 })
    adapters.setAdapter('moods')
    const moods = classify(TEXT, { top_k: 3 })
    const perRow = (names: (string | null)[]) =>
      adapters.withAdapterPerRow(names, () => classify([TEXT, TEXT], { top_k: 3 }))
    const rows = perRow(['mails', 'mails'])
    expect([labelsIn(await mails), labelsIn(await moods)]).toEqual([[...MAILS].sort(), [...MOODS].sort()])
    expect((await rows).map(labelsIn)).toEqual([[...MAILS].sort(), [...MAILS].sort()])
    expect(classify.model.config).toBe(config)
    // Their heads have different widths.
    await expect(perRow(['mails', 'moods'])).rejects.toThrow(/'mails' and 'moods' replace module/)
  })

  test('gives each row the head of its adapter, and names the classes if the rows have the same labels', async () => {
    const classify = await classifier()
    const adapters = await attach(classify, { native: false })
    const others = ['invoice', 'offer', 'order']
    for (const [name, names, seed] of [
      ['first', MAILS, 1],
      ['second', MAILS, 2],
      ['other', others, 3],
    ] as const) {
      await adapters.addAdapter(name, OPTIONS)
      await adapters.giveHead(name, { names }, { seed })
    }
    type Scores = { label: string; score: number }[]
    const scores = async (names: (string | null)[]) =>
      (await adapters.withAdapterPerRow(names, () =>
        classify(
          names.map(() => TEXT),
          { top_k: 3 },
        ),
      )) as unknown as Scores[]
    const mixed = await scores(['second', 'first', 'second'])
    const alone = await Promise.all(
      ['second', 'first', 'second'].map(async (name) => (await scores([name]))[0]),
    )
    for (const [r, row] of mixed.entries()) {
      expect(row.map(({ label }) => label)).toEqual(alone[r]?.map(({ label }) => label))
      for (const [i, { score }] of row.entries()) expectNear(score, alone[r]?.[i]?.score)
    }
    expect(mixed[0]).not.toEqual(mixed[1])

    await expect(scores(['first', 'other'])).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining("adapter 'first' and adapter 'other' have different labels"),
    })
    const inputs = classify.tokenizer([TEXT, TEXT], { padding: true })
    const { logits } = await adapters.withAdapterPerRow(['first', 'other'], () => classify.model(inputs))
    const { logits: ofOther } = await adapters.withAdapterPerRow(['other', 'other'], () =>
      classify.model(inputs),
    )
    expect(logits.dims).toEqual([2, 3])
    for (const [i, value] of logits.tolist()[1].entries()) expectNear(value, ofOther.tolist()[1][i])
  })
})
