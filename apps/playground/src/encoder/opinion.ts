/** The result for a text with one adapter: its side, and the most similar emails. */
import type { Neighbour } from './email-comparison.js'

export interface OpinionContent {
  readonly title: string
  /** Above 0 is nearer to spam. */
  readonly score: number
  readonly nearest: readonly Neighbour[]
}

export function opinion({ title, score, nearest }: OpinionContent): HTMLElement {
  const article = document.createElement('article')
  const heading = create('h3', title)
  const verdict = create('p', `${score > 0 ? 'Nearer to spam' : 'Nearer to legitimate emails'} by `)
  verdict.className = `verdict ${kind(score > 0)}`
  const number = create('strong', Math.abs(score).toFixed(2))
  verdict.append(number)
  const list = document.createElement('ol')
  list.append(...nearest.map(neighbour))
  article.append(heading, verdict, create('p', 'Most similar emails'), list)
  return article
}

function neighbour({ email, similarity }: Neighbour): HTMLLIElement {
  const item = document.createElement('li')
  const tag = create('span', `${email.isSpam ? 'spam' : 'legitimate'} ${similarity.toFixed(2)}`)
  tag.className = `tag ${kind(email.isSpam)}`
  item.append(tag, ` ${email.text}`)
  return item
}

function kind(isSpam: boolean): string {
  return isSpam ? 'spam' : 'legitimate'
}

function create<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  text: string,
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name)
  element.textContent = text
  return element
}
