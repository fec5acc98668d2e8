/** Tensors that an adapter does not need: those that PEFT ignores, and weights of the base model that PEFT saves with the adapter. */
import { afterEach, describe, expect, it, vi } from 'vitest'
import {
  type AdapterBytes,
  createAdapter,
  createConfig,
  encodeFloats,
  type FourierFTOptions,
  loadAdapter,
  readSafetensors,
  serializeConfig,
  type Tensor,
  writeSafetensors,
} from '../../src/index.js'

const SHAPES = { 'model.0.query': [6, 4], 'model.1.query': [6, 4], lm_head: [5, 4] } as const

/** Files as PEFT writes them, without shapes and entries. */
function files(
  options: FourierFTOptions,
  extraTensors: Record<string, readonly number[]> = {},
  config: Record<string, unknown> = {},
): AdapterBytes {
  const all = createAdapter(createConfig({ nFrequency: 3 }), SHAPES).toBytes()
  const { tensors } = readSafetensors(all.model, 'model')
  const added = Object.entries(extraTensors).map(([name, shape]): [string, Tensor] => {
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(1)
    return [name, { dtype: 'F32', shape, bytes: encodeFloats(values, 'F32') }]
  })
  const text = { ...JSON.parse(serializeConfig(createConfig({ nFrequency: 3, ...options }))), ...config }
  return {
    config: new TextEncoder().encode(JSON.stringify(text)),
    model: writeSafetensors({ tensors: new Map([...tensors, ...added]) }),
  }
}

afterEach(() => {
  vi.restoreAllMocks()
})

async function load(bytes: AdapterBytes) {
  const lines: string[] = []
  const adapter = await loadAdapter(bytes, { onWarning: (line) => lines.push(line) })
  return { adapter, lines, modules: [...adapter.modules.keys()].sort() }
}

describe('coefficients that the configuration does not target', () => {
  const cases: [FourierFTOptions, string[]][] = [
    [{ targetModules: ['query'] }, ['model.0.query', 'model.1.query']],
    [{ targetModules: 'model.*' }, ['model.0.query', 'model.1.query']],
    [{ targetModules: ['query', 'lm_head'], excludeModules: ['1.query'] }, ['lm_head', 'model.0.query']],
    [{ targetModules: ['query', 'head'], layersToTransform: 0, layersPattern: 'model' }, ['model.0.query']],
    [{ targetModules: 'all-linear', modulesToSave: ['lm_head'] }, ['model.0.query', 'model.1.query']],
    [{ excludeModules: '.*query' }, ['lm_head']],
  ]
  it.each(cases)('%j', async (options, expected) => {
    const bytes = files(options)
    const { adapter, lines, modules } = await load(bytes)
    expect(modules).toEqual(expected)
    expect(adapter.ignoredTensors).toHaveLength(3 - expected.length)
    expect(lines).toHaveLength(1)
    expect(lines[0]).toContain('adapter_model.safetensors: ignored')
    for (const tensor of adapter.ignoredTensors) expect(lines[0]).toContain(tensor)
    expect(adapter.toBytes()).toEqual(bytes)
    // A new file contains only the modules that PEFT would have in memory.
    const again = await load(adapter.toBytes({ dtype: 'F32' }))
    expect(again.modules).toEqual(expected)
    expect(again.lines).toEqual([])
  })

  it('are reported once, on the console by default', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
    await loadAdapter(files({ targetModules: ['query'] }))
    expect(warn.mock.calls).toEqual([
      [expect.stringContaining('base_model.model.lm_head.fourierft_spectrum')],
    ])
    await loadAdapter(files({ targetModules: ['query', 'lm_head'] }))
    expect(warn).toHaveBeenCalledTimes(1)
  })

  it('are kept if a pattern cannot be run', async () => {
    const { modules, lines } = await load(files({}, {}, { target_modules: '(?<=x)?(model|lm).*' }))
    expect([modules.length, lines]).toEqual([3, []])
  })

  it('are recognised by look-aheads, also with long names', async () => {
    const long = `base_model.model.${'a'.repeat(300)}.fourierft_spectrum`
    const ahead = await load(files({}, { [long]: [3] }, { target_modules: '(?=model).*' }))
    expect(ahead.modules).toHaveLength(2)
    expect(ahead.adapter.ignoredTensors.toSorted()).toEqual([
      long,
      'base_model.model.lm_head.fourierft_spectrum',
    ])
  })
})

