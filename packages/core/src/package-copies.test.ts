/** A program can load two copies of this package. Each copy recognises the errors and adapters of the other. */
import { describe, expect, it, vi } from 'vitest'
import { Adapter, createAdapter, createConfig, FourierFTError } from './index.js'

vi.resetModules()
const other = await import('./index.js')

describe('two copies of the package', () => {
  it('have different classes', () => {
    expect(other.FourierFTError).not.toBe(FourierFTError)
    expect(other.Adapter).not.toBe(Adapter)
  })

  it('recognise each other’s errors', () => {
    const error = new other.FourierFTError('INVALID_OPTION', 'n: expected a number', { advice: 'give one' })
    expect(error).not.toBeInstanceOf(FourierFTError)
    expect(FourierFTError.isInstance(error)).toBe(true)
  })

  it('recognise each other’s adapters', () => {
    const config = other.createConfig({ nFrequency: 3, targetModules: ['query'] })
    const adapter = other.createAdapter(config, { query: [4, 5] })
    expect(adapter).not.toBeInstanceOf(Adapter)
    expect(Adapter.isInstance(adapter)).toBe(true)
    expect(adapter.layers()).toHaveLength(1)
  })

  it('recognise no other values', () => {
    const config = createConfig({ nFrequency: 3, targetModules: ['query'] })
    const adapter = createAdapter(config, { query: [4, 5] })
    for (const value of [undefined, null, 'text', {}, new Error('text'), adapter])
      expect(FourierFTError.isInstance(value)).toBe(false)
    for (const value of [undefined, null, 'text', {}, new FourierFTError('INVALID_OPTION', 'n')])
      expect(Adapter.isInstance(value)).toBe(false)
  })
})
