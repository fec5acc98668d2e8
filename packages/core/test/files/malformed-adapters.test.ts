/** Adapters whose files are well-formed but inconsistent. Each throws its documented error, which names file, tensor and expectation. */
import { describe, expect, it } from 'vitest'
import {
  type AdapterBytes,
  createAdapter,
  createConfig,
  entriesDigest,
  loadAdapter,
  readSafetensors,
  type SafetensorsFile,
  type Tensor,
  writeSafetensors,
} from '../../src/index.js'

const SHAPES = { 'a.query': [6, 4], 'a.value': [6, 4] } as const
const peft = createAdapter(createConfig({ nFrequency: 3, scaling: 1 }), SHAPES).toBytes()
const standalone = createAdapter(createConfig({ nFrequency: 3, scaling: 1 }), SHAPES, {
  entries: { sampler: 'bandpass', seed: 1, centerFrequency: 1, bandwidth: 200 },
}).toBytes()

const QUERY = 'base_model.model.a.query.fourierft_spectrum'
const SET = 'fourierft_entries.6x4-3'

type Edit = (file: { tensors: Map<string, Tensor>; metadata: Record<string, string> }) => void

function edited(files: AdapterBytes, edit: Edit, config?: Record<string, unknown>): AdapterBytes {
  const read: SafetensorsFile = readSafetensors(files.model, 'model')
  const file = { tensors: new Map(read.tensors), metadata: { ...read.metadata } }
  edit(file)
  const text = JSON.stringify({ ...JSON.parse(new TextDecoder().decode(files.config)), ...config })
  return { config: config ? new TextEncoder().encode(text) : files.config, model: writeSafetensors(file) }
}

const floats = (dtype: Tensor['dtype'], bytes: number[], shape = [3]): Tensor => ({
  dtype,
  shape,
  bytes: Uint8Array.from(bytes),
})

function words(...values: number[]): Tensor {
  const bytes = new Uint8Array(4 * values.length)
  const view = new DataView(bytes.buffer)
  for (const [i, value] of values.entries()) view.setUint32(4 * i, value, true)
  return { dtype: 'U32', shape: [2, values.length / 2], bytes }
}

/** Replaces the entries and their digest, so that another check fails. */
function withEntries(values: number[]): Edit {
  return ({ tensors, metadata }) => {
    const n = values.length / 2
    tensors.set(SET, words(...values))
    const digest = entriesDigest({
      n,
      rows: Uint32Array.from(values.slice(0, n)),
      columns: Uint32Array.from(values.slice(n)),
    })
    changeJson('fourierft.entries', (sets) => {
      sets['6x4-3'].sha256 = digest
    })({ tensors, metadata })
  }
}

/** A value of the metadata, with any change. */
type Json = Record<string, Record<string, unknown>> & Record<'6x4-3' | 'a.query', Record<string, unknown>>
function changeJson(key: string, change: (value: Json) => void): Edit {
  return ({ metadata }) => {
    const value = JSON.parse(metadata[key])
    change(value)
    metadata[key] = JSON.stringify(value)
  }
}

const nan = [0, 0, 192, 127]
const infinity = [0, 0, 128, 255]
const zero = [0, 0, 0, 0]

