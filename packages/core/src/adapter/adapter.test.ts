/** Tests adapters in memory: their layers, their copies and their files. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bandPassEntries } from '../entries/band-pass.js'
import type { Entries, Shape } from '../entries/entries.js'
import { explicitEntries } from '../entries/explicit.js'
import { makeEntries } from '../entries/make-entries.js'
import { uniformEntries } from '../entries/uniform.js'
import { readAdapter } from '../files/read-adapter.js'
import { decodeFloats, readSafetensors, writeSafetensors } from '../files/safetensors.js'
import type { WriteOptions } from '../files/write-adapter.js'
import type { Adapter } from './adapter.js'
import { createConfig, type FourierFTConfig, type FourierFTOptions, parseConfig } from './config.js'
import { createAdapter, type EntriesChoice } from './create-adapter.js'
import { matchModules } from './module-matcher.js'
import { readSavedModule } from './saved-module.js'

const SHAPES = { 'layers.0.query': [16, 12], 'layers.0.value': [8, 12], 'layers.1.query': [16, 12] } as const
const config = (options: FourierFTOptions = {}) => createConfig({ nFrequency: 10, ...options })
const errorWith = (code: string, part: string) =>
  expect.objectContaining({ name: 'FourierFTError', code, message: expect.stringContaining(part) })
const peftType = (adapter: Adapter, options?: WriteOptions) =>
  JSON.parse(new TextDecoder().decode(adapter.toBytes(options).config)).peft_type
const reread = (adapter: Adapter, options?: WriteOptions) => readAdapter(adapter.toBytes(options))

describe('createAdapter', () => {
  it('draws uniform entries with the seed of the configuration', () => {
    const adapter = createAdapter(config({ randomLocSeed: 5 }), SHAPES)
    for (const { name, shape, entries } of adapter.layers()) {
      expect(shape).toEqual(SHAPES[name as keyof typeof SHAPES])
      expect(entries).toEqual(uniformEntries({ shape, n: 10, seed: 5 }))
    }
  })

  it('shares entries between layers of one shape, and between adapters', () => {
    const [query, value, other] = createAdapter(config(), SHAPES).layers()
    expect(query?.entries).toBe(other?.entries)
    expect(query?.entries).not.toBe(value?.entries)
    expect(createAdapter(config(), SHAPES).layer('layers.0.query').entries).toBe(query?.entries)
  })

  it('accepts a recipe or a function of the shape for entries', () => {
    const recipe = { sampler: 'bandpass', seed: 1, centerFrequency: 3, bandwidth: 100 } as const
    const [banded] = createAdapter(config(), SHAPES, { entries: recipe }).layers()
    expect(banded?.entries).toEqual(bandPassEntries({ shape: [16, 12], n: 10, ...recipe }))
    const diagonal = (shape: Shape, n: number) => {
      const line = Array.from({ length: n }, (_, i) => i % Math.min(...shape))
      return explicitEntries({ shape, rows: line, columns: line })
    }
    const adapter = createAdapter(config({ nFrequency: 8 }), SHAPES, { entries: diagonal })
    expect([...adapter.layer('layers.0.value').entries.rows]).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
    expect(adapter.layer('layers.0.query').entries).toBe(adapter.layer('layers.1.query').entries)
  })

  it('accepts the modules that matchModules returns', () => {
    const names = Array.from({ length: 24 }, (_, i) => [`h.${i}.q`, `h.${i}.k.q`, `x.${i}.q`]).flat()
    const model = ['h.0.out', 'lm_head', 'score', ...names]
    const facts = { linear: model, outputLayer: null, modelType: 'bert' }
    const cases: [FourierFTOptions, typeof facts?][] = [
      [{ targetModules: 'all-linear', taskType: 'SEQ_CLS' }, facts],
      [{ targetModules: 'All-Linear' }, { ...facts, outputLayer: 'lm_head' } as never],
      // Twenty or more targets become endings if no other module of the model has these endings.
      [{ targetModules: names.filter((name) => /^h\.\d+\.q$/.test(name)), layersToTransform: [0] }],
      [{ targetModules: ['q'], layersToTransform: [3], layersPattern: 'h', excludeModules: '.*k.*' }],
    ]
    for (const [options, modelFacts] of cases) {
      const all = config(options)
      const matched = matchModules(all, model, modelFacts ?? {})
      expect(matched.length).toBeGreaterThan(0)
      const adapter = createAdapter(all, Object.fromEntries(matched.map((name) => [name, [4, 4]])))
      expect([...adapter.modules.keys()]).toEqual(matched)
      expect([...reread(adapter).modules.keys()].sort()).toEqual([...matched].sort())
    }
  })

  it('replaces all-linear by the names of the modules, because all-linear means other modules in another model', () => {
    const adapter = createAdapter(config({ targetModules: 'all-linear' }), SHAPES)
    expect(adapter.config.targetModules).toEqual(Object.keys(SHAPES))
  })

  it('contains the heads of its task, so that PEFT loads it', () => {
    const head = {
      shape: [3, 12],
      weight: new Float32Array(36).fill(0.5),
      bias: Float32Array.of(1, 2, 3),
    } as const
    const options = { taskType: 'SEQ_CLS', targetModules: ['query', 'value'] } as const
    const adapter = createAdapter(config(options), SHAPES, { savedModules: { classifier: head } })
    expect(adapter.config.modulesToSave).toEqual(['classifier', 'score'])
    const read = reread(adapter)
    expect([...read.savedTensors.keys()].sort()).toEqual([
      'base_model.model.classifier.bias',
      'base_model.model.classifier.weight',
    ])
    const { weight, bias } = readSavedModule(read, 'classifier', { shape: [3, 12], hasBias: true })
    expect([weight, bias]).toEqual([head.weight, head.bias])
    const layer = { shape: [2, 12], hasBias: true } as const
    expect(readSavedModule(read, 'classifier', { ...layer, hasFreeWidth: true }).weight).toEqual(head.weight)
    expect(() => readSavedModule(read, 'classifier', layer)).toThrow(
      errorWith('SHAPE_MISMATCH', 'this model cannot replace the layer by one of another size'),
    )
    expect(() =>
      readSavedModule(read, 'classifier', { ...layer, shape: [2, 11], hasFreeWidth: true }),
    ).toThrow(errorWith('SHAPE_MISMATCH', 'expected [3, 11]; received [3, 12]'))
    // The heads are also added to a configuration from a file.
    const text =
      '{"peft_type": "FOURIERFT", "n_frequency": 10, "task_type": "TOKEN_CLS", "target_modules": ["value"]}'
    const { 'layers.0.value': value } = SHAPES
    expect(createAdapter(parseConfig(text), { 'layers.0.value': value }).config.modulesToSave).toEqual([
      'classifier',
      'score',
    ])
  })

  it.each([
    [
      'MODULE_NOT_FOUND',
      'modulesToSave (classifier, score) does not name module pooler',
      { pooler: [3, 12, 36, 3] },
    ],
    ['SHAPE_MISMATCH', 'expected 36 numbers for its weight', { classifier: [3, 12, 35, 3] }],
    ['SHAPE_MISMATCH', 'expected 3 numbers for its bias', { classifier: [3, 12, 36, 2] }],
  ] as const)('rejects heads that do not fit: %s', (code, part, heads) => {
    const savedModules = Object.fromEntries(
      Object.entries(heads).map(([module, [out, inner, weight, bias]]) => [
        module,
        { shape: [out, inner], weight: new Float32Array(weight), bias: new Float32Array(bias) } as const,
      ]),
    )
    expect(() =>
      createAdapter(config({ taskType: 'SEQ_CLS', targetModules: ['query', 'value'] }), SHAPES, {
        savedModules,
      }),
    ).toThrow(errorWith(code, part))
  })

  it('starts with the coefficients that init_weights selects, reproducibly', () => {
    const zeros = createAdapter(config({ initWeights: true }), SHAPES)
    expect(zeros.layers().every(({ coefficients }) => coefficients.every((c) => c === 0))).toBe(true)
    const coefficients = (initialSeed?: number) =>
      createAdapter(config(), SHAPES, initialSeed === undefined ? {} : { initialSeed })
        .layers()
        .map((layer) => [...layer.coefficients])
    expect(coefficients()).toEqual(coefficients(0))
    expect(coefficients(1)).not.toEqual(coefficients(0))
    expect(new Set(coefficients().flat()).size).toBe(30)
  })

  it('adds the names of the modules to a configuration without target modules', () => {
    expect(createAdapter(config(), SHAPES).config.targetModules).toEqual(Object.keys(SHAPES))
    expect(createAdapter(config({ targetModules: ['query', 'value'] }), SHAPES).config.targetModules).toEqual(
      ['query', 'value'],
    )
  })

  it('follows n_frequency_pattern', () => {
    const adapter = createAdapter(config({ nFrequencyPattern: { '1.query': 4 } }), SHAPES)
    expect(adapter.layers().map(({ entries }) => entries.n)).toEqual([10, 10, 4])
  })

  const uniform = (shape: Shape, n: number): Entries => uniformEntries({ shape, n, seed: 1 })
  const invalid: [string, FourierFTConfig, Record<string, Shape>, object, string, string][] = [
    ['no modules', config(), {}, {}, 'INVALID_OPTION', 'shapes'],
    ['an empty name', config(), { '': [4, 4] }, {}, 'INVALID_OPTION', 'shapes'],
    [
      'the name __proto__',
      config(),
      Object.fromEntries([['__proto__', [4, 4] as const]]),
      {},
      'INVALID_OPTION',
      '__proto__',
    ],
    [
      'a module that the configuration does not target',
      config({ targetModules: ['key'] }),
      SHAPES,
      {},
      'MODULE_NOT_FOUND',
      'layers.0.query',
    ],
    ['an invalid shape', config(), { a: [0, 4] }, {}, 'INVALID_OPTION', 'shape'],
    ['too many coefficients for a spectrum', config(), { a: [3, 3] }, {}, 'INVALID_ENTRY_COUNT', '9'],
    ['an invalid seed', config(), SHAPES, { initialSeed: 0.5 }, 'INVALID_OPTION', 'initialSeed'],
    [
      'entries of another shape',
      config(),
      SHAPES,
      { entries: () => uniform([4, 4], 10) },
      'SHAPE_MISMATCH',
      'entries',
    ],
    [
      'entries of another number',
      config(),
      SHAPES,
      { entries: (s: Shape) => uniform(s, 9) },
      'SHAPE_MISMATCH',
      'entries',
    ],
  ]
  it.each(invalid)('rejects %s', (_, settings, shapes, options, code, part) => {
    expect(() => createAdapter(settings, shapes, options)).toThrow(errorWith(code, part))
  })
})

describe('Adapter', () => {
  const adapter = createAdapter(config(), SHAPES)

  it('names the nearest modules if it does not have the requested module', () => {
    expect(() => adapter.layer('layers.1.valu')).toThrow(
      errorWith(
        'MODULE_NOT_FOUND',
        'nearest of its 3 modules: layers.0.value, layers.1.query, layers.0.query',
      ),
    )
    const many = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`layers.${i}.key`, [4, 4] as const]))
    const larger = createAdapter(config(), { ...many, 'layers.9.value': [4, 4] })
    expect(() => larger.layer('layers.9.valeu')).toThrow(
      errorWith('MODULE_NOT_FOUND', 'of its 10 modules: layers.9.value,'),
    )
    expect(() => adapter.layer('toString')).toThrow(errorWith('MODULE_NOT_FOUND', 'toString'))
  })

  it('advises to leave the prefix of tensor names out of a module name', () => {
    const hint = 'layers.1.query, layers.0.query, layers.0.value; give the name without base_model.model.'
    expect(() => adapter.layer('base_model.model.layers.1.query')).toThrow(
      errorWith('MODULE_NOT_FOUND', hint),
    )
    const without = expect.objectContaining({ message: expect.not.stringContaining('without') })
    expect(() => adapter.layer('layers.1.other')).toThrow(without)
  })

  it('rejects a shape that differs from its own', () => {
    expect(() => adapter.layer('layers.0.query', [12, 16])).toThrow(errorWith('SHAPE_MISMATCH', '16, 12'))
    expect(() => adapter.layers({ 'layers.0.query': [12, 16] })).toThrow(
      errorWith('SHAPE_MISMATCH', '16, 12'),
    )
    expect(() => adapter.withShapes({ 'layers.0.query': [12, 16] })).toThrow(
      errorWith('SHAPE_MISMATCH', '16, 12'),
    )
    expect(adapter.layers({ 'layers.0.query': [16, 12], other: [1, 1] })).toEqual(adapter.layers())
  })

  it('changes coefficients only in a copy', () => {
    const values = Float64Array.from({ length: 10 }, (_, i) => i / 3)
    const changed = adapter.withCoefficients({ 'layers.0.value': values })
    const expected = Float32Array.from(values)
    values.fill(9)
    expect(changed.layer('layers.0.value').coefficients).toEqual(expected)
    expect(changed.layer('layers.0.query')).toEqual(adapter.layer('layers.0.query'))
    expect(adapter.layer('layers.0.value').coefficients).not.toEqual(expected)
    expect(reread(changed).layers()).toEqual(changed.layers())
  })

  it.each([
    [{ other: new Float32Array(10) }, 'MODULE_NOT_FOUND', 'other'],
    [{ 'layers.0.query': new Float32Array(9) }, 'SHAPE_MISMATCH', 'layers.0.query'],
    [{ 'layers.0.query': new Float32Array(10).fill(NaN, 4, 5) }, 'NOT_FINITE', 'coefficient 4'],
    [{ 'layers.0.query': new Float64Array(10).fill(1e39, 2, 3) }, 'NOT_FINITE', 'coefficient 2'],
  ])('rejects invalid coefficients: %#', (values, code, part) => {
    expect(() => adapter.withCoefficients(values)).toThrow(errorWith(code, part))
  })
})

describe('files', () => {
  const adapter = createAdapter(config({ randomLocSeed: 2n ** 60n + 1n }), SHAPES)
  const recipe = { sampler: 'bandpass', seed: 2n ** 61n + 1n, centerFrequency: 3.5, bandwidth: 100 } as const
  const banded = createAdapter(config(), SHAPES, { entries: recipe })

  it('have the form of PEFT if PEFT would draw the same entries', () => {
    expect(peftType(adapter)).toBe('FOURIERFT')
    expect([...readSafetensors(adapter.toBytes().model, 'f').tensors.keys()]).toEqual(
      Object.keys(SHAPES).map((name) => `base_model.model.${name}.fourierft_spectrum`),
    )
    expect(reread(adapter).layers()).toEqual(adapter.layers())
    const drawn = (entries: EntriesChoice) => createAdapter(config({ randomLocSeed: 4 }), SHAPES, { entries })
    expect(peftType(drawn({ sampler: 'uniform', seed: 4 }))).toBe('FOURIERFT')
  })

  it.each<[string, EntriesChoice, string]>([
    ['band-pass entries', recipe, 'bandpass'],
    ['another seed', { sampler: 'uniform', seed: 778 }, 'seed 778'],
    [
      'entries from the caller',
      (shape, n) => ({ ...uniformEntries({ shape, n, seed: 777 }), recipe: { sampler: 'explicit' } }),
      'explicit',
    ],
    [
      'entries that differ from their recipe',
      (shape, n) => ({
        ...uniformEntries({ shape, n, seed: 1 }),
        recipe: { sampler: 'uniform', seed: 777, n },
      }),
      'recipe',
    ],
  ])('have the stand-alone form for %s', (_, entries, reason) => {
    const other = createAdapter(config(), SHAPES, { entries })
    expect(peftType(other)).toBe('FOURIERFT_STANDALONE')
    expect(() => other.toBytes({ form: 'peft' })).toThrow(errorWith('NOT_REPRODUCIBLE', reason))
    const again = reread(other)
    expect(again.layers()).toEqual(other.layers())
    expect(again.toBytes()).toEqual(other.toBytes())
    expect(again.withCoefficients({}).toBytes()).toEqual(other.toBytes())
  })

  it('are encoded again, with the same numbers, if the adapter does not keep their bytes', () => {
    const written = createAdapter(config(), SHAPES).toBytes()
    const { tensors } = readSafetensors(written.model, 'model')
    // Another order and other metadata than those that this package writes.
    const foreign = writeSafetensors({ tensors: new Map([...tensors].reverse()), metadata: { format: 'pt' } })
    const adapter = readAdapter({ config: written.config, model: foreign })
    expect(adapter.toBytes().model).toEqual(foreign)
    const without = adapter.withoutFiles()
    expect(without.modules).toBe(adapter.modules)
    const again = readAdapter(without.toBytes())
    for (const [name, { coefficients }] of adapter.modules)
      expect(again.modules.get(name)?.coefficients).toEqual(coefficients)
  })

  it('contain the recipe with all digits of its seed', () => {
    const [module] = reread(banded).modules.values()
    expect(module?.recipe).toEqual({ ...recipe, n: 10 })
    expect(reread(adapter).config.randomLocSeed).toBe(2n ** 60n + 1n)
    expect(reread(adapter).modules.get('layers.0.query')?.recipe).toEqual({
      sampler: 'uniform',
      seed: 2n ** 60n + 1n,
      n: 10,
    })
    expect(makeEntries([16, 12], { ...recipe, n: 10 })).toEqual(banded.layer('layers.0.query').entries)
  })

  it('can change to the stand-alone form and back', () => {
    const standalone = reread(adapter, { form: 'standalone' })
    expect(standalone.config.peftType).toBe('FOURIERFT_STANDALONE')
    expect(standalone.toBytes({ form: 'peft' })).toEqual(adapter.toBytes())
    expect(standalone.layers()).toEqual(adapter.layers())
  })

  it('store the entries of large spectra, so that reading the files draws nothing', () => {
    // From 214748364 positions on, a draw visits every position, in PyTorch and in this package. 2^28 is more. The option `entries`
    // provides the entries, so this test draws nothing.
    const shape = [2 ** 14, 2 ** 14] as const
    const entries = {
      ...explicitEntries({ shape, rows: [1, 2], columns: [3, 4] }),
      recipe: { sampler: 'uniform', seed: 777, n: 2 },
    } as const
    const large = createAdapter(createConfig({ nFrequency: 2 }), { embed: shape }, { entries: () => entries })
    expect(peftType(large)).toBe('FOURIERFT')
    expect(reread(large).layer('embed').entries.rows).toEqual(Uint32Array.of(1, 2))
    const { tensors, metadata = {} } = readSafetensors(large.toBytes().model, 'f')
    const without = new Map([...tensors].filter(([name]) => !name.startsWith('fourierft_entries')))
    expect(() =>
      readAdapter({ ...large.toBytes(), model: writeSafetensors({ tensors: without, metadata }) }),
    ).toThrow(errorWith('INVALID_SAFETENSORS', 'fourierft_entries.16384x16384-2'))
  })

  it.each(['F32', 'F16', 'BF16', 'F64'] as const)(
    'contain coefficients as %s, rounded to nearest',
    (dtype) => {
      const written = adapter.toBytes({ dtype })
      const read = readAdapter(written)
      for (const [name, module] of read.modules) {
        expect(module.dtype).toBe(dtype)
        const original = adapter.layer(name).coefficients
        // Half a unit of the last place of a number below 4: 11 bits of precision in float16, 8 in bfloat16.
        const limit = { F32: 0, F64: 0, F16: 2 ** -10, BF16: 2 ** -7 }[dtype]
        for (const [l, c] of module.coefficients.entries())
          expect(Math.abs(c - original[l])).toBeLessThanOrEqual(limit)
      }
      expect(read.toBytes()).toEqual(written)
      // Writing again does not round again.
      expect(read.toBytes({ form: 'peft' })).toEqual(written)
    },
  )

  it('store trained coefficients as F32', () => {
    const half = reread(adapter, { dtype: 'F16' })
    const trained = half.withCoefficients({
      'layers.0.query': Float32Array.from({ length: 10 }, (_, i) => 1 + i * 2 ** -23),
    })
    expect([...reread(trained).modules.values()].map(({ dtype }) => dtype)).toEqual(['F32', 'F16', 'F16'])
  })

  it('are not written if a coefficient would become infinite', () => {
    const large = adapter.withCoefficients({ 'layers.0.query': new Float32Array(10).fill(65520, 3, 4) })
    expect(() => large.toBytes({ dtype: 'F16' })).toThrow(errorWith('NOT_FINITE', 'coefficient 3'))
    const fits = adapter.withCoefficients({ 'layers.0.query': new Float32Array(10).fill(65519, 3, 4) })
    expect(reread(fits, { dtype: 'F16' }).layer('layers.0.query').coefficients[3]).toBe(65504)
    const largest = Math.fround(3.4028234663852886e38)
    const huge = adapter.withCoefficients({ 'layers.0.query': new Float32Array(10).fill(largest) })
    expect(() => huge.toBytes({ dtype: 'BF16' })).toThrow(errorWith('NOT_FINITE', 'coefficient 0'))
  })

  it('keep the other metadata, in the form of PEFT', () => {
    const { tensors } = readSafetensors(adapter.toBytes().model, 'f')
    const coefficients = [...tensors].filter(([name]) => name.endsWith('fourierft_spectrum'))
    const model = writeSafetensors({
      tensors: new Map(coefficients),
      metadata: { format: 'pt', 'fourierft.base': 'x' },
    })
    const read = readAdapter({ ...adapter.toBytes(), model })
    expect(readAdapter(read.withShapes(SHAPES).toBytes({ form: 'peft' })).metadata).toMatchObject({
      format: 'pt',
      'fourierft.base': 'x',
    })
    // Without shapes, the file is the same as PEFT's own.
    expect(read.withCoefficients({}).toBytes({ form: 'peft' }).model).toEqual(model)
    expect(() => read.toBytes({ form: 'standalone' })).toThrow(errorWith('SHAPE_UNKNOWN', 'layers.0.query'))
  })

  it('contain all data of any adapter', () => {
    const name = fc.stringMatching(/^[a-z]{1,4}(\.[a-z0-9]{1,3}){0,3}$/)
    const shape = fc.tuple(fc.integer({ min: 3, max: 20 }), fc.integer({ min: 3, max: 20 }))
    const entries = fc.constantFrom<EntriesChoice | undefined>(undefined, recipe, {
      sampler: 'uniform',
      seed: -3,
    })
    fc.assert(
      fc.property(
        fc.dictionary(name, shape, { minKeys: 1, maxKeys: 5, noNullPrototype: true }),
        fc.integer({ min: 1, max: 9 }),
        fc.maxSafeInteger(),
        fc.constantFrom('F32', 'F16', 'BF16', 'F64'),
        entries,
        fc.boolean(),
        (shapes, nFrequency, randomLocSeed, dtype, choice, initWeights) => {
          // Band-pass entries never contain frequency zero.
          const positions = Math.min(...Object.values(shapes).map(([d1, d2]) => d1 * d2))
          fc.pre(choice !== recipe || nFrequency < positions)
          const created = createAdapter(
            createConfig({ nFrequency, randomLocSeed, initWeights }),
            shapes,
            choice ? { entries: choice } : {},
          )
          const files = created.toBytes({ dtype })
          const read = readAdapter(files)
          expect(read.toBytes()).toEqual(files)
          expect(read.layers(shapes)).toEqual(read.layers())
          for (const layer of created.layers()) {
            const again = read.layer(layer.name)
            expect({ ...again, coefficients: 0 }).toEqual({ ...layer, coefficients: 0 })
            if (dtype === 'F32' || dtype === 'F64') expect(again.coefficients).toEqual(layer.coefficients)
          }
          const stored = readSafetensors(files.model, 'f').tensors
          for (const [key, tensor] of stored)
            if (key.endsWith('spectrum')) expect(decodeFloats(tensor).length).toBe(nFrequency)
        },
      ),
    )
  })
})
