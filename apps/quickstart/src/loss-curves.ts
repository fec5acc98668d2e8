/** The picture: test loss against training steps, with one line for each method and its label at the end of the line. */
import { parse, type Spec, View } from 'vega'
import { formatBytes } from './format-bytes.js'
import type { Summary } from './summary.js'

const width = 560
const height = 380
const colors = ['#0072b2', '#d55e00', '#e69f00', '#009e73', '#6b6b6b']
const labelHeight = 40

export interface LossCurvesOptions {
  readonly title: string
  readonly subtitle: string
  readonly xTitle: string
  readonly yTitle: string
}

/**
 * Draws the curves as SVG: the mean over the seeds, with a band of one standard deviation.
 *
 * @param summaries one for each method, with the same steps
 */
export function lossCurves(summaries: readonly Summary[], options: LossCurvesOptions): Promise<string> {
  return new View(parse(spec(summaries, options)), { renderer: 'none' }).toSVG()
}

function spec(summaries: readonly Summary[], { title, subtitle, xTitle, yTitle }: LossCurvesOptions): Spec {
  const methods = summaries.map(({ method }) => method)
  const points = summaries.flatMap(({ method, curve }) =>
    curve.map(({ step, loss: { mean, deviation } }) => ({
      method,
      step,
      mean,
      // A logarithmic axis cannot show 0.
      low: Math.max(mean - deviation, mean / 10),
      high: mean + deviation,
    })),
  )
  const [low, high] = [
    Math.min(...points.map((point) => point.low)),
    Math.max(...points.map((point) => point.high)),
  ]
  const domain: [number, number] = [low / 1.1, high * 1.1]
  const x = { scale: 'x', field: 'step' }
  const color = { scale: 'color', field: 'method' }
  return {
    $schema: 'https://vega.github.io/schema/vega/v6.json',
    width,
    height,
    // Vega cannot measure text without a canvas, so the space for the labels is fixed.
    autosize: 'none',
    padding: { left: 64, top: 76, right: 256, bottom: 56 },
    background: 'white',
    config: { axis: { labelFontSize: 12, titleFontSize: 13, titleFontWeight: 'normal' } },
    title: {
      text: title,
      subtitle,
      anchor: 'start',
      frame: 'group',
      fontSize: 17,
      subtitleFontSize: 13,
      subtitleColor: '#555',
      offset: 16,
    },
    data: [
      { name: 'points', values: points },
      { name: 'labels', values: labels(summaries, domain) },
    ],
    scales: [
      { name: 'x', type: 'linear', domain: { data: 'points', field: 'step' }, range: 'width' },
      { name: 'y', type: 'log', domain, range: 'height' },
      { name: 'color', type: 'ordinal', domain: methods, range: colors },
    ],
    axes: [
      { orient: 'bottom', scale: 'x', title: xTitle, titlePadding: 10, tickCount: 6 },
      {
        orient: 'left',
        scale: 'y',
        title: yTitle,
        titlePadding: 10,
        values: [0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10],
        format: '~g',
        grid: true,
        gridColor: '#e8e8e8',
        domain: false,
        ticks: false,
      },
    ],
    marks: [
      {
        type: 'group',
        from: { facet: { name: 'curve', data: 'points', groupby: 'method' } },
        marks: [
          {
            type: 'area',
            from: { data: 'curve' },
            encode: {
              enter: {
                x,
                y: { scale: 'y', field: 'low' },
                y2: { scale: 'y', field: 'high' },
                fill: color,
                fillOpacity: { value: 0.18 },
                interpolate: { value: 'monotone' },
              },
            },
          },
          {
            type: 'line',
            from: { data: 'curve' },
            encode: {
              enter: {
                x,
                y: { scale: 'y', field: 'mean' },
                stroke: color,
                strokeWidth: { value: 2.5 },
                interpolate: { value: 'monotone' },
              },
            },
          },
        ],
      },
      {
        type: 'rule',
        from: { data: 'labels' },
        encode: {
          enter: {
            x: { value: width + 4 },
            x2: { value: width + 22 },
            y: { field: 'lineEnd' },
            y2: { field: 'y' },
            stroke: color,
            strokeOpacity: { value: 0.6 },
          },
        },
      },
      {
        type: 'text',
        from: { data: 'labels' },
        encode: {
          enter: {
            x: { value: width + 27 },
            y: { field: 'y' },
            text: { field: 'title' },
            fill: color,
            fontWeight: { value: 'bold' },
            fontSize: { value: 13 },
            baseline: { value: 'bottom' },
            dy: { value: 1 },
          },
        },
      },
      {
        type: 'text',
        from: { data: 'labels' },
        encode: {
          enter: {
            x: { value: width + 27 },
            y: { field: 'y' },
            text: { field: 'detail' },
            fill: { value: '#444' },
            fontSize: { value: 12 },
            baseline: { value: 'top' },
            dy: { value: 2 },
          },
        },
      },
    ],
  }
}

interface Label {
  readonly method: string
  readonly title: string
  readonly detail: string
  /** The end of the line and the position of the label, in pixels from the top. */
  readonly lineEnd: number
  readonly y: number
}

/** Returns the labels in the order of the ends of their lines, moved apart if they would overlap. */
function labels(summaries: readonly Summary[], [low, high]: readonly [number, number]): Label[] {
  const pixel = (loss: number) => (height * Math.log(high / loss)) / Math.log(high / low)
  const ends = summaries
    .map((summary) => ({ summary, lineEnd: pixel(summary.loss.mean) }))
    .sort((a, b) => a.lineEnd - b.lineEnd)
  const positions = moveApart(ends.map(({ lineEnd }) => lineEnd))
  return ends.map(({ summary: { method, parameters, bytes, accuracy }, lineEnd }, index) => ({
    method,
    title: `${method}: ${(100 * accuracy.mean).toFixed(1)} % right`,
    detail:
      parameters === 0
        ? 'nothing trained'
        : `${parameters.toLocaleString('en')} trained, ${formatBytes(bytes)}`,
    lineEnd,
    y: positions[index] ?? lineEnd,
  }))
}

/** Moves ascending positions so that neighbours are at least a label's height apart and all are inside the picture. */
function moveApart(positions: readonly number[]): number[] {
  const moved = [...positions]
  let limit = height - labelHeight / 2
  for (let i = moved.length - 1; i >= 0; i--) {
    moved[i] = Math.min(moved[i] ?? limit, limit)
    limit = (moved[i] ?? limit) - labelHeight
  }
  return moved
}
