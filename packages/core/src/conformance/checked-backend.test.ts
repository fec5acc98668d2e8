/** Tests which checks the wrapper makes, and which it leaves to the runtime. Level 8 of the conformance suite tests the error codes. */
import { describe, expect, it } from 'vitest'
import { createLayer, type Layer } from '../adapter/layer.js'
import { explicitEntries } from '../entries/explicit.js'
import {
  type BackendFunctions,
  type BaseLayer,
  checkedBackend,
  type LinearFunctions,
} from './checked-backend.js'

const layer = createLayer({
  name: 'layer',
  shape: [2, 3],
  entries: explicitEntries({ shape: [2, 3], rows: [0], columns: [1] }),
  coefficients: Float32Array.of(5),
  scaling: 1,
})
const weight = new Float32Array(6)
const x = new Float32Array(6)

/** A backend that records the calls that reach it. */
function recording(functions: Partial<BackendFunctions> = {}) {
  const calls: [name: string, ...values: unknown[]][] = []
  const linear: LinearFunctions = {
    forward: (_, options) => {
      calls.push(['forward', options])
      return new Float32Array(4)
    },
    backward: () => ({ coefficients: [], x }),
    setCoefficients: (layers) => void calls.push(['setCoefficients', layers]),
    disable: () => void calls.push(['disable']),
    enable: () => void calls.push(['enable']),
    merge: () => void calls.push(['merge']),
    unmerge: () => void calls.push(['unmerge']),
    weight: () => weight,
    dispose: () => void calls.push(['dispose']),
  }
  const backend = checkedBackend({
    name: 'recording',
    device: 'cpu',
    versions: {},
    strategies: ['merge', 'dense'],
    delta: () => weight,
    linear: (...call) => {
      calls.push(['linear', ...call])
      return linear
    },
    dispose: () => void calls.push(['dispose the backend']),
    ...functions,
  })
  return { backend, calls, open: () => backend.linear(weight, null, [layer]) }
}

const errorWithCode = (code: string) => expect.objectContaining({ code })

describe('checkedBackend', () => {
  it('passes the number of tokens and the default strategy to the functions', async () => {
    const { calls, open } = recording()
    const linear = await open()
    calls.length = 0
    await linear.forward(x)
    const rows = Int32Array.of(0, -1)
    await linear.forward(x, { strategy: 'dense', rows })
    expect(calls).toEqual([
      ['forward', { tokens: 2, strategy: 'auto' }],
      ['forward', { tokens: 2, strategy: 'dense', rows }],
    ])
  })

  it('passes copies of the weight, the bias and the coefficients', async () => {
    const bias = new Float32Array(2)
    const coefficients = Float32Array.of(5)
    const { backend, calls } = recording()
    const linear = await backend.linear(weight, bias, [{ ...layer, coefficients }])
    const [[, base, layers]] = calls as [[string, BaseLayer, readonly Layer[]]]
    expect(base).toEqual({ weight, bias, shape: [2, 3] })
    expect(base.weight).not.toBe(weight)
    expect(base.bias).not.toBe(bias)
    expect(layers).toEqual([layer])
    expect(layers[0]?.coefficients).not.toBe(coefficients)
    await linear.setCoefficients([coefficients])
    const [, changed] = calls.at(-1) as [string, readonly Layer[]]
    expect(changed).toEqual([layer])
    expect(changed[0]?.coefficients).not.toBe(coefficients)
  })

  it('rejects an invalid call before it reaches the functions, and separates the problem from the advice', async () => {
    const { calls, open } = recording()
    const linear = await open()
    calls.length = 0
    await expect(linear.forward(x.slice(1))).rejects.toThrow(errorWithCode('SHAPE_MISMATCH'))
    await expect(linear.forward(x, { strategy: 'spectral' })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      details: { option: 'strategy', expected: ['auto', 'dense'], received: 'spectral' },
    })
    await expect(linear.forward(x, { rows: Int32Array.of(0, 1) })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      details: { option: 'rows', received: 1 },
    })
    await expect(linear.unmerge()).rejects.toMatchObject({
      code: 'INVALID_STATE',
      problem: 'the layer is not merged',
      advice: 'call merge() first',
    })
    await linear.merge()
    await expect(linear.merge()).rejects.toThrow(errorWithCode('INVALID_STATE'))
    await expect(linear.forward(x, { rows: Int32Array.of(0, 0) })).rejects.toThrow(
      errorWithCode('INVALID_STATE'),
    )
    await expect(linear.setCoefficients([Float32Array.of(1)])).rejects.toThrow(errorWithCode('INVALID_STATE'))
    expect(calls).toEqual([['merge']])
  })

  it('omits the checks that the runtime makes', async () => {
    const { calls, open } = recording({ runtimeChecks: ['strategy', 'merged'] })
    const linear = await open()
    calls.length = 0
    await linear.forward(x, { strategy: 'spectral' })
    await linear.merge()
    await linear.merge()
    await linear.forward(x, { rows: Int32Array.of(0, 0) })
    expect(calls.map(([name]) => name)).toEqual(['forward', 'merge', 'merge', 'forward'])
  })

  it('rejects merge if the backend does not offer it', async () => {
    const { calls, open } = recording({ strategies: ['dense'] })
    const linear = await open()
    calls.length = 0
    await expect(linear.merge()).rejects.toThrow(errorWithCode('UNSUPPORTED'))
    await expect(linear.unmerge()).rejects.toThrow(errorWithCode('UNSUPPORTED'))
    expect(calls).toEqual([])
  })

  it('disposes each layer once, and the backend last', async () => {
    const { backend, calls, open } = recording()
    const first = await open()
    await open()
    await first.dispose()
    await expect(first.dispose()).rejects.toThrow(errorWithCode('INVALID_STATE'))
    await backend.dispose?.()
    expect(calls.map(([name]) => name)).toEqual([
      'linear',
      'linear',
      'dispose',
      'dispose',
      'dispose the backend',
    ])
  })
})
