/** Names that every JavaScript object has, as names of modules, tensors and entry sets: they work like other names. */
import { expect, it } from 'vitest'
import {
  type AdapterBytes,
  createAdapter,
  createConfig,
  explicitEntries,
  FourierFTError,
  loadAdapter,
  matchModules,
  nearestNames,
  readSafetensors,
  type Shapes,
  writeSafetensors,
} from '../../src/index.js'

const NAMES = [
  'constructor',
  'toString',
  'valueOf',
  'hasOwnProperty',
  'a.constructor',
  'then',
  'isPrototypeOf',
  'get',
]
const shapes: Shapes = Object.fromEntries(NAMES.map((name) => [name, [6, 4]]))

it('work as names of modules in all functions and files', async () => {
  const config = createConfig({
    nFrequency: 3,
    nFrequencyPattern: { constructor: 2, toString: 1 },
    targetModules: NAMES,
  })
  const adapters = [
    createAdapter(config, shapes),
    createAdapter(config, shapes, {
      entries: (shape, n) =>
        explicitEntries({ shape, rows: [0, 1, 2].slice(0, n), columns: [0, 1, 2].slice(0, n) }),
    }),
  ]
  for (const adapter of adapters) {
    const loaded = await loadAdapter(adapter.toBytes())
    expect([...loaded.modules.keys()].sort()).toEqual([...NAMES].sort())
    expect(loaded.layers(shapes)).toHaveLength(NAMES.length)
    expect(loaded.layer('a.constructor', [6, 4]).coefficients).toHaveLength(2)
    expect(
      loaded.withCoefficients({ constructor: new Float32Array(2) }).layer('constructor').coefficients[0],
    ).toBe(0)
    expect(() => loaded.layer('__proto__')).toThrow(FourierFTError)
  }
  expect(matchModules(config, ['x', ...NAMES])).toEqual(NAMES)
  expect(nearestNames(['constructo'], NAMES)[0]).toBe('constructor')
})

it('are not found among missing shapes', async () => {
  const { config, model } = createAdapter(
    createConfig({ nFrequency: 3 }),
    Object.fromEntries([['toString', [6, 4] as const]]),
  ).toBytes()
  const bare: AdapterBytes = {
    config,
    model: writeSafetensors({ tensors: readSafetensors(model, 'model').tensors }),
  }
  const adapter = await loadAdapter(bare, { shapes: {} })
  expect(() => adapter.layer('toString')).toThrow(expect.objectContaining({ code: 'SHAPE_UNKNOWN' }))
})

it('__proto__ is rejected', async () => {
  const bytes = createAdapter(createConfig({ nFrequency: 3 }), { __pro__: [6, 4] }).toBytes()
  const rename = (text: Uint8Array) =>
    new Uint8Array(
      Buffer.from(Buffer.from(text).toString('latin1').replaceAll('__pro__', '__proto__'), 'latin1'),
    )
  const { tensors, metadata = {} } = readSafetensors(bytes.model, 'model')
  const renamed = new Map(
    Array.from(tensors, ([name, tensor]) => [name.replace('__pro__', '__proto__'), tensor]),
  )
  const model = writeSafetensors({ tensors: renamed, metadata })
  await expect(loadAdapter({ config: rename(bytes.config), model })).rejects.toBeInstanceOf(FourierFTError)
  expect(() => createAdapter(createConfig(), Object.fromEntries([['__proto__', [6, 4] as const]]))).toThrow(
    FourierFTError,
  )
})