const cases: Record<string, [AdapterBytes, code: string, ...parts: string[]]> = {
  NaN: [
    edited(peft, ({ tensors }) => tensors.set(QUERY, floats('F32', [...zero, ...nan, ...zero]))),
    'NOT_FINITE',
    QUERY,
    'element 1',
  ],
  infinity: [
    edited(peft, ({ tensors }) => tensors.set(QUERY, floats('F32', [...zero, ...zero, ...infinity]))),
    'NOT_FINITE',
    QUERY,
    'element 2',
  ],
  'infinity in float16': [
    edited(peft, ({ tensors }) => tensors.set(QUERY, floats('F16', [0, 0x7c, 0, 0, 0, 0]))),
    'NOT_FINITE',
    QUERY,
    'element 0',
  ],
  'NaN in bfloat16': [
    edited(peft, ({ tensors }) => tensors.set(QUERY, floats('BF16', [0xc0, 0x7f, 0, 0, 0, 0]))),
    'NOT_FINITE',
    QUERY,
  ],
  'a double beyond float32': [
    edited(peft, ({ tensors }) =>
      tensors.set(QUERY, floats('F64', [...new Uint8Array(Float64Array.of(0, 1e39, 0).buffer)])),
    ),
    'NOT_FINITE',
    QUERY,
    'element 1',
    'float32',
  ],
  'coefficients that are integers': [
    edited(peft, ({ tensors }) => tensors.set(QUERY, floats('I32', [...zero, ...zero, ...zero]))),
    'UNSUPPORTED_DTYPE',
    QUERY,
    'I32',
  ],
  'too few coefficients': [
    edited(peft, ({ tensors }) => tensors.set(QUERY, floats('F32', zero, [1]))),
    'SHAPE_MISMATCH',
    QUERY,
    '[3]',
  ],
  'a matrix of coefficients': [
    edited(peft, ({ tensors }) => tensors.set(QUERY, floats('F32', [...zero, ...zero, ...zero], [3, 1]))),
    'SHAPE_MISMATCH',
    QUERY,
    '[3, 1]',
  ],
  'another n_frequency': [
    edited(peft, () => {}, { n_frequency: 4 }),
    'SHAPE_MISMATCH',
    'n_frequency 4',
    'adapter_model.safetensors',
  ],
  'another n_frequency_pattern': [
    edited(peft, () => {}, { n_frequency_pattern: { query: 2 } }),
    'SHAPE_MISMATCH',
    'n_frequency 2',
    QUERY,
  ],
  'patterns that take hours': [
    edited(
      peft,
      ({ tensors }) =>
        tensors.set(
          `base_model.model.${'m'.repeat(1e5)}.fourierft_spectrum`,
          floats('F32', [...zero, ...zero, ...zero]),
        ),
      {
        target_modules: '.*',
        n_frequency_pattern: Object.fromEntries(
          Array.from({ length: 10_000 }, (_, i) => [`(a*)*b${1e5 + i}`, 3]),
        ),
      },
    ),
    'INVALID_PATTERN',
    'n_frequency_pattern',
  ],
  'no coefficients that its configuration targets': [
    edited(peft, () => {}, { target_modules: ['key'] }),
    'INVALID_SAFETENSORS',
    '["key"]',
    QUERY,
  ],
  'a frequency that JSON cannot hold': [
    edited(standalone, ({ metadata }) => {
      const key = 'fourierft.entries'
      metadata[key] = metadata[key].replace('"center_frequency":1,', '"center_frequency":1e999,')
      expect(metadata[key]).toContain('1e999')
    }),
    'INVALID_SAFETENSORS',
    'center_frequency',
  ],
  LoRA: [
    edited(peft, () => {}, { peft_type: 'LORA' }),
    'UNSUPPORTED_PEFT_TYPE',
    'LORA',
    'adapter_config.json',
  ],
  'no peft_type': [
    edited(peft, () => {}, { peft_type: undefined }),
    'UNSUPPORTED_PEFT_TYPE',
    'adapter_config.json',
  ],
  'no coefficients': [
    edited(peft, ({ tensors, metadata }) => {
      tensors.clear()
      delete metadata['fourierft.version']
    }),
    'INVALID_SAFETENSORS',
    'fourierft_spectrum',
  ],
  'two tensors for a module': [
    edited(peft, ({ tensors }) =>
      tensors.set(`${QUERY}.default`, floats('F32', [...zero, ...zero, ...zero])),
    ),
    'INVALID_SAFETENSORS',
    'a.query',
  ],
  'a module named __proto__': [
    edited(peft, ({ tensors }) =>
      tensors.set(
        'base_model.model.__proto__.fourierft_spectrum',
        floats('F32', [...zero, ...zero, ...zero]),
      ),
    ),
    'INVALID_SAFETENSORS',
    '__proto__',
  ],
  'a later version': [
    edited(peft, ({ metadata }) => {
      metadata['fourierft.version'] = '2'
    }),
    'UNSUPPORTED_FORMAT_VERSION',
    '"2"',
  ],
  'a stand-alone file without its metadata': [
    edited(standalone, ({ metadata }) => {
      delete metadata['fourierft.version']
    }),
    'INVALID_SAFETENSORS',
    'FOURIERFT_STANDALONE',
  ],
  'layers that are not JSON': [
    edited(peft, ({ metadata }) => {
      metadata['fourierft.layers'] = '{'
    }),
    'INVALID_JSON',
    'fourierft.layers',
  ],
  'layers with __proto__': [
    edited(peft, ({ metadata }) => {
      metadata['fourierft.layers'] = '{"__proto__":{}}'
    }),
    'INVALID_JSON',
    'fourierft.layers',
  ],
  'no layers': [
    edited(peft, ({ metadata }) => {
      delete metadata['fourierft.layers']
    }),
    'INVALID_SAFETENSORS',
    'fourierft.layers',
  ],
  'a missing layer': [
    edited(
      peft,
      changeJson('fourierft.layers', (layers) => {
        delete (layers as Record<string, unknown>)['a.query']
      }),
    ),
    'INVALID_SAFETENSORS',
    'a.query',
  ],
  'an additional layer': [
    edited(
      peft,
      changeJson('fourierft.layers', (layers) => {
        layers['a.key'] = layers['a.query']
      }),
    ),
    'INVALID_SAFETENSORS',
    'a.key',
  ],
  'a shape of one number': [
    edited(
      peft,
      changeJson('fourierft.layers', (layers) => {
        layers['a.query'].shape = [24]
      }),
    ),
    'INVALID_SAFETENSORS',
    'fourierft.layers',
    'a.query.shape',
  ],
  'a shape too large for any memory': [
    edited(
      peft,
      changeJson('fourierft.layers', (layers) => {
        layers['a.query'].shape = [2 ** 31, 2 ** 31]
      }),
    ),
    'INVALID_SAFETENSORS',
    'a.query.shape',
  ],
  'two shapes for one set': [
    edited(
      peft,
      changeJson('fourierft.layers', (layers) => {
        layers['a.query'].shape = [4, 6]
      }),
    ),
    'SHAPE_MISMATCH',
    'a.value',
    '6x4-3',
  ],
  'a set that does not exist': [
    edited(
      peft,
      changeJson('fourierft.layers', (layers) => {
        layers['a.query'].entries = 'other'
      }),
    ),
    'INVALID_SAFETENSORS',
    'entry set',
  ],
  'a set that no layer uses': [
    edited(
      peft,
      changeJson('fourierft.entries', (sets) => {
        sets.other = sets['6x4-3']
      }),
    ),
    'INVALID_SAFETENSORS',
    'other',
  ],
  'an unknown sampler': [
    edited(
      peft,
      changeJson('fourierft.entries', (sets) => {
        sets['6x4-3'].sampler = 'gaussian'
      }),
    ),
    'INVALID_SAFETENSORS',
    'sampler',
  ],
  'a set of another size': [
    edited(
      peft,
      changeJson('fourierft.entries', (sets) => {
        sets['6x4-3'].n = 4
      }),
    ),
    'INVALID_SAFETENSORS',
    '4 coefficients',
  ],
  'more entries than positions': [
    edited(
      peft,
      changeJson('fourierft.layers', (layers) => {
        for (const layer of Object.values(layers)) layer.shape = [1, 2]
      }),
    ),
    'INVALID_ENTRY_COUNT',
    '[1, 2]',
    '2 positions',
  ],
  'a seed that PEFT does not draw with': [
    edited(
      peft,
      changeJson('fourierft.entries', (sets) => {
        sets['6x4-3'].seed = 5
      }),
    ),
    'INVALID_SAFETENSORS',
    'random_loc_seed 777',
    'seed 5',
  ],
  'a seed that was changed in the configuration': [
    edited(peft, () => {}, { random_loc_seed: 5 }),
    'INVALID_SAFETENSORS',
    'random_loc_seed 5',
  ],
  'entries that PEFT does not read': [
    edited(standalone, () => {}, { peft_type: 'FOURIERFT' }),
    'INVALID_SAFETENSORS',
    'bandpass',
  ],
  'stored entries, although PEFT draws them': [
    edited(peft, ({ tensors }) => tensors.set(SET, words(0, 1, 2, 0, 1, 2))),
    'INVALID_SAFETENSORS',
    SET,
  ],
  'a spectrum that takes minutes to draw': [
    edited(
      peft,
      changeJson('fourierft.layers', (layers) => {
        for (const layer of Object.values(layers)) layer.shape = [65536, 65536]
      }),
    ),
    'INVALID_SAFETENSORS',
    SET,
  ],
  'no entries': [edited(standalone, ({ tensors }) => tensors.delete(SET)), 'INVALID_SAFETENSORS', SET],
  'entries of a set that does not exist': [
    edited(standalone, ({ tensors }) => tensors.set('fourierft_entries.x', words(0, 0))),
    'INVALID_SAFETENSORS',
    'fourierft_entries.x',
  ],
  'other entries than those of the digest': [
    edited(standalone, ({ tensors }) => tensors.set(SET, words(0, 1, 2, 0, 1, 3))),
    'ENTRIES_DIGEST_MISMATCH',
    SET,
  ],
  'too many entries': [
    edited(standalone, ({ tensors }) => tensors.set(SET, words(0, 1, 2, 3, 0, 1, 2, 3))),
    'SHAPE_MISMATCH',
    SET,
    '[2, 3]',
  ],
  'entries of another dtype': [
    edited(standalone, ({ tensors }) => tensors.set(SET, { ...words(0, 1, 2, 0, 1, 2), dtype: 'I32' })),
    'UNSUPPORTED_DTYPE',
    SET,
  ],
  'an entry out of range': [
    edited(standalone, withEntries([0, 1, 6, 0, 1, 2])),
    'ENTRY_OUT_OF_RANGE',
    SET,
    'rows[2]',
  ],
  'a duplicate entry': [
    edited(standalone, withEntries([0, 1, 0, 2, 1, 2])),
    'DUPLICATE_ENTRY',
    SET,
    '(0, 2)',
  ],
}

