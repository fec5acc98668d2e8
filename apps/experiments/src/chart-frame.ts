/** What all pictures have in common: size, margins, type. Vega cannot measure text without a canvas, so all margins are set. */
import type { Axis, Spec, Title } from 'vega'

/** One colour for each kind of thing, the same in every picture (Okabe and Ito's, which colour-blind readers can tell apart). */
export const colours = {
  fourier: '#0072b2',
  lora: '#d55e00',
  orthogonal: '#009e73',
  random: '#cc79a7',
  reference: '#6b6b6b',
} as const

export interface FrameOptions {
  readonly title: string
  readonly subtitle: string
  /** Of the drawing, without the margins. */
  readonly width: number
  readonly height: number
  /** Room for labels to the right of the drawing. */
  readonly right: number
}

export function chartFrame({ title, subtitle, width, height, right }: FrameOptions): Spec {
  const heading: Title = {
    text: title,
    subtitle,
    anchor: 'start',
    frame: 'group',
    fontSize: 17,
    subtitleFontSize: 13,
    subtitleColor: '#555',
    subtitlePadding: 6,
    offset: 18,
  }
  return {
    $schema: 'https://vega.github.io/schema/vega/v6.json',
    width,
    height,
    autosize: 'none',
    padding: { left: 68, top: 96, right, bottom: 58 },
    background: 'white',
    config: { axis: { labelFontSize: 12, titleFontSize: 13, titleFontWeight: 'normal' } },
    title: heading,
  }
}

/** A vertical axis is a grid with numbers, a horizontal one a line with ticks. */
export const verticalAxis = (title: string): Axis => ({
  orient: 'left',
  scale: 'y',
  title,
  titlePadding: 10,
  tickCount: 6,
  grid: true,
  gridColor: '#e8e8e8',
  domain: false,
  ticks: false,
})

export const horizontalAxis = (title: string, more: Partial<Axis> = {}): Axis => ({
  orient: 'bottom',
  scale: 'x',
  title,
  titlePadding: 10,
  ...more,
})
