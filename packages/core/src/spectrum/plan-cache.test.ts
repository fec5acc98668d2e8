import { describe, expect, it } from 'vitest'
import { cachedPlan, clearPlans } from './plan-cache.js'

describe('cachedPlan', () => {
  it('makes a plan once, until clearPlans', () => {
    clearPlans()
    const first = cachedPlan('plan', () => ({}))
    expect(cachedPlan('plan', () => ({}))).toBe(first)
    clearPlans()
    expect(cachedPlan('plan', () => ({}))).not.toBe(first)
  })

  it('drops the least recently used plan when it is full', () => {
    clearPlans()
    const kept = cachedPlan('kept', () => ({}))
    const dropped = cachedPlan('dropped', () => ({}))
    for (let i = 0; i < 1000; i++) {
      cachedPlan(`other ${i}`, () => ({}))
      expect(cachedPlan('kept', () => ({}))).toBe(kept)
    }
    expect(cachedPlan('dropped', () => ({}))).not.toBe(dropped)
  })
})
