/** A live curve in SVG: a faint line of the values, a line of their running mean, and a horizontal line for comparison. */

export interface CurveOptions {
  readonly title: string
  /** Upper end of the axis, which starts at 0. Default: an even number above all values. */
  readonly top?: number
  readonly format: (value: number) => string
}

const [width, height] = [420, 220]
const frame = { left: 52, right: 12, top: 12, bottom: 34 }
/** Number of steps of the running mean. */
const meanLength = 10
const gridLines = 4

export class Curve {
  readonly #svg = element('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img' })
  readonly #options: CurveOptions
  readonly #values: number[] = []
  #steps = 1
  #baseline: number | undefined
  #drawing = false

  /** @param parent the element that gets the curve */
  constructor(parent: Element, options: CurveOptions) {
    this.#options = options
    parent.append(this.#svg)
    this.#draw()
  }

  /** Clears the curve for a training of `steps` steps. */
  start(steps: number): void {
    this.#steps = steps
    this.#values.length = 0
    this.#drawSoon()
  }

  /** Draws a dashed horizontal line, the value of the frozen model. */
  set baseline(value: number) {
    this.#baseline = value
    this.#drawSoon()
  }

  add(value: number): void {
    this.#values.push(value)
    this.#drawSoon()
  }

  /** Draws at most once for each frame of the screen. */
  #drawSoon(): void {
    if (this.#drawing) return
    this.#drawing = true
    requestAnimationFrame(() => {
      this.#drawing = false
      this.#draw()
    })
  }

  #draw(): void {
    const { title, format } = this.#options
    const top = this.#options.top ?? 2 * Math.ceil(Math.max(1, this.#baseline ?? 0, ...this.#values) / 2)
    const x = (step: number) =>
      frame.left + ((width - frame.left - frame.right) * step) / Math.max(1, this.#steps)
    const y = (value: number) =>
      height - frame.bottom - ((height - frame.top - frame.bottom) * Math.min(value, top)) / top
    const means = this.#values.map((_, i) => mean(this.#values.slice(Math.max(0, i + 1 - meanLength), i + 1)))
    const line = (values: readonly number[]) =>
      values.map((value, i) => `${x(i + 1).toFixed(1)},${y(value).toFixed(1)}`).join(' ')
    const parts: SVGElement[] = []
    for (let i = 0; i <= gridLines; i++) {
      const value = (top * i) / gridLines
      parts.push(
        element('line', {
          class: 'grid',
          x1: frame.left,
          x2: width - frame.right,
          y1: y(value),
          y2: y(value),
        }),
        text(format(value), { x: frame.left - 8, y: y(value) + 4, 'text-anchor': 'end' }),
      )
    }
    for (const step of [0, this.#steps / 2, this.#steps]) {
      const anchor = step === this.#steps ? 'end' : step === 0 ? 'start' : 'middle'
      parts.push(text(`${Math.round(step)}`, { x: x(step), y: height - 14, 'text-anchor': anchor }))
    }
    parts.push(text('step', { x: x(this.#steps * 0.75), y: height - 14, 'text-anchor': 'middle' }))
    if (this.#baseline !== undefined) {
      const at = y(this.#baseline)
      parts.push(
        element('line', { class: 'baseline', x1: frame.left, x2: width - frame.right, y1: at, y2: at }),
        text('frozen', {
          class: 'baseline-name',
          x: width - frame.right,
          y: at < frame.top + 20 ? at + 14 : at - 5,
          'text-anchor': 'end',
        }),
      )
    }
    parts.push(
      element('polyline', { class: 'raw', points: line(this.#values) }),
      element('polyline', { class: 'mean', points: line(means) }),
    )
    this.#svg.replaceChildren(...parts)
    const last = means.at(-1)
    this.#svg.setAttribute(
      'aria-label',
      last === undefined
        ? `${title}: nothing trained yet`
        : `${title} after ${this.#values.length} of ${this.#steps} steps: ${format(last)}`,
    )
  }
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

function element(name: string, attributes: Readonly<Record<string, string | number>>): SVGElement {
  const created = document.createElementNS('http://www.w3.org/2000/svg', name)
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, `${value}`)
  return created
}

function text(content: string, attributes: Readonly<Record<string, string | number>>): SVGElement {
  const label = element('text', attributes)
  label.textContent = content
  return label
}
