import { describe, expect, it } from 'vitest'
import { FourierFTError } from '../errors.js'
import { createConfig, parseConfig } from './config.js'
import { createAdapter } from './create-adapter.js'
import { findModules, isSavedWhole, matchModules, nFrequencyOf, targetTest } from './module-matcher.js'

// test/matching compares the results with PEFT. This file tests the cases for which PEFT has no result: errors, and facts that a caller omits.

const NAMES = [
  '',
  'model',
  'model.layers.0.self_attn.q_proj',
  'model.layers.0.self_attn.v_proj',
  'model.layers.1.self_attn.q_proj',
  'model.layers.1.self_attn.v_proj',
  'lm_head',
  'score',
]

function errorOf(run: () => unknown): FourierFTError {
  try {
    run()
  } catch (error) {
    if (FourierFTError.isInstance(error)) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('matchModules', () => {
  it('returns the modules in the order of the model', () => {
    const config = createConfig({ targetModules: ['v_proj', 'q_proj'], layersToTransform: 1 })
    expect(matchModules(config, new Set(NAMES))).toEqual([
      'model.layers.1.self_attn.q_proj',
      'model.layers.1.self_attn.v_proj',
    ])
  })

  it('treats names of the object prototype as ordinary names', () => {
    const names = ['constructor', 'a.__proto__', 'a.toString']
    expect(
      matchModules(createConfig({ targetModules: ['__proto__', 'toString', 'valueOf'] }), names),
    ).toEqual(names.slice(1))
    expect(
      matchModules(createConfig({ targetModules: names, excludeModules: ['constructor'] }), names),
    ).toEqual(names.slice(1))
  })

  it('names the nearest modules if nothing matches', () => {
    const error = errorOf(() =>
      matchModules(createConfig({ targetModules: ['q_prj'], layersToTransform: [0] }), NAMES),
    )
    expect(error.code).toBe('MODULE_NOT_FOUND')
    expect(error.message).toContain('["q_prj"]')
    expect(error.message).toContain('layersToTransform [0]')
    expect((error.details.expected as string[])[0]).toBe('model.layers.0.self_attn.q_proj')
    expect(error.message).toContain('model.layers.0.self_attn.q_proj')
    expect(findModules(createConfig({ targetModules: ['q_prj'] }), NAMES)).toEqual([])
    expect(errorOf(() => matchModules(createConfig({ targetModules: ['q'] }), [])).message).toContain(
      'no modules',
    )
  })

  it('treats every module as a linear layer if the caller does not name the linear layers', () => {
    const config = createConfig({ targetModules: 'all-linear' })
    expect(matchModules(config, NAMES)).toEqual(NAMES.slice(1))
    expect(matchModules(config, NAMES, { linear: ['lm_head', 'score'], outputLayer: 'lm_head' })).toEqual([
      'score',
    ])
    const classifier = createConfig({ targetModules: 'All-Linear', taskType: 'SEQ_CLS' })
    expect(matchModules(classifier, NAMES, { linear: ['lm_head', 'score'] })).toEqual(['lm_head'])
    // The task type saves the head whole, and modules that are saved whole are never adapted.
    expect(matchModules(classifier, NAMES, { linear: ['lm_head', 'score'], outputLayer: null })).toEqual([
      'lm_head',
    ])
  })

  it('finds the modules that PEFT saves whole: names that end with one of modulesToSave, and all modules inside', () => {
    const config = createConfig({ modulesToSave: ['head'], taskType: 'TOKEN_CLS' })
    for (const module of [
      'head',
      'a.head',
      'overhead.dense',
      'classifier.out_proj',
      'pre_classifier',
      'score',
    ])
      expect([module, isSavedWhole(config, module)]).toEqual([module, true])
    for (const module of ['heads', 'head_norm', 'a.headless.dense', 'scores', ''])
      expect([module, isSavedWhole(config, module)]).toEqual([module, false])
    expect(isSavedWhole(createConfig(), 'head')).toBe(false)
  })

  it('tests names with many dots in linear time', () => {
    // Quadratic work would be 10^11 steps here: the test would not end.
    const name = `${'a.'.repeat(500_000)}q`
    expect(targetTest(createConfig({ targetModules: ['q'], excludeModules: ['a'] }))(name)).toBe(true)
    expect(targetTest(createConfig({ targetModules: ['v'] }))(name)).toBe(false)
  })

  it('throws if targetModules is null and PEFT has no default for the model type', () => {
    expect(matchModules(createConfig(), NAMES, { modelType: 'llama' })).toHaveLength(4)
    for (const modelType of ['unheard of', 'constructor', undefined]) {
      const error = errorOf(() =>
        matchModules(createConfig(), NAMES, modelType === undefined ? {} : { modelType }),
      )
      expect(error).toMatchObject({ code: 'INVALID_OPTION', details: { option: 'targetModules' } })
    }
  })

  it.each([
    [{ targetModules: '(q' }, 'target_modules'],
    [{ targetModules: ['q_proj'], excludeModules: '(q' }, 'exclude_modules'],
    [{ targetModules: ['q_proj'], modulesToSave: ['(q'] }, 'modules_to_save'],
    [{ targetModules: ['q_proj'], layersToTransform: 0, layersPattern: '(q' }, 'layers_pattern'],
  ])('names the option of a pattern that cannot be used: %j', (options, option) => {
    expect(errorOf(() => matchModules(createConfig(options), NAMES))).toMatchObject({
      code: 'INVALID_PATTERN',
      details: { option },
    })
  })
})

describe('the head of a task', () => {
  it('is never adapted, even if the file does not list it in modules_to_save', () => {
    const config = parseConfig(
      '{"peft_type":"FOURIERFT","task_type":"SEQ_CLS","n_frequency":4,"target_modules":["query","classifier"]}',
    )
    const shapes = { 'a.query': [4, 4], classifier: [2, 4] } as const
    const matched = matchModules(config, Object.keys(shapes))
    expect(matched).toEqual(['a.query'])
    expect([...createAdapter(config, { 'a.query': [4, 4] }).modules.keys()]).toEqual(matched)
  })
})

describe('hostile configurations', () => {
  const listOf = (n: number, make: (i: number) => string) => Array.from({ length: n }, (_, i) => make(i))

  it.each([
    ['modules_to_save', { modulesToSave: listOf(20_000, (i) => `m${i}.*`) }],
    ['layers_pattern', { layersToTransform: 0, layersPattern: listOf(20_000, (i) => `l${i}`) }],
  ])('cannot have more patterns in %s than the budget allows', (option, options) => {
    expect(
      errorOf(() => matchModules(createConfig({ targetModules: ['q_proj'], ...options }), NAMES)),
    ).toMatchObject({ code: 'INVALID_PATTERN', details: { option } })
  })

  it('take linear time on names with many dots, or are rejected', () => {
    const name = `${'a.'.repeat(1e6)}q`
    expect(matchModules(createConfig({ targetModules: ['q'], excludeModules: ['b'] }), [name])).toEqual([
      name,
    ])
    const targets = listOf(20, (i) => `${i}.q`)
    expect(errorOf(() => matchModules(createConfig({ targetModules: targets }), [name]))).toMatchObject({
      code: 'INVALID_PATTERN',
      details: { option: 'target_modules' },
    })
  })
})

describe('nFrequencyOf', () => {
  it('matches a key that is a name in the same way as Python', () => {
    const nOf = (key: string, module: string) =>
      nFrequencyOf(createConfig({ nFrequency: 9, nFrequencyPattern: { [key]: 1 } }), module)
    for (const [key, module] of [
      ['q_proj', 'a.q_proj'],
      ['a.q', 'x.a.q'],
      ['a.q', 'x.axq'],
      ['a.q', 'x.aéq'],
      ['q', 'é.q'],
      ['q', 'a.q\n'],
      ['', 'a.'],
      ['q-1', 'a.q-1'],
    ] as const)
      expect([key, module, nOf(key, module)]).toEqual([key, module, 1])
    for (const [key, module] of [
      ['q_proj', 'q_projx'],
      ['q_proj', 'aq_proj'],
      ['a.q', 'x.a\nq'],
      ['q', 'a.q\n\n'],
      ['q', 'b\na.q'],
      ['', 'a'],
    ] as const)
      expect([key, module, nOf(key, module)]).toEqual([key, module, 9])
  })

  it('uses keys as regular expressions first, then as names', () => {
    const config = createConfig({
      nFrequency: 9,
      nFrequencyPattern: { lm_head: 1, '[qk]_proj': 2, toString: 3 },
    })
    expect(nFrequencyOf(config, 'lm_head')).toBe(1)
    expect(nFrequencyOf(config, 'a.q_proj')).toBe(2)
    expect(nFrequencyOf(config, 'q_proj')).toBe(9)
    expect(nFrequencyOf(config, 'constructor')).toBe(9)
    expect(nFrequencyOf(config, 'toString')).toBe(3)
    expect(
      errorOf(() => nFrequencyOf(createConfig({ nFrequencyPattern: { '(': 1 } }), 'a')).details.option,
    ).toBe('n_frequency_pattern')
  })
})
