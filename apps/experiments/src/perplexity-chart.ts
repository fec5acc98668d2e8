/** Draws perplexity against the number of trained parameters, with the names of the methods. */
import type { Spread } from '@fourierft/quickstart'
import type { Mark, Spec } from 'vega'
import { chartFrame, colours, horizontalAxis, verticalAxis } from './chart-frame.js'

export interface PerplexityChartOptions {
  readonly title: string
  readonly subtitle: string
  readonly points: readonly {
    readonly name: string
    readonly colour: string
    readonly parameters: number
    readonly perplexity: Spread
  }[]
  /** Results without training: dashed lines. */
  readonly references: readonly { readonly name: string; readonly perplexity: number }[]
}

const width = 520
const height = 340
const rightMargin = 210

export function perplexityChart({ title, subtitle, points, references }: PerplexityChartOptions): Spec {
  const text = (data: string, encoding: Readonly<Record<string, object>>): Mark => ({
    type: 'text',
    from: { data },
    encode: {
      enter: {
        y: { scale: 'y', field: 'perplexity' },
        baseline: { value: 'middle' },
        fontSize: { value: 12 },
        text: { field: 'name' },
        ...encoding,
      },
    },
  })
  return {
    ...chartFrame({ title, subtitle, width, height, right: rightMargin }),
    data: [
      {
        name: 'points',
        values: points.map(({ perplexity, ...point }) => ({ ...point, perplexity: perplexity.mean })),
      },
      { name: 'references', values: [...references] },
    ],
    scales: [
      {
        name: 'x',
        type: 'log',
        domain: { data: 'points', field: 'parameters' },
        range: 'width',
        padding: 24,
      },
      {
        name: 'y',
        type: 'linear',
        domain: {
          fields: [
            { data: 'points', field: 'perplexity' },
            { data: 'references', field: 'perplexity' },
          ],
        },
        range: 'height',
        nice: true,
        zero: false,
      },
    ],
    axes: [
      horizontalAxis('trained parameters', { values: [1e4, 1e5, 1e6], format: ',d' }),
      verticalAxis('test perplexity'),
    ],
    marks: [
      {
        type: 'rule',
        from: { data: 'references' },
        encode: {
          enter: {
            x: { value: 0 },
            x2: { value: width },
            y: { scale: 'y', field: 'perplexity' },
            stroke: { value: colours.reference },
            strokeDash: { value: [6, 4] },
          },
        },
      },
      text('references', { x: { value: width + 8 }, fill: { value: colours.reference } }),
      {
        type: 'symbol',
        from: { data: 'points' },
        encode: {
          enter: {
            x: { scale: 'x', field: 'parameters' },
            y: { scale: 'y', field: 'perplexity' },
            fill: { field: 'colour' },
            size: { value: 60 },
          },
        },
      },
      text('points', {
        x: { scale: 'x', field: 'parameters', offset: 10 },
        fill: { field: 'colour' },
      }),
    ],
  }
}
