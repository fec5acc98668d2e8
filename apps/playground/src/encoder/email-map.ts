/** A picture of the emails: left is nearer to legitimate emails, right is nearer to spam. Circles are legitimate emails, squares are spam. */
import type { Email } from './email.js'

const [width, height, size] = [480, 180, 8]
/** The cosines of real emails differ by less than this. */
const limit = 1.15
/** Its multiples modulo 1 are evenly distributed, and so are the heights of the marks. */
const goldenRatio = (Math.sqrt(5) - 1) / 2

export class EmailMap {
  readonly #svg = create('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img' })
  readonly #own = create('line', { class: 'own', y1: 0, y2: height })
  readonly #marks = new Map<Email, SVGElement>()

  /** @param picked called with each clicked email */
  constructor(parent: Element, emails: readonly Email[], picked: (email: Email) => void) {
    const border = create('line', { class: 'border', x1: width / 2, x2: width / 2, y1: 0, y2: height })
    this.#own.setAttribute('visibility', 'hidden')
    this.#svg.append(border, this.#own)
    emails.forEach((email, i) => {
      const mark = email.isSpam
        ? create('rect', { class: 'spam', width: size, height: size, x: -size / 2, y: -size / 2 })
        : create('circle', { class: 'legitimate', r: size / 2 + 0.5 })
      const title = create('title')
      title.textContent = email.text
      mark.append(title)
      mark.addEventListener('click', () => picked(email))
      mark.dataset.y = `${size + (height - 2 * size) * ((i * goldenRatio) % 1)}`
      this.#svg.append(mark)
      this.#marks.set(email, mark)
    })
    for (const email of emails) this.setScore(email, 0)
    parent.replaceChildren(this.#svg)
  }

  /** @param score above 0 is nearer to spam */
  setScore(email: Email, score: number): void {
    const mark = this.#marks.get(email)
    if (mark === undefined) return
    mark.style.transform = `translate(${horizontal(score)}px, ${mark.dataset.y}px)`
    mark.dataset.score = score.toFixed(3)
  }

  /** Moves the line of the visitor's own text. */
  setOwnScore(score: number): void {
    this.#own.removeAttribute('visibility')
    this.#own.style.transform = `translateX(${horizontal(score)}px)`
    this.#own.dataset.score = score.toFixed(3)
  }

  set label(text: string) {
    this.#svg.setAttribute('aria-label', text)
  }
}

function horizontal(score: number): number {
  return (width / 2) * (1 + Math.max(-1, Math.min(1, score / limit)))
}

function create<Name extends keyof SVGElementTagNameMap>(
  name: Name,
  attributes: Readonly<Record<string, string | number>> = {},
): SVGElementTagNameMap[Name] {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, `${value}`)
  return element
}
