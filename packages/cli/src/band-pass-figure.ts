/**
 * Draws band-pass sampling as figure 3 of the paper does: the probability of each position of the centred spectrum (frequency zero in the
 * middle), and the sampled entries. All cells of one colour share a path, and so do all entries, which keeps the SVG small.
 */
import type { Entries, Shape } from '@fourierft/core'
import { parse, type Spec, View } from 'vega'

export interface BandPassFigure {
  /** The probability of each `(j, k)` in the order of the DFT, row-major `[d1, d2]`. */
  readonly map: Float64Array
  readonly entries: Entries
  readonly centerFrequency: number
  readonly bandwidth: number
}

/** Pixels of the longer side. */
const LONG_SIDE = 512
/** The fewest pixels of the shorter side. */
const MIN_SHORT_SIDE = 96
/** The smallest width of a cell, in pixels. A figure has at most 128 × 128 cells; a cell of a larger spectrum shows an average. */
const MIN_CELL = 4
const COLOURS = 48
const AXIS = { format: 'd', tickMinStep: 1, labelOverlap: true } as const

/** @returns the SVG document */
export async function bandPassFigure(figure: BandPassFigure): Promise<string> {
  const view = new View(parse(specification(figure)), { renderer: 'none' })
  try {
    return await view.toSVG()
  } finally {
    view.finalize()
  }
}

function specification({ map, entries, centerFrequency, bandwidth }: BandPassFigure): Spec {
  const { shape, n } = entries
  const [d1, d2] = shape
  const [j, k] = [sideOf(d1, d2), sideOf(d2, d1)]
  const cells = centredCells(map, shape, j.cells, k.cells)
  const highest = cells.values.reduce((most, value) => Math.max(most, value), 0)
  return {
    $schema: 'https://vega.github.io/schema/vega/v6.json',
    background: 'white',
    padding: 8,
    width: k.pixels,
    height: j.pixels,
    title: {
      text: `Band-pass sampling of a ${d1} × ${d2} spectrum`,
      subtitle: `f_c = ${centerFrequency}, W = ${bandwidth}; ${n} sampled entries`,
      anchor: 'start',
    },
    data: [
      { name: 'cells', values: cellPaths(cells, highest, j, k) },
      { name: 'entries', values: [{ path: entryDots(entries, j, k) }] },
    ],
    scales: [
      { name: 'x', type: 'linear', domain: signedRange(d2), range: 'width' },
      { name: 'y', type: 'linear', domain: signedRange(d1), range: [0, j.pixels] },
      { name: 'probability', type: 'linear', domain: [0, highest], range: ['#f4f4f4', '#2b2b2b'] },
    ],
    axes: [
      { ...AXIS, orient: 'bottom', scale: 'x', title: 'k, frequency along the input' },
      { ...AXIS, orient: 'left', scale: 'y', title: 'j, frequency along the output' },
    ],
    legends: [
      { fill: 'probability', title: 'p(j, k)', type: 'gradient', gradientLength: Math.min(j.pixels, 200) },
    ],
    marks: [
      {
        type: 'path',
        from: { data: 'cells' },
        encode: { enter: { path: { field: 'path' }, fill: { scale: 'probability', field: 'probability' } } },
      },
      {
        type: 'path',
        from: { data: 'entries' },
        encode: { enter: { path: { field: 'path' }, fill: { value: '#e4002b' } } },
      },
    ],
  }
}

/** One side of the figure; cells have whole pixels, so that there are no visible seams between them. */
interface Side {
  readonly cells: number
  readonly pixels: number
}

/** Returns the side for the dimension `d` of a spectrum whose other dimension is `other`. */
function sideOf(d: number, other: number): Side {
  const available = Math.max(MIN_SHORT_SIDE, Math.min(1, d / other) * LONG_SIDE)
  const cells = Math.min(d, Math.floor(available / MIN_CELL))
  return { cells, pixels: cells * Math.floor(available / cells) }
}

/** A grid over the centred spectrum, row-major; row 0 holds the lowest signed `j`. */
interface Cells {
  readonly rows: number
  readonly columns: number
  /** Mean probability of the positions in each cell. */
  readonly values: Float64Array
}

function centredCells(map: Float64Array, [d1, d2]: Shape, rows: number, columns: number): Cells {
  const values = new Float64Array(rows * columns)
  const counts = new Uint32Array(rows * columns)
  for (let j = 0; j < d1; j++) {
    const row = Math.floor((centred(j, d1) * rows) / d1)
    for (let k = 0; k < d2; k++) {
      const cell = row * columns + Math.floor((centred(k, d2) * columns) / d2)
      values[cell] = (values[cell] ?? 0) + (map[j * d2 + k] ?? 0)
      counts[cell] = (counts[cell] ?? 0) + 1
    }
  }
  return { rows, columns, values: values.map((sum, cell) => sum / (counts[cell] ?? 1)) }
}

/** Returns one path for each colour; adjacent cells of one colour in a row are one rectangle. */
function cellPaths({ rows, columns, values }: Cells, highest: number, vertical: Side, horizontal: Side) {
  const [cellHeight, cellWidth] = [vertical.pixels / rows, horizontal.pixels / columns]
  const colours = values.map((value) => Math.min(COLOURS - 1, Math.floor((value / highest) * COLOURS)))
  const paths = Array.from({ length: COLOURS }, (): string[] => [])
  for (let row = 0; row < rows; row++) {
    for (let start = 0; start < columns; ) {
      const colour = colours[row * columns + start] ?? 0
      let end = start + 1
      while (end < columns && colours[row * columns + end] === colour) end++
      paths[colour]?.push(
        rectangle(start * cellWidth, row * cellHeight, (end - start) * cellWidth, cellHeight),
      )
      start = end
    }
  }
  return paths
    .map((parts, colour) => ({ probability: (colour / (COLOURS - 1)) * highest, path: parts.join('') }))
    .filter(({ path }) => path !== '')
}

function entryDots({ shape: [d1, d2], rows, columns }: Entries, vertical: Side, horizontal: Side): string {
  const size = Math.min(8, Math.max(2.4, 0.3 * (vertical.pixels / d1), 0.3 * (horizontal.pixels / d2)))
  return Array.from(rows, (j, index) => {
    const x = ((centred(columns[index] ?? 0, d2) + 0.5) / d2) * horizontal.pixels
    const y = ((centred(j, d1) + 0.5) / d1) * vertical.pixels
    return rectangle(x - size / 2, y - size / 2, size, size)
  }).join('')
}

/** Returns the position of the DFT index `index` in the centred spectrum, where frequency zero is at `⌊d/2⌋`. */
function centred(index: number, d: number): number {
  return (index + Math.floor(d / 2)) % d
}

/** Returns the signed frequencies at both edges of the figure, half a position beyond the outermost frequencies. */
function signedRange(d: number): [number, number] {
  const lowest = -Math.floor(d / 2)
  return [lowest - 0.5, lowest + d - 0.5]
}

function rectangle(x: number, y: number, width: number, height: number): string {
  const [left, top, w, h] = [x, y, width, height].map((value) => Number(value.toFixed(2)))
  return `M${left},${top}h${w}v${h}h${-(w ?? 0)}z`
}