describe('a pattern of n_frequency_pattern that cannot be matched in linear time', () => {
  const config = { n_frequency_pattern: { '(q)uery(?<=y)': 7 } }
  it('is not needed if the tensors have n elements', async () => {
    const bytes = files({ targetModules: ['query', 'lm_head'] }, {}, config)
    const { adapter, modules } = await load(bytes)
    expect(modules).toHaveLength(3)
    expect(adapter.layer('lm_head', [5, 4]).coefficients).toHaveLength(3)
    expect(adapter.toBytes()).toEqual(bytes)
  })

  it('is rejected if n depends on it', () => {
    const all = createConfig({ targetModules: ['query'], nFrequencyPattern: config.n_frequency_pattern })
    expect(() => createAdapter(all, { 'a.query': [4, 4] })).toThrow(
      expect.objectContaining({ code: 'INVALID_PATTERN' }),
    )
  })

  it('can use the whole size limit, because patterns are compiled one after the other', async () => {
    const large = (name: string) => `(?:${name.repeat(1000)}){39}|.*`
    const { modules, lines } = await load(
      files(
        {},
        {},
        {
          target_modules: large('x'),
          exclude_modules: `${large('y')}nothing`,
          n_frequency_pattern: { [large('z')]: 3 },
        },
      ),
    )
    expect([modules.length, lines]).toEqual([3, []])
  })

  it('does not allow other shapes of coefficients', async () => {
    const extraTensors = { 'base_model.model.a.query.fourierft_spectrum': [1, 3] }
    await expect(load(files({ targetModules: ['query'] }, extraTensors, config))).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
    })
  })
})

it('a malformed pattern is rejected, as in PEFT', async () => {
  const malformed: [string, Record<string, unknown>][] = [
    ['n_frequency_pattern', { n_frequency_pattern: { '(query': 3 } }],
    ['target_modules', { target_modules: '(query' }],
    ['exclude_modules', { exclude_modules: '*' }],
  ]
  for (const [option, values] of malformed)
    await expect(load(files({ targetModules: ['query', 'lm_head'] }, {}, values))).rejects.toMatchObject({
      code: 'INVALID_PATTERN',
      details: { option },
    })
})

describe('weights of the base model', () => {
  it('saved by save_embedding_layers are not modules of the adapter', async () => {
    const extraTensors = {
      'base_model.model.model.embed_tokens.weight': [9, 4],
      'base_model.model.lm_head.base_layer.weight': [5, 4],
      'base_model.model.lm_head.base_layer.bias': [5],
    }
    const bytes = files({ targetModules: ['query', 'lm_head'] }, extraTensors)
    const { adapter, modules, lines } = await load(bytes)
    expect(modules).toEqual(['lm_head', 'model.0.query', 'model.1.query'])
    expect([...adapter.baseTensors.keys()].sort()).toEqual(Object.keys(extraTensors).sort())
    expect(adapter.savedTensors.size).toBe(0)
    expect(lines).toEqual([
      expect.stringContaining('treated as weights of the base model: base_model.model.'),
    ])
    expect(adapter.toBytes()).toEqual(bytes)
    const trained = adapter.withCoefficients({ lm_head: Float32Array.of(1, 2, 3) })
    expect([...readSafetensors(trained.toBytes().model, 'model').tensors.keys()]).toEqual(
      expect.arrayContaining(Object.keys(extraTensors)),
    )
  })

  it('do not include modules that are saved whole or trained biases', async () => {
    const extraTensors = {
      'base_model.model.score.weight': [2, 4],
      'base_model.model.model.0.query.base_layer.bias': [6],
    }
    const whole = await load(
      files({ targetModules: ['query', 'lm_head'], modulesToSave: ['score'] }, extraTensors),
    )
    expect([...whole.adapter.savedTensors.keys()]).toEqual(['base_model.model.score.weight'])
    expect(whole.adapter.baseTensors.size).toBe(1)
    const biases = await load(
      files({ targetModules: ['query', 'lm_head'], bias: 'all' }, extraTensors, { task_type: 'SEQ_CLS' }),
    )
    expect(biases.adapter.savedTensors.size).toBe(2)
    expect(biases.lines).toEqual([])
  })

  it('are recognised among many modules that are saved whole', async () => {
    const extraTensors = { 'base_model.model.score.weight': [2, 4], 'base_model.model.x.weight': [1] }
    const many = Array.from({ length: 15_000 }, (_, i) => `m${i}`)
    const options = { targetModules: ['query', 'lm_head'], modulesToSave: ['score', ...many] }
    const bytes = files(options, extraTensors)
    const { adapter } = await load(bytes)
    expect([...adapter.savedTensors.keys()]).toEqual(['base_model.model.score.weight'])
    const patterns = files({ ...options, modulesToSave: many.map((name) => `${name}.*`) })
    await expect(load(patterns)).rejects.toMatchObject({
      code: 'INVALID_PATTERN',
      details: { option: 'modules_to_save' },
    })
  })

  it('must belong to a module; other tensors are ignored', async () => {
    const { adapter, lines } = await load(files({ targetModules: ['query', 'lm_head'] }, { nonsense: [1] }))
    expect(adapter.ignoredTensors).toEqual(['nonsense'])
    expect(lines).toEqual([expect.stringContaining('nonsense')])
  })
})
