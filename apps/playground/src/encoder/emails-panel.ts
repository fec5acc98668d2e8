/** The first section of the page: the scores of the emails with the chosen adapter, as a picture, as numbers and as a list. */
import { elements } from './elements.js'
import type { Email } from './email.js'
import type { EmailComparison } from './email-comparison.js'
import { EmailMap } from './email-map.js'

export class EmailsPanel {
  readonly #emails: readonly Email[]
  readonly #map: EmailMap

  /**
   * @param emails all emails; those that the adapter was not trained on are shown
   * @param picked called with each clicked email
   */
  constructor(emails: readonly Email[], picked: (email: Email) => void) {
    this.#emails = emails
    this.#map = new EmailMap(
      elements.map,
      emails.filter(({ isKnown }) => !isKnown),
      (email) => {
        elements.picked.textContent = `${email.isSpam ? 'Spam' : 'Legitimate'}: ${email.text}`
        picked(email)
      },
    )
  }

  show(comparison: EmailComparison): void {
    const { scores } = comparison
    const shown = this.#emails
      .map((email, i) => ({ email, score: scores[i] ?? 0 }))
      .filter(({ email }) => !email.isKnown)
      .sort((a, b) => a.score - b.score)
    for (const { email, score } of shown) this.#map.setScore(email, score)
    const right = shown.filter(({ email, score }) => score > 0 === email.isSpam).length
    const meanOf = (isSpam: boolean) => mean(shown.filter(({ email }) => email.isSpam === isSpam))
    elements.right.textContent = `${right} of ${shown.length}`
    elements.gap.textContent = (meanOf(true) - meanOf(false)).toFixed(2)
    this.#map.label = `${right} of ${shown.length} emails are on the side of their own kind`
    elements.emails.replaceChildren(...shown.map(item))
  }

  setOwnScore(score: number): void {
    this.#map.setOwnScore(score)
  }
}

function item({ email, score }: { email: Email; score: number }): HTMLLIElement {
  const item = document.createElement('li')
  const tag = document.createElement('span')
  tag.className = `tag ${email.isSpam ? 'spam' : 'legitimate'}`
  tag.textContent = `${email.isSpam ? 'spam' : 'legitimate'} ${signed(score)}`
  item.append(tag, ` ${email.text}`)
  return item
}

function signed(score: number): string {
  return `${score < 0 ? '−' : '+'}${Math.abs(score).toFixed(2)}`
}

function mean(values: readonly { score: number }[]): number {
  return values.reduce((sum, { score }) => sum + score, 0) / values.length
}
