/** The common frame of all pictures: size, margins and fonts. All margins are fixed, because Vega cannot measure text without a canvas. */
import type { Axis, Spec, Title } from 'vega'

/** The colour of each method or basis in every picture, from Okabe and Ito's palette for colour-blind readers. */
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
  /** The width of the drawing without the margins. */
  readonly width: number
  readonly height: number
  /** Space for labels to the right of the drawing. */
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

/** Returns a vertical axis with grid lines and without ticks. */
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

export const horizontalAxis = (title: string, options: Partial<Axis> = {}): Axis => ({
  orient: 'bottom',
  scale: 'x',
  title,
  titlePadding: 10,
  ...options,
})