describe('an adapter with', () => {
  it.each(Object.entries(cases))('%s', async (_, [files, code, ...parts]) => {
    const error = await loadAdapter(files).catch((reason) => reason)
    expect(error).toMatchObject({ name: 'FourierFTError', code })
    for (const part of parts) expect(error.message).toContain(part)
    expect(error.details.file ?? error.details.option).toBeDefined()
  })

  it('entries that differ from those of its seed throws when they are drawn', async () => {
    const wrong = edited(
      peft,
      changeJson('fourierft.entries', (sets) => {
        sets['6x4-3'].sha256 = '0'.repeat(64)
      }),
    )
    const adapter = await loadAdapter(wrong)
    expect(() => adapter.layers()).toThrow(expect.objectContaining({ code: 'ENTRIES_DIGEST_MISMATCH' }))
  })

  it('other shapes than the model', async () => {
    await expect(loadAdapter(peft, { shapes: { 'a.query': [4, 6] } })).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
    })
  })
})

it('the adapters before these edits load', async () => {
  expect((await loadAdapter(edited(peft, () => {}))).layers()).toHaveLength(2)
  expect(
    (await loadAdapter(edited(standalone, withEntries([0, 1, 5, 0, 1, 3])))).layer('a.query').entries.rows,
  ).toEqual(Uint32Array.of(0, 1, 5))
})
