import { describe, expect, it } from 'vitest'
import { PAPER_SETTINGS } from './paper-settings.js'

describe('PAPER_SETTINGS', () => {
  it('has each column of the four tables', () => {
    const tables = Object.values(PAPER_SETTINGS).map(({ source }) => source)
    const countOf = (table: string) => tables.filter((source) => source === table).length
    expect([9, 10, 11, 12].map((table) => countOf(`table ${table}`))).toEqual([12, 2, 1, 8])
  })

  it('has rates times α of 4 to 15 for language models and of 60 to 90 for images, as the text of the project says', () => {
    for (const [name, { adapter, training }] of Object.entries(PAPER_SETTINGS)) {
      const product = adapter.scaling * training.learningRate
      const [low, high] = name.startsWith('vit/') ? [60, 90] : [4, 15]
      if (name === 'roberta-base/qnli') expect(product).toBeCloseTo(0.29, 12)
      else expect(product, name).toSatisfy((value: number) => value >= low && value <= high)
    }
  })
})
