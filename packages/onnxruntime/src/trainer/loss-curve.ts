/**
 * Draws the report of `fit` as an SVG: losses above, the learning rate below. An entry point of its own, because it needs `vega`, which is too
 * large for pages that only train.
 */
import { FourierFTError } from '@fourierft/core'
import type { Mark, Spec } from 'vega'
import type { FitReport } from './fit.js'

const WIDTH = 560
const LOSS_HEIGHT = 240
const RATE_TOP = LOSS_HEIGHT + 24
const HEIGHT = RATE_TOP + 70
/** More steps are drawn as means of several. */
const MOST_POINTS = 1000

/** Colours with a contrast of at least 3 : 1 to white, which people with colour blindness can tell apart. @see Okabe and Ito, "Color Universal Design" */
const [GREY, BLUE, VERMILLION, GREEN] = ['#8c8c8c', '#0072b2', '#d55e00', '#009e73']
const INK = '#333333'

interface Point {
  readonly step: number
  readonly value: number
}

interface Series {
  /** Its name in the legend. */
  readonly name: string
  readonly scale: 'loss' | 'rate'
  readonly colour: string
  readonly points: readonly Point[]
  /** Whether it has few points, which are marked. */
  readonly isByEpoch: boolean
}

/**
 * @param report of `trainer.fit`, or what `JSON.parse` makes of its JSON
 * @returns the SVG document, on white, so that it can be read on light and on dark pages
 * @throws {FourierFTError} `INVALID_OPTION` for a report without steps; `UNSUPPORTED` if `vega` is not installed
 */
export async function lossCurve(report: Pick<FitReport, 'steps' | 'epochs'>): Promise<string> {
  if (report.steps.length === 0)
    throw new FourierFTError('INVALID_OPTION', 'report: expected at least one step; received none', {
      option: 'report',
    })
  const { parse, View } = await importVega()
  const view = new View(parse(specification(seriesOf(report))), { renderer: 'none' })
  try {
    return await view.toSVG()
  } finally {
    view.finalize()
  }
}

async function importVega(): Promise<typeof import('vega')> {
  try {
    return await import('vega')
  } catch (cause) {
    throw new FourierFTError('UNSUPPORTED', 'the loss curve needs vega, which is not installed', {
      advice: 'run npm i vega',
      cause,
    })
  }
}

function seriesOf({ steps, epochs }: Pick<FitReport, 'steps' | 'epochs'>): readonly Series[] {
  const size = Math.ceil(steps.length / MOST_POINTS)
  const losses = steps.map(({ step, loss }) => ({ step, value: loss }))
  const rates = steps.map(({ step, learningRate }) => ({ step, value: learningRate }))
  const evaluated = epochs.flatMap(({ step, evaluationLoss }) =>
    // JSON has no undefined.
    typeof evaluationLoss === 'number' ? [{ step, value: evaluationLoss }] : [],
  )
  const all: readonly Series[] = [
    {
      name: size === 1 ? 'training, each step' : `training, mean of ${size} steps`,
      scale: 'loss',
      colour: GREY,
      points: meansOf(losses, size),
      isByEpoch: false,
    },
    {
      name: 'training, mean of each epoch',
      scale: 'loss',
      colour: BLUE,
      points: epochs.map(({ step, loss }) => ({ step, value: loss })),
      isByEpoch: true,
    },
    { name: 'evaluation', scale: 'loss', colour: VERMILLION, points: evaluated, isByEpoch: true },
    { name: 'learning rate', scale: 'rate', colour: GREEN, points: meansOf(rates, size), isByEpoch: false },
  ]
  return all.filter(({ points }) => points.length > 0)
}

/** The means of `size` points each; the last one of the rest. */
function meansOf(points: readonly Point[], size: number): readonly Point[] {
  return Array.from({ length: Math.ceil(points.length / size) }, (_, i) => {
    const part = points.slice(i * size, (i + 1) * size)
    const { step } = part[part.length - 1]
    return { step, value: part.reduce((sum, { value }) => sum + value, 0) / part.length }
  })
}

function specification(series: readonly Series[]): Spec {
  const pointsOn = (scale: Series['scale']) =>
    series.filter((one) => one.scale === scale).flatMap(({ points }) => points)
  const [firstStep, lastStep] = rangeOf(pointsOn('rate').map(({ step }) => step))
  const [least, most] = rangeOf(pointsOn('loss').map(({ value }) => value))
  const [, highestRate] = rangeOf(pointsOn('rate').map(({ value }) => value))
  const losses = series.filter(({ scale }) => scale === 'loss')
  return {
    $schema: 'https://vega.github.io/schema/vega/v6.json',
    background: 'white',
    padding: 8,
    width: WIDTH,
    height: HEIGHT,
    data: series.map(({ name, points }) => ({ name, values: [...points] })),
    scales: [
      { name: 'step', type: 'linear', domain: [firstStep - 1, lastStep], range: [0, WIDTH], zero: false },
      {
        name: 'loss',
        type: 'linear',
        domain: least === most ? [least - 0.5, most + 0.5] : [least, most],
        range: [LOSS_HEIGHT, 0],
        nice: true,
        zero: false,
      },
      {
        name: 'rate',
        type: 'linear',
        domain: [0, highestRate > 0 ? highestRate : 1],
        range: [HEIGHT, RATE_TOP],
        nice: true,
      },
      {
        name: 'colour',
        type: 'ordinal',
        domain: losses.map(({ name }) => name),
        range: losses.map(({ colour }) => colour),
      },
    ],
    axes: [
      { ...VERTICAL, scale: 'loss', title: 'loss', tickCount: 6 },
      { ...VERTICAL, scale: 'rate', title: 'learning rate', tickCount: 3 },
      { ...AXIS, orient: 'bottom', scale: 'step', title: 'step', format: 'd', tickMinStep: 1, tickCount: 10 },
    ],
    legends: [
      {
        stroke: 'colour',
        symbolType: 'stroke',
        symbolStrokeWidth: 2,
        orient: 'top',
        direction: 'horizontal',
        labelColor: INK,
        labelLimit: WIDTH,
      },
    ],
    marks: series.flatMap(marksOf),
  }
}

const AXIS = { domainColor: INK, tickColor: INK, labelColor: INK, titleColor: INK } as const
/** Both plots begin at the same place, however long their numbers are. */
const VERTICAL = {
  ...AXIS,
  orient: 'left',
  grid: true,
  gridColor: '#e5e5e5',
  minExtent: 45,
  maxExtent: 45,
} as const

function marksOf({ name, scale, colour, points, isByEpoch }: Series): Mark[] {
  const from = { data: name }
  const position = { x: { scale: 'step', field: 'step' }, y: { scale, field: 'value' } }
  const strokeWidth = { value: isByEpoch || scale === 'rate' ? 2 : 1 }
  const line: Mark = {
    type: 'line',
    from,
    encode: { enter: { ...position, stroke: { value: colour }, strokeWidth } },
  }
  const symbol: Mark = {
    type: 'symbol',
    from,
    encode: { enter: { ...position, fill: { value: colour }, size: { value: 30 } } },
  }
  // A line of one point would be invisible.
  return isByEpoch || points.length === 1 ? [line, symbol] : [line]
}

/** The smallest and the largest number. */
function rangeOf(values: readonly number[]): readonly [number, number] {
  return values.reduce<readonly [number, number]>(
    ([least, most], value) => [Math.min(least, value), Math.max(most, value)],
    [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  )
}
