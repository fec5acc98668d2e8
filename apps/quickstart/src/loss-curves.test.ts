import { describe, expect, it } from 'vitest'
import { lossCurves } from './loss-curves.js'
import { frozenSummary, type Summary } from './summary.js'

const options = { title: 'Title', subtitle: 'Subtitle', xTitle: 'step', yTitle: 'loss' }

const summary = (method: string, losses: readonly number[]): Summary => {
  const curve = losses.map((loss, step) => ({ step, loss: { mean: loss, deviation: loss / 10 } }))
  const last = curve.at(-1)?.loss ?? { mean: 0, deviation: 0 }
  return {
    method,
    parameters: 1536,
    bytes: 7816,
    accuracy: { mean: 0.875, deviation: 0.01 },
    loss: last,
    seconds: last,
    curve,
  }
}

describe('lossCurves', () => {
  it('draws a line and a band for each method, labelled with its result and its size', async () => {
    const svg = await lossCurves(
      [
        summary('FourierFT', [3, 1, 0.4]),
        summary('LoRA', [3, 1.2, 0.41]),
        frozenSummary({ loss: 3, accuracy: 0.33 }, [0, 1, 2]),
      ],
      options,
    )
    expect(svg).toMatch(/^<svg/)
    expect(svg).not.toContain('NaN')
    for (const text of [
      'Title',
      'Subtitle',
      'FourierFT: 87.5 % right',
      '1,536 trained, 7.8 KB',
      'Frozen model: 33.0 % right',
    ]) {
      expect(svg).toContain(text)
    }
    expect(svg.match(/aria-roledescription="line mark container"/g)).toHaveLength(3)
  })

  it('separates the labels of lines with the same end', async () => {
    const methods = ['A', 'B', 'C', 'D']
    const svg = await lossCurves(
      methods.map((method) => summary(method, [3, 0.4])),
      options,
    )
    const heights = methods.map((method) => {
      const [, y] = new RegExp(`translate\\([\\d.]+,([\\d.]+)\\)"[^>]*>${method}: `).exec(svg) ?? []
      return Number(y)
    })
    const sorted = heights.toSorted((a, b) => a - b)
    for (let i = 1; i < sorted.length; i++)
      expect((sorted[i] ?? 0) - (sorted[i - 1] ?? 0)).toBeGreaterThanOrEqual(30)
  })
})
