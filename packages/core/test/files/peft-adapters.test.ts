/** Adapters from PEFT: their coefficients, entries and bytes. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { type AdapterBytes, FourierFTError, loadAdapter, type Shape } from '../../src/index.js'

const ROOT = fileURLToPath(new URL('__fixtures__/peft', import.meta.url))

interface Expected {
  shape: Shape
  rows: number[]
  columns: number[]
  coefficients: number[]
  scaling: number
}

function filesOf(name: string): AdapterBytes {
  const read = (file: string) => new Uint8Array(readFileSync(join(ROOT, name, file)))
  return { config: read('adapter_config.json'), model: read('adapter_model.safetensors') }
}

function expectedOf(name: string): Record<string, Expected> {
  return JSON.parse(readFileSync(join(ROOT, name, 'expected.json'), 'utf8'))
}

describe.each(readdirSync(ROOT))('%s', (name) => {
  const expected = expectedOf(name)
  const shapes = Object.fromEntries(Object.entries(expected).map(([module, { shape }]) => [module, shape]))

  it('has PEFT’s modules, entries, coefficients and scaling', async () => {
    const adapter = await loadAdapter(join(ROOT, name))
    expect([...adapter.modules.keys()].sort()).toEqual(Object.keys(expected).sort())
    for (const layer of adapter.layers(shapes)) {
      expect({
        shape: layer.shape,
        rows: [...layer.entries.rows],
        columns: [...layer.entries.columns],
        coefficients: [...layer.coefficients],
        scaling: layer.scaling,
      }).toEqual(expected[layer.name])
    }
  })

  it('is written back byte for byte', async () => {
    const files = filesOf(name)
    expect((await loadAdapter(files)).toBytes()).toEqual(files)
    expect((await loadAdapter(files, { shapes })).toBytes()).toEqual(files)
  })

  it('throws SHAPE_UNKNOWN with the name of the module if shapes are missing', async () => {
    const adapter = await loadAdapter(filesOf(name))
    const [module] = adapter.modules.keys()
    expect(() => adapter.layers()).toThrow(
      expect.objectContaining({ code: 'SHAPE_UNKNOWN', message: expect.stringContaining(String(module)) }),
    )
  })

  it.each(['peft', 'standalone'] as const)(
    'keeps its shapes when it is written again as %s',
    async (form) => {
      const adapter = await loadAdapter(filesOf(name), { shapes })
      const files = adapter.toBytes({ form })
      const again = await loadAdapter(files)
      expect(again.layers()).toEqual(adapter.layers())
      expect(again.savedTensors).toEqual(adapter.savedTensors)
      expect(again.toBytes()).toEqual(files)
      expect(JSON.parse(new TextDecoder().decode(files.config)).peft_type).toBe(
        form === 'peft' ? 'FOURIERFT' : 'FOURIERFT_STANDALONE',
      )
    },
  )
})

it('reads coefficients whose tensor name ends with the name of the adapter', async () => {
  const { config, model } = filesOf('zeros')
  const fileText = new TextDecoder('latin1').decode(model)
  const renamed = fileText.replaceAll('fourierft_spectrum"', 'fourierft_spectrum.default"').replace(/ +/g, '')
  const text = renamed.slice(8, renamed.indexOf('}}') + 2)
  const data = model.subarray(8 + Number(new DataView(model.buffer).getBigUint64(0, true)))
  const bytes = new Uint8Array(8 + text.length + data.length)
  new DataView(bytes.buffer).setUint32(0, text.length, true)
  bytes.set(new TextEncoder().encode(text), 8)
  bytes.set(data, 8 + text.length)
  const adapter = await loadAdapter({ config, model: bytes })
  expect([...adapter.modules.keys()]).toEqual(Object.keys(expectedOf('zeros')))
})

it('keeps modules that are saved whole, and biases', async () => {
  const adapter = await loadAdapter(filesOf('whole-modules'))
  expect(adapter.savedTensors.get('base_model.model.classifier.weight')?.shape).toEqual([3, 8])
  expect(adapter.savedTensors.get('base_model.model.layers.0.query.base_layer.bias')?.shape).toEqual([16])
})

it('rejects adapters of other methods', async () => {
  const { config, model } = filesOf('plain')
  const lora = new TextEncoder().encode(new TextDecoder().decode(config).replace('FOURIERFT', 'LORA'))
  await expect(loadAdapter({ config: lora, model })).rejects.toMatchObject({ code: 'UNSUPPORTED_PEFT_TYPE' })
  await expect(loadAdapter({ config: lora, model })).rejects.toBeInstanceOf(FourierFTError)
})
