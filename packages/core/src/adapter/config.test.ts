import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FourierFTError } from '../errors.js'
import {
  createConfig,
  type FourierFTOptions,
  parseConfig,
  STANDALONE_PEFT_TYPE,
  serializeConfig,
} from './config.js'
import { pythonFloat } from './python-json.js'

/** Written by PEFT: see test/matching/make-configs.py. */
const fixture: {
  refusals: Record<string, string>
  floats: string[]
  configs: Record<string, string>
} = JSON.parse(
  readFileSync(new URL('../../test/matching/__fixtures__/peft-configs.json', import.meta.url), 'utf8'),
)

const FILE = 'adapter_config.json'
const peft = (name: string): string => fixture.configs[name] ?? ''
const withKeys = (keys: string): string => `{"peft_type":"FOURIERFT",${keys}}`

function errorOf(run: () => unknown): FourierFTError {
  try {
    run()
  } catch (error) {
    if (FourierFTError.isInstance(error)) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('the heads of a task', () => {
  it.each([
    ['SEQ_CLS', undefined, ['classifier', 'score']],
    ['TOKEN_CLS', ['norm', 'score'], ['norm', 'score', 'classifier']],
    ['QUESTION_ANS', null, ['qa_outputs']],
    ['CAUSAL_LM', undefined, null],
    [null, ['classifier'], ['classifier']],
  ])('%s adds them to %j: %j', (taskType, modulesToSave, expected) => {
    const config = createConfig({ taskType, ...(modulesToSave !== undefined && { modulesToSave }) })
    expect(config.modulesToSave).toEqual(expected)
    expect(JSON.parse(serializeConfig(config)).modules_to_save).toEqual(expected)
  })

  it('are not added to the text of a file', () => {
    const text = withKeys('"task_type":"SEQ_CLS"')
    expect(serializeConfig(parseConfig(text, FILE))).toBe(text)
  })
})

describe('files that PEFT wrote', () => {
  it.each(Object.entries(fixture.configs))('%s: is written back byte for byte', (_, text) => {
    const config = parseConfig(text, FILE)
    expect(serializeConfig(config)).toBe(text)
    expect(serializeConfig(parseConfig(new TextEncoder().encode(text), FILE))).toBe(text)
    expect(serializeConfig({ ...config })).toBe(text)
  })

  it.each(Object.entries(fixture.configs))(
    '%s: is written the same from its fields, without the text of the file',
    (name, text) => {
      const { source: _, ...config } = parseConfig(text, FILE)
      // The fields do not keep an integer scaling or a null pattern.
      const expected = text
        .replace('"scaling": 300,', '"scaling": 300.0,')
        .replace('"n_frequency_pattern": null', '"n_frequency_pattern": {}')
      expect(serializeConfig(config)).toBe(expected)
      expect(expected === text).toBe(name !== 'integer scaling' && name !== 'null pattern')
    },
  )

  it('have the defaults of createConfig', () => {
    const { source: _, peftVersion, ...defaults } = parseConfig(peft('defaults'), FILE)
    const { peftVersion: createdVersion, ...created } = createConfig()
    expect(peftVersion).toBe('0.21.0')
    expect(createdVersion).toBeNull()
    expect(created).toEqual({ ...defaults, extra: new Map() })
    expect(parseConfig('{"peft_type":"FOURIERFT"}', FILE)).toMatchObject(created)
  })

  it('cannot have the peft_type of a stand-alone adapter, which PEFT rejects', () => {
    expect(Object.values(fixture.refusals)).toEqual(Array(2).fill(`KeyError: '${STANDALONE_PEFT_TYPE}'`))
  })
})

describe('parseConfig', () => {
  it('keeps every digit of a seed', () => {
    expect(parseConfig(peft('seed 64 bits'), FILE).randomLocSeed).toBe(2n ** 64n - 1n)
    expect(parseConfig(peft('seed beyond 2^53'), FILE).randomLocSeed).toBe(2n ** 53n + 1n)
    expect(parseConfig(peft('negative seed'), FILE).randomLocSeed).toBe(-(2n ** 63n))
    expect(parseConfig(peft('bert'), FILE).randomLocSeed).toBe(2024)
  })

  it('keeps the order of a pattern, whatever its keys', () => {
    expect([
      ...parseConfig(withKeys('"n_frequency_pattern":{"b":1,"10":2,"7":3,"constructor":4}'), FILE)
        .nFrequencyPattern,
    ]).toEqual([
      ['b', 1],
      ['10', 2],
      ['7', 3],
      ['constructor', 4],
    ])
  })

  it('keeps the text of unknown keys', () => {
    const text = withKeys('"new":{"a":1.0,"b":12345678901234567890},"toString":1e2')
    const config = parseConfig(text, FILE)
    expect(serializeConfig(config)).toBe(text)
    const changed = serializeConfig({ ...config, scaling: 2 })
    expect(changed).toContain('"new": {"a":1.0,"b":12345678901234567890}')
    expect(changed).toContain('"toString": 1e2')
    expect(changed).toContain('"scaling": 2.0')
    expect(parseConfig(changed, FILE)).toMatchObject({
      scaling: 2,
      extra: new Map([['auto_mapping', 'null'], ...config.extra]),
    })
  })

  it('accepts values that PEFT accepts', () => {
    expect(
      parseConfig(
        withKeys('"scaling":300,"n_frequency_pattern":null,"target_modules":null,"fan_in_fan_out":0'),
        FILE,
      ),
    ).toMatchObject({
      scaling: 300,
      nFrequencyPattern: new Map(),
      targetModules: null,
      fanInFanOut: false,
    })
    expect(parseConfig(withKeys('"bias":"lora_only","inference_mode":null'), FILE).bias).toBe('lora_only')
    expect(parseConfig(`{"peft_type":"${STANDALONE_PEFT_TYPE}"}`, FILE).peftType).toBe(STANDALONE_PEFT_TYPE)
  })

  it.each([
    ['"n_frequency":0', 'n_frequency', 'at least 1', '0'],
    ['"n_frequency":1.5', 'n_frequency', 'integer', '1.5'],
    ['"n_frequency":"7"', 'n_frequency', 'integer', '"7"'],
    ['"n_frequency":null', 'n_frequency', 'integer', 'null'],
    ['"scaling":1e400', 'scaling', 'finite', 'Infinity'],
    ['"scaling":"1"', 'scaling', 'finite', '"1"'],
    ['"random_loc_seed":18446744073709551616', 'random_loc_seed', '2^64', '18446744073709551616'],
    ['"random_loc_seed":-9223372036854775809', 'random_loc_seed', '-2^63', '-9223372036854775809'],
    ['"random_loc_seed":null', 'random_loc_seed', '2^64', 'null'],
    ['"random_loc_seed":1.5', 'random_loc_seed', '2^64', '1.5'],
    ['"target_modules":["q",1]', 'target_modules', 'list of strings', '["q",1]'],
    ['"target_modules":{"q":1}', 'target_modules', 'list of strings', '{"q":1}'],
    ['"modules_to_save":"classifier"', 'modules_to_save', 'list', '"classifier"'],
    ['"layers_to_transform":[0,"1"]', 'layers_to_transform', 'integer', '[0,"1"]'],
    ['"layers_to_transform":[0,1.5]', 'layers_to_transform', 'list of integers', '[0,1.5]'],
    ['"n_frequency_pattern":["a"]', 'n_frequency_pattern', 'object', '["a"]'],
    ['"n_frequency_pattern":{"a":0}', 'n_frequency_pattern', 'at "a"', '0'],
    ['"n_frequency_pattern":{"a":[1]}', 'n_frequency_pattern', 'at "a"', '[1]'],
    ['"fan_in_fan_out":"false"', 'fan_in_fan_out', 'true or false', '"false"'],
    ['"bias":"some"', 'bias', 'fourierft_only', '"some"'],
    ['"task_type":3', 'task_type', 'string or null', '3'],
    [
      '"target_modules":"q","layers_to_transform":[]',
      'layers_to_transform',
      'target_modules is a string',
      '[]',
    ],
    ['"target_modules":"q","layers_pattern":[]', 'layers_pattern', 'target_modules is a string', '[]'],
    ['"target_modules":["q"],"layers_pattern":"h"', 'layers_to_transform', 'layers_pattern is given', 'null'],
  ])('rejects %s', (keys, option, expected, received) => {
    const error = errorOf(() => parseConfig(withKeys(keys), 'some/adapter_config.json'))
    expect(error.code).toBe('INVALID_CONFIG')
    expect(error.details).toMatchObject({ file: 'some/adapter_config.json', option })
    expect(error.message).toContain(`some/adapter_config.json: ${option}`)
    expect(error.message).toContain(expected)
    expect(error.message.endsWith(`; received ${received}`)).toBe(true)
  })

  it('names the peft_type of an adapter of another method', () => {
    const error = errorOf(() => parseConfig('{"peft_type":"LORA"}', FILE))
    expect(error.code).toBe('UNSUPPORTED_PEFT_TYPE')
    expect(error.message).toContain('"LORA"')
    expect(errorOf(() => parseConfig('{}', FILE)).code).toBe('UNSUPPORTED_PEFT_TYPE')
    expect(errorOf(() => parseConfig('[]', FILE)).code).toBe('INVALID_CONFIG')
    expect(errorOf(() => parseConfig('{"peft_type":"FOURIERFT","peft_type":"LORA"}', FILE)).code).toBe(
      'INVALID_JSON',
    )
    expect(errorOf(() => parseConfig(withKeys('"__proto__":{"bias":"all"}'), FILE)).code).toBe('INVALID_JSON')
  })
})

describe('createConfig', () => {
  it('names the invalid option', () => {
    expect(errorOf(() => createConfig({ nFrequency: 0 }))).toMatchObject({
      code: 'INVALID_OPTION',
      message: 'nFrequency: expected an integer of at least 1; received 0',
      details: { option: 'nFrequency', received: 0 },
    })
    expect(errorOf(() => createConfig({ taskType: 'CAUSAL' })).message).toContain('CAUSAL_LM')
    const misspelt = { nFrequencies: 5 } as FourierFTOptions
    expect(errorOf(() => createConfig(misspelt))).toMatchObject({
      code: 'INVALID_OPTION',
      details: { option: 'nFrequencies' },
    })
    expect(errorOf(() => createConfig({ layersPattern: 'h' })).details.option).toBe('layersToTransform')
    expect(errorOf(() => createConfig({ randomLocSeed: 2 ** 53 })).details.option).toBe('randomLocSeed')
  })

  it('accepts a configuration from a file', () => {
    const { source: _, ...read } = parseConfig(peft('pattern'), FILE)
    expect(createConfig(parseConfig(peft('pattern'), FILE))).toEqual(read)
  })

  it('accepts a pattern as an object', () => {
    expect(createConfig({ nFrequencyPattern: { constructor: 3 } }).nFrequencyPattern).toEqual(
      new Map([['constructor', 3]]),
    )
  })

  it('sorts a new pattern as in a file, and keeps the order of a pattern from a file', () => {
    const config = createConfig({
      nFrequencyPattern: new Map([
        ['q', 1],
        ['layer.*', 2],
        ['\u{1f600}', 3],
        ['\uffff', 4],
      ]),
    })
    expect([...config.nFrequencyPattern.values()]).toEqual([2, 1, 4, 3])
    const text = withKeys('"n_frequency_pattern":{"q":1,"layer.*":2}')
    const read = parseConfig(serializeConfig({ ...parseConfig(text, FILE), scaling: 1 }), FILE)
    expect([...read.nFrequencyPattern.values()]).toEqual([1, 2])
  })

  it('writes and reads any values', () => {
    const string = fc.string({ unit: 'binary' })
    const names = fc.option(fc.oneof(string, fc.array(string)))
    const options: fc.Arbitrary<FourierFTOptions> = fc.record(
      {
        nFrequency: fc.integer({ min: 1 }),
        scaling: fc.double({ noNaN: true, noDefaultInfinity: true }),
        randomLocSeed: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
        targetModules: names,
        excludeModules: names,
        nFrequencyPattern: fc.array(fc.tuple(string, fc.integer({ min: 1 }))).map((pairs) => new Map(pairs)),
        modulesToSave: fc.option(fc.array(string)),
        initWeights: fc.boolean(),
        baseModelNameOrPath: fc.option(string),
      },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(options, (values) => {
        fc.pre(
          !values.nFrequencyPattern || !(values.nFrequencyPattern as Map<string, number>).has('__proto__'),
        )
        const config = createConfig(values)
        const text = serializeConfig(config)
        expect(text).toMatch(/^[\n -~]*$/)
        const read = parseConfig(text, FILE)
        expect(read.scaling).toBe(config.scaling)
        expect(BigInt(read.randomLocSeed)).toBe(BigInt(config.randomLocSeed))
        expect(read.targetModules).toEqual(config.targetModules)
        expect(read.nFrequencyPattern).toEqual(config.nFrequencyPattern)
        expect(serializeConfig({ ...read, source: undefined } as never)).toBe(text)
      }),
    )
  })
})

describe('pythonFloat', () => {
  it.each(fixture.floats)('%s', (repr) => {
    expect(pythonFloat(Number(repr))).toBe(repr)
  })
})
