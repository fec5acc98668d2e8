/** The first part of the page: where each mail lies with the chosen adapter, as a picture, as numbers and as a list. */
import { elements } from './elements.js'
import type { Mail } from './mail.js'
import { MailMap } from './mail-map.js'
import type { Placing } from './placing.js'

export class MailsPanel {
  readonly #mails: readonly Mail[]
  readonly #map: MailMap

  /**
   * @param mails all of them; those that adapters were not trained on are shown
   * @param picked is told of mails that are clicked on
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

  show(placing: Placing): void {
    const { scores } = placing
    const shown = this.#mails
      .map((mail, i) => ({ mail, score: scores[i] ?? 0 }))
      .filter(({ mail }) => !mail.isKnown)
      .sort((a, b) => a.score - b.score)
    for (const { mail, score } of shown) this.#map.place(mail, score)
    const right = shown.filter(({ mail, score }) => score > 0 === mail.isSpam).length
    const of = (isSpam: boolean) => mean(shown.filter(({ mail }) => mail.isSpam === isSpam))
    elements.right.textContent = `${right} of ${shown.length}`
    elements.gap.textContent = (of(true) - of(false)).toFixed(2)
    this.#map.label = `${right} of ${shown.length} mails lie on the side of their own kind`
    elements.mails.replaceChildren(...shown.map(item))
  }

  placeOwn(score: number): void {
    this.#map.placeOwn(score)
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
