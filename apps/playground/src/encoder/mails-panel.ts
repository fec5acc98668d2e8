/** The first section of the page: the scores of the mails with the chosen adapter, as a picture, as numbers and as a list. */
import { elements } from './elements.js'
import type { Mail } from './mail.js'
import type { MailComparison } from './mail-comparison.js'
import { MailMap } from './mail-map.js'

export class MailsPanel {
  readonly #mails: readonly Mail[]
  readonly #map: MailMap

  /**
   * @param mails all mails; those that the adapter was not trained on are shown
   * @param picked called with each clicked mail
   */
  constructor(mails: readonly Mail[], picked: (mail: Mail) => void) {
    this.#mails = mails
    this.#map = new MailMap(
      elements.map,
      mails.filter(({ isKnown }) => !isKnown),
      (mail) => {
        elements.picked.textContent = `${mail.isSpam ? 'Spam' : 'Wanted'}: ${mail.text}`
        picked(mail)
      },
    )
  }

  show(comparison: MailComparison): void {
    const { scores } = comparison
    const shown = this.#mails
      .map((mail, i) => ({ mail, score: scores[i] ?? 0 }))
      .filter(({ mail }) => !mail.isKnown)
      .sort((a, b) => a.score - b.score)
    for (const { mail, score } of shown) this.#map.setScore(mail, score)
    const right = shown.filter(({ mail, score }) => score > 0 === mail.isSpam).length
    const meanOf = (isSpam: boolean) => mean(shown.filter(({ mail }) => mail.isSpam === isSpam))
    elements.right.textContent = `${right} of ${shown.length}`
    elements.gap.textContent = (meanOf(true) - meanOf(false)).toFixed(2)
    this.#map.label = `${right} of ${shown.length} mails are on the side of their own kind`
    elements.mails.replaceChildren(...shown.map(item))
  }

  setOwnScore(score: number): void {
    this.#map.setOwnScore(score)
  }
}

function item({ mail, score }: { mail: Mail; score: number }): HTMLLIElement {
  const item = document.createElement('li')
  const tag = document.createElement('span')
  tag.className = `tag ${mail.isSpam ? 'spam' : 'wanted'}`
  tag.textContent = `${mail.isSpam ? 'spam' : 'wanted'} ${signed(score)}`
  item.append(tag, ` ${mail.text}`)
  return item
}

function signed(score: number): string {
  return `${score < 0 ? '−' : '+'}${Math.abs(score).toFixed(2)}`
}

function mean(values: readonly { score: number }[]): number {
  return values.reduce((sum, { score }) => sum + score, 0) / values.length
}
