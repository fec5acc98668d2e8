/** New heads of adapters: which modules they have, in PEFT's names, and their weights. */
import {
  type Adapter,
  createAdapter,
  createConfig,
  decodeFloats,
  FourierFTError,
  type Shape,
} from '@fourierft/core'
import type { NamedLayer } from '@fourierft/onnxruntime/host'
import { describe, expect, test } from 'vitest'
import { withNewHead } from './new-head.js'

const QUERY = 'roberta.encoder.layer.0.attention.self.query'

function layer(shape: Shape, value?: number): NamedLayer {
  return {
    shape,
    isPacked: false,
    hasBias: true,
    outputs: [],
    async read() {
      if (value === undefined) throw new FourierFTError('UNSUPPORTED', 'the layer is quantised')
      const [out, inFeatures] = shape
      return {
        weight: new Float32Array(out * inFeatures).fill(value),
        bias: new Float32Array(out).fill(value),
      }
    },
  }
}

function adapterOf(shapes: Readonly<Record<string, Shape>> = { [QUERY]: [64, 64] }): Adapter {
  const config = createConfig({ targetModules: ['query', 'dense'], nFrequency: 5 })
  return createAdapter(config, shapes)
}

const floats = ({ savedTensors }: Adapter, tensor: string): Float32Array => {
  const stored = savedTensors.get(`base_model.model.${tensor}`)
  if (stored?.dtype !== 'F32') throw new Error(`no floats: ${tensor}`)
  return Float32Array.from(decodeFloats({ dtype: stored.dtype, bytes: stored.bytes }))
}

const tensorsOf = ({ savedTensors }: Adapter) =>
  Array.from(
    savedTensors,
    ([name, { shape }]) => `${name.replace('base_model.model.', '')} ${shape.join('x')}`,
  )

describe('withNewHead', () => {
  const roberta = {
    layers: new Map([
      [QUERY, layer([64, 64], 1)],
      ['classifier.dense', layer([64, 64], 3)],
      ['classifier.out_proj', layer([2, 64], 4)],
    ]),
    output: 'classifier.out_proj',
    missing: [],
  }

  test('makes normal weights of standard deviation 0.02 from the seed, and biases of zero', async () => {
    const labels = 50
    const [first, again, other] = (await Promise.all(
      [1, 1, 2].map((seed) => withNewHead(adapterOf(), roberta, { labels, seed })),
    )) as [Adapter, Adapter, Adapter]
    const weights = floats(first, 'classifier.out_proj.weight')
    expect(weights).toEqual(floats(again, 'classifier.out_proj.weight'))
    expect(weights).not.toEqual(floats(other, 'classifier.out_proj.weight'))
    const mean = weights.reduce((sum, value) => sum + value, 0) / weights.length
    const deviation = Math.sqrt(weights.reduce((sum, value) => sum + (value - mean) ** 2, 0) / weights.length)
    // Four standard errors of 3200 numbers: 4·0.02/√3200 and 4·0.02/√6400.
    expect(Math.abs(mean)).toBeLessThan(0.0015)
    expect(Math.abs(deviation - 0.02)).toBeLessThan(0.001)
    expect(floats(first, 'classifier.out_proj.bias')).toEqual(new Float32Array(labels))
  })

  test('saves only the layer of the logits, unless PEFT saves the module that contains it', async () => {
    const exact = await withNewHead(adapterOf(), roberta, { labels: 3, seed: 1 })
    expect(exact.config).toMatchObject({ taskType: null, modulesToSave: ['classifier.out_proj'] })
    expect(tensorsOf(exact)).toEqual(['classifier.out_proj.weight 3x64', 'classifier.out_proj.bias 3'])
    const whole = await withNewHead(adapterOf(), roberta, { labels: 3, seed: 1, taskType: 'SEQ_CLS' })
    expect(whole.config).toMatchObject({ taskType: 'SEQ_CLS', modulesToSave: ['classifier', 'score'] })
    expect(tensorsOf(whole).length).toBe(4)
    expect(floats(whole, 'classifier.dense.weight')).toEqual(new Float32Array(64 * 64).fill(3))
    // A layer that the adapter has trained already is kept, and the layer of the logits is made anew.
    const next = await withNewHead(whole, roberta, { labels: 5, seed: 2 })
    expect(next.savedTensors.get('base_model.model.classifier.dense.weight')).toBe(
      whole.savedTensors.get('base_model.model.classifier.dense.weight'),
    )
    expect(tensorsOf(next)).toContain('classifier.out_proj.weight 5x64')
  })

  test('makes new weights for a quantised layer that PEFT saves with the head', async () => {
    const layers = new Map(roberta.layers).set('classifier.dense', layer([64, 64]))
    const options = { labels: 3, seed: 1, taskType: 'SEQ_CLS' }
    const weights = floats(
      await withNewHead(adapterOf(), { ...roberta, layers }, options),
      'classifier.dense.weight',
    )
    expect(Math.max(...weights.map(Math.abs))).toBeLessThan(0.2)
    expect(new Set(weights).size).toBeGreaterThan(4000)
  })

  test('has all layers of a head that the file does not have, and adapts none of them', async () => {
    const bert = {
      layers: new Map([
        ['bert.pooler.dense', layer([64, 64], 0)],
        ['classifier', layer([1, 64], 0)],
      ]),
      output: 'classifier',
      missing: ['bert.pooler.dense', 'classifier'],
    }
    const old = adapterOf({ [QUERY]: [64, 64], 'bert.pooler.dense': [64, 64] })
    const headed = await withNewHead(old, bert, { labels: 4, seed: 1 })
    expect(headed.config.modulesToSave).toEqual(['bert.pooler.dense', 'classifier'])
    expect([...headed.modules.keys()]).toEqual([QUERY])
    expect(tensorsOf(headed)).toEqual([
      'bert.pooler.dense.weight 64x64',
      'bert.pooler.dense.bias 64',
      'classifier.weight 4x64',
      'classifier.bias 4',
    ])
    const missing = ['classifier.dense', 'classifier.out_proj']
    const nested = await withNewHead(adapterOf(), { ...roberta, missing }, { labels: 4, seed: 1 })
    expect(nested.config.modulesToSave).toEqual(['classifier'])
    expect(floats(nested, 'classifier.dense.weight')).not.toContain(3)
  })
})
