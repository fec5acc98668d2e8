/** Names of classes in the metadata of an adapter's file. */
import { Adapter, createAdapter, createConfig, FourierFTError, loadAdapter } from '@fourierft/core'
import { PretrainedConfig } from '@huggingface/transformers'
import { describe, expect, test } from 'vitest'
import {
  type ClassLabels,
  configInCall,
  configWithLabels,
  labelsOf,
  labelsOfConfig,
  labelsOfSum,
  withLabels,
} from './class-labels.js'

const config = createConfig({ targetModules: ['query'], modulesToSave: ['classifier'], nFrequency: 4 })
const head = { shape: [2, 3] as const, weight: new Float32Array(6), bias: new Float32Array(2) }
const adapter = createAdapter(config, { query: [4, 3] }, { savedModules: { classifier: head } })
const names = ['ja — 是', 'nein "\\']

function withMetadata(metadata: Record<string, string>): Adapter {
  const { config, modules, savedTensors } = adapter
  return new Adapter({ config, modules, savedTensors, metadata })
}

describe('labels of an adapter', () => {
  test('are the same after the adapter is written and read', async () => {
    const labels = { names, problemType: 'multi_label_classification' } as const
    const read = await loadAdapter(withLabels(adapter, labels).toBytes())
    expect(labelsOf(read)).toEqual(labels)
    expect(labelsOf(await loadAdapter(read.toBytes()))).toEqual(labels)
    expect(labelsOf(withLabels(read, { names }))).toEqual({ names })
    expect(labelsOf(adapter)).toBeUndefined()
  })

  test.each([
    ['not JSON', 'left'],
    ['a list', '["left","right"]'],
    ['a missing id', '{"0":"left","2":"right"}'],
    ['a name that is not a string', '{"0":"left","1":2}'],
    ['a name that occurs twice', '{"0":"left","1":"left"}'],
    ['no name', '{}'],
    ['more names than the head has rows', '{"0":"a","1":"b","2":"c"}'],
    ['a prototype', '{"__proto__":"a","0":"b"}'],
  ])('are rejected if they are %s', (_, id2label) => {
    expect(() => labelsOf(withMetadata({ id2label }))).toThrow(FourierFTError)
  })

  test('are rejected with an unknown type of problem', () => {
    const id2label = '{"0":"left","1":"right"}'
    expect(labelsOf(withMetadata({ id2label, problem_type: '"regression"' }))?.problemType).toBe('regression')
    expect(() => labelsOf(withMetadata({ id2label, problem_type: '"other"' }))).toThrow(/problem_type/)
  })
})

describe('labels of a call', () => {
  const [first, second] = [{ names: ['a'] }, { names: ['b'] }]
  const applied = (labels: ClassLabels | undefined, replaces: readonly string[] = []) => ({
    adapter: {
      labels,
      replaces: new Map(replaces.map((key) => [key, key])),
      whole: { name: `of ${labels?.names.join()}` },
    },
    scale: 1,
  })
  const own = new PretrainedConfig({ model_type: 'bert', id2label: { 0: 'own' }, hidden_size: 8 })
  const namesOf = (config: PretrainedConfig) => labelsOfConfig(config).names

  test('are those of the adapter that replaces a layer, or those that its adapters share', () => {
    expect(labelsOfSum([applied(first), applied(second, ['head'])])).toBe(second)
    expect(labelsOfSum([applied(undefined), applied(first)])).toBe(first)
    expect(labelsOfSum([applied(first), applied(second)])).toBeUndefined()
    expect(namesOf(configInCall(own, { added: [applied(first)] }))).toEqual(['a'])
    expect(configInCall(own, { added: [] })).toBe(own)
  })

  test('are those of its rows, if they are the same', () => {
    const same = applied({ names: ['a'] })
    expect(namesOf(configInCall(own, { perRow: [applied(first), same, same] }))).toEqual(['a'])
    expect(configInCall(own, { perRow: [null, applied(undefined, ['head']), null] })).toBe(own)
    expect(namesOf(configInCall(own, { perRow: [null, applied({ names: ['own'] })] }))).toEqual(['own'])
  })

  test.each([
    ["adapter 'of a' and adapter 'of b'", [applied(first), applied(first), applied(second)]],
    ["adapter 'of a' and the base model", [applied(first), null]],
    ["the base model and adapter 'of b'", [null, applied(second, ['head'])]],
    ["adapter 'of a' and adapter 'of a'", [applied(first), applied({ ...first, problemType: 'regression' })]],
  ])('cannot be read if those of rows differ: %s', (adapters, perRow) => {
    const config = configInCall(own, { perRow })
    for (const property of ['id2label', 'label2id'] as const)
      expect(() => (config as unknown as Record<string, unknown>)[property]).toThrow(
        expect.objectContaining({
          code: 'UNSUPPORTED',
          message: expect.stringContaining(`${adapters} have different labels`),
        }),
      )
    expect(config).toBeInstanceOf(PretrainedConfig)
    expect({ ...config }).toMatchObject({ model_type: 'bert', hidden_size: 8 })
    expect(namesOf(own)).toEqual(['own'])
  })

  test('are in a copy of the configuration', () => {
    const original = new PretrainedConfig({ model_type: 'bert', id2label: { 0: 'old' }, hidden_size: 8 })
    const copy = configWithLabels(original, { names, problemType: 'multi_label_classification' })
    expect(copy).toBeInstanceOf(PretrainedConfig)
    expect(copy).toMatchObject({
      model_type: 'bert',
      hidden_size: 8,
      id2label: { 0: names[0], 1: names[1] },
      label2id: { [names[0] as string]: 0, [names[1] as string]: 1 },
      num_labels: 2,
      problem_type: 'multi_label_classification',
    })
    expect(original).toMatchObject({ id2label: { 0: 'old' } })
  })
})
