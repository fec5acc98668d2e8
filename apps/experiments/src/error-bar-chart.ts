/** Draws accuracy against one setting. Each point has an error bar of one standard deviation in both directions. */
import type { Spread } from '@fourierft/quickstart'
import type { Mark, Scale, Spec } from 'vega'
import { chartFrame, colours, horizontalAxis, verticalAxis } from './chart-frame.js'

export interface Series {
  readonly name: string
  readonly colour: string
  readonly points: readonly { readonly x: number | string; readonly accuracy: Spread }[]
}

export interface ErrorBarChartOptions {
  readonly title: string
  readonly subtitle: string
  readonly xTitle: string
  /** The values on the x axis: doubling numbers, evenly spaced numbers, or names. */
  readonly xScale: 'doubling' | 'linear' | 'names'
  readonly series: readonly Series[]
  /** A result that does not depend on `x`: a dashed line with a band of one standard deviation. */
  readonly reference?: { readonly name: string; readonly accuracy: Spread }
}

const width = 520
const height = 340
const rightMargin = 150
/** Accuracies between 0 and 1 are drawn in percent. */
const percent = 100

export function errorBarChart(options: ErrorBarChartOptions): Spec {
  const { title, subtitle, xTitle, xScale, series, reference } = options
  const hasLegend = xScale !== 'names' && series.length > 1
  const points = series.flatMap(({ name, colour, points: values }) =>
    values.map(({ x, accuracy }) => ({ series: name, colour, x, ...limits(accuracy) })),
  )
  const ranges = reference ? [...points, limits(reference.accuracy)] : points
  const x = { scale: 'x', field: 'x' }
  const colour = { field: 'colour' }
  const bar: Mark = {
    type: 'rule',
    from: { data: 'points' },
    encode: {
      enter: {
        x,
        y: { scale: 'y', field: 'low' },
        y2: { scale: 'y', field: 'high' },
        stroke: colour,
        strokeWidth: { value: 1.5 },
      },
    },
  }
  const dot: Mark = {
    type: 'symbol',
    from: { data: 'points' },
    encode: { enter: { x, y: { scale: 'y', field: 'mean' }, fill: colour, size: { value: 60 } } },
  }
  return {
    ...chartFrame({ title, subtitle, width, height, right: rightMargin }),
    data: [
      { name: 'points', values: points },
      // Names next to the last points of two lines would overlap, so lines have a legend instead.
      { name: 'names', values: hasLegend ? [] : series.map(lastPoint) },
      {
        name: 'reference',
        values: reference ? [{ name: reference.name, ...limits(reference.accuracy) }] : [],
      },
    ],
    scales: [
      xScaleOf(xScale),
      {
        name: 'series',
        type: 'ordinal',
        domain: series.map(({ name }) => name),
        range: series.map(({ colour }) => colour),
      },
      {
        name: 'y',
        type: 'linear',
        domain: [Math.min(...ranges.map(({ low }) => low)), Math.max(...ranges.map(({ high }) => high))],
        range: 'height',
        nice: true,
        zero: false,
      },
    ],
    legends: hasLegend ? [{ fill: 'series', orient: 'bottom-right', labelFontSize: 13, symbolSize: 80 }] : [],
    axes: [
      horizontalAxis(
        xTitle,
        xScale === 'doubling'
          ? { values: [...new Set(points.map((point) => Number(point.x)))], format: ',d' }
          : {},
      ),
      verticalAxis('test accuracy, %'),
    ],
    marks: [...referenceMarks(), ...(xScale === 'names' ? [] : [lines()]), bar, dot, nameMarks()],
  }
}

const limits = ({ mean, deviation }: Spread) => ({
  mean: percent * mean,
  low: percent * (mean - deviation),
  high: percent * (mean + deviation),
})

function xScaleOf(kind: ErrorBarChartOptions['xScale']): Scale {
  const domain = { data: 'points', field: 'x' }
  switch (kind) {
    case 'doubling':
      return { name: 'x', type: 'log', base: 2, domain, range: 'width', padding: 16 }
    case 'linear':
      return { name: 'x', type: 'linear', domain, range: 'width', padding: 16, zero: false }
    case 'names':
      return { name: 'x', type: 'point', domain, range: 'width', padding: 0.5 }
  }
}

const lines = (): Mark => ({
  type: 'group',
  from: { facet: { name: 'line', data: 'points', groupby: 'series' } },
  marks: [
    {
      type: 'line',
      from: { data: 'line' },
      encode: {
        enter: {
          x: { scale: 'x', field: 'x' },
          y: { scale: 'y', field: 'mean' },
          stroke: { field: 'colour' },
          strokeWidth: { value: 2 },
        },
      },
    },
  ],
})

const referenceMarks = (): Mark[] => {
  const across = { x: { value: 0 }, x2: { value: width } }
  return [
    {
      type: 'rect',
      from: { data: 'reference' },
      encode: {
        enter: {
          ...across,
          y: { scale: 'y', field: 'low' },
          y2: { scale: 'y', field: 'high' },
          fill: { value: colours.reference },
          fillOpacity: { value: 0.14 },
        },
      },
    },
    {
      type: 'rule',
      from: { data: 'reference' },
      encode: {
        enter: {
          ...across,
          y: { scale: 'y', field: 'mean' },
          stroke: { value: colours.reference },
          strokeWidth: { value: 2 },
          strokeDash: { value: [6, 4] },
        },
      },
    },
    label('reference', {
      x: { value: width + 10 },
      fill: { value: colours.reference },
      text: { field: 'name' },
    }),
  ]
}

/** Writes the name of each series next to its last point. */
const nameMarks = (): Mark =>
  label('names', {
    x: { scale: 'x', field: 'x', offset: 12 },
    fill: { field: 'colour' },
    text: { field: 'name' },
  })

const label = (data: string, encoding: Readonly<Record<string, object>>): Mark => ({
  type: 'text',
  from: { data },
  encode: {
    enter: {
      y: { scale: 'y', field: 'mean' },
      baseline: { value: 'middle' },
      fontWeight: { value: 'bold' },
      fontSize: { value: 13 },
      ...encoding,
    },
  },
})

const lastPoint = ({ name, colour, points }: Series) => {
  const last = points.at(-1)
  if (last === undefined) throw new Error(`series ${name} has no points`)
  return { name, colour, x: last.x, ...limits(last.accuracy) }
}
