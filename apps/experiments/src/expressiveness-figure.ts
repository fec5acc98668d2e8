/** Draws figure 7 of the paper: the points, and for both networks the accuracy against epochs, with a thin line for each run. */
import { spread } from '@fourierft/quickstart'
import type { Mark, Spec } from 'vega'
import { chartFrame, colours, horizontalAxis, verticalAxis } from './chart-frame.js'
import type { Clusters } from './clusters.js'
import type { ExpressivenessOutcome } from './expressiveness-training.js'
import type { RestOfNetwork } from './hidden-layer-network.js'

const side = 300
const gap = 84
const panels: readonly { readonly restOfNetwork: RestOfNetwork; readonly title: string }[] = [
  { restOfNetwork: 'frozen', title: 'network frozen, W + ΔW' },
  { restOfNetwork: 'trained', title: 'network trained, only ΔW' },
]
const methodColours = { FourierFT: colours.fourier, LoRA: colours.lora } as const

export function expressivenessFigure(data: Clusters, outcomes: readonly ExpressivenessOutcome[]): Spec {
  const seeds = outcomes[0]?.runs.length ?? 0
  return {
    ...chartFrame({
      title: 'A hidden layer of 64 × 64 with 128 trained values learns eight classes',
      subtitle: `Accuracy on the training points: the mean of ${seeds} seeds, and a thin line for each`,
      width: 3 * side + 2 * gap,
      height: side,
      right: 24,
    }),
    marks: [scatter(data), ...panels.map((panel, index) => curves(panel, index + 1, outcomes))],
  }
}

/** Returns a square drawing, the `index`-th from the left. */
const panel = (index: number, title: string, rest: Partial<Mark & { type: 'group' }>): Mark => ({
  type: 'group',
  title: { text: title, fontSize: 13, fontWeight: 'normal', anchor: 'start', offset: 8 },
  encode: {
    enter: { x: { value: index * (side + gap) }, width: { value: side }, height: { value: side } },
  },
  ...rest,
})

function scatter({ points, labels }: Clusters): Mark {
  const values = Array.from(labels, (label, point) => ({
    label,
    x: points[2 * point],
    y: points[2 * point + 1],
  }))
  const domain = [-6, 6]
  return panel(0, 'points of the first seed', {
    data: [{ name: 'scatter', values }],
    scales: [
      { name: 'x', type: 'linear', domain, range: [0, side] },
      { name: 'y', type: 'linear', domain, range: [side, 0] },
      { name: 'class', type: 'ordinal', domain: [0, 1, 2, 3, 4, 5, 6, 7], range: { scheme: 'dark2' } },
    ],
    axes: [horizontalAxis('x', { tickCount: 6 }), verticalAxis('y')],
    marks: [
      {
        type: 'symbol',
        from: { data: 'scatter' },
        encode: {
          enter: {
            x: { scale: 'x', field: 'x' },
            y: { scale: 'y', field: 'y' },
            fill: { scale: 'class', field: 'label' },
            size: { value: 16 },
            clip: { value: true },
          },
        },
      },
    ],
  })
}

function curves(
  { restOfNetwork, title }: (typeof panels)[number],
  index: number,
  outcomes: readonly ExpressivenessOutcome[],
): Mark {
  const shown = outcomes.filter((outcome) => outcome.restOfNetwork === restOfNetwork)
  const runPoints = shown.flatMap(({ method, runs }) =>
    runs.flatMap(({ seed, curve }) =>
      curve.map(({ epoch, accuracy }) => ({
        line: `${method} ${seed}`,
        colour: methodColours[method],
        epoch,
        accuracy: 100 * accuracy,
      })),
    ),
  )
  const means = shown.flatMap(({ method, runs }) =>
    (runs[0]?.curve ?? []).map(({ epoch }, point) => ({
      line: method,
      colour: methodColours[method],
      epoch,
      accuracy: 100 * spread(runs.flatMap(({ curve }) => curve[point]?.accuracy ?? [])).mean,
    })),
  )
  return panel(index, title, {
    data: [
      { name: 'runs', values: runPoints },
      { name: 'means', values: means },
    ],
    scales: [
      { name: 'x', type: 'linear', domain: { data: 'runs', field: 'epoch' }, range: [0, side] },
      { name: 'y', type: 'linear', domain: [0, 100], range: [side, 0] },
      {
        name: 'method',
        type: 'ordinal',
        domain: Object.keys(methodColours),
        range: Object.values(methodColours),
      },
    ],
    axes: [horizontalAxis('epoch', { tickCount: 5 }), verticalAxis('accuracy, %')],
    legends: [{ stroke: 'method', orient: 'bottom-right', symbolType: 'stroke', symbolStrokeWidth: 3 }],
    marks: [
      lines('runs', { strokeWidth: { value: 0.7 }, strokeOpacity: { value: 0.35 } }),
      lines('means', { strokeWidth: { value: 2.5 } }),
    ],
  })
}

const lines = (data: string, look: Readonly<Record<string, { value: number }>>): Mark => ({
  type: 'group',
  from: { facet: { name: 'line', data, groupby: 'line' } },
  marks: [
    {
      type: 'line',
      from: { data: 'line' },
      encode: {
        enter: {
          x: { scale: 'x', field: 'epoch' },
          y: { scale: 'y', field: 'accuracy' },
          stroke: { field: 'colour' },
          ...look,
        },
      },
    },
  ],
})
