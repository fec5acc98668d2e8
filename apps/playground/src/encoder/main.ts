/** The encoder's page at work: one encoder, adapters that are swapped in it, and everything that goes wrong in words. */
import { loadAdapter } from '@fourierft/core'
import { Choices } from './choices.js'
import { elements } from './elements.js'
import { type Choice, Encoder } from './encoder.js'
import type { Mail } from './mail.js'
import { MailsPanel } from './mails-panel.js'
import { Placing } from './placing.js'
import { TextPanel } from './text-panel.js'

/** Mails that are encoded at a time: the page can do something else in between. */
const together = 8
/** A pause in typing, in milliseconds. */
const pause = 250

const choices = new Choices(elements.choices, (choice) => void job(() => choose(choice)))
/** Where the mails lie without adapter and with each one. */
const placings = new Map<Choice, Placing>()

let mails: readonly Mail[] = []
let encoder: Encoder | undefined
let mailsPanel: MailsPanel | undefined
let textPanel: TextPanel | undefined
let chosen: Choice = null
let typing: ReturnType<typeof setTimeout> | undefined

elements.files.addEventListener('change', () => void job(load))
elements.take.addEventListener('click', () => {
  const unknown = mails.filter(({ isKnown }) => !isKnown)
  const mail = unknown[Math.floor(Math.random() * unknown.length)]
  if (mail) take(mail)
})
elements.text.addEventListener('input', () => {
  clearTimeout(typing)
  typing = setTimeout(() => ask().catch(showError), pause)
})
addEventListener('unhandledrejection', ({ reason }) => showError(reason))

void job(async () => {
  say('Loading the encoder …')
  mails = await fetchMails()
  const loaded = await Encoder.load()
  encoder = loaded
  mailsPanel = new MailsPanel(mails, take)
  textPanel = new TextPanel(loaded, placings)
  await include(null)
  const adapter = await loadAdapter(new URL('adapters/mails', document.baseURI))
  const counts = Array.from(adapter.modules.values(), ({ coefficients }) => coefficients.length)
  elements.coefficients.textContent = counts.reduce((sum, count) => sum + count).toLocaleString('en')
  await loaded.add(adapter, 'mails')
  await include('mails')
})

/** Runs one thing, with the controls that would disturb it switched off. */
async function job(run: () => Promise<void>): Promise<void> {
  setControls({ busy: true })
  elements.error.hidden = true
  try {
    await run()
  } catch (error) {
    showError(error)
    say('Nothing is running.')
  } finally {
    setControls({ busy: false })
  }
}

function setControls({ busy }: { busy: boolean }): void {
  const idle = !busy && encoder !== undefined
  choices.disabled = !idle
  for (const control of [elements.files, elements.take, elements.text]) control.disabled = !idle
  elements.progress.hidden = idle || encoder === undefined
}

/** Encodes the mails with a new choice, and goes on with it. */
async function include(choice: Choice): Promise<void> {
  if (encoder === undefined) return
  say(`Encoding ${mails.length} mails ${described(choice)} …`)
  const embeddings: number[][] = []
  elements.progress.max = mails.length
  for (let i = 0; i < mails.length; i += together) {
    elements.progress.value = i
    const batch = mails.slice(i, i + together)
    embeddings.push(...(await encoder.embedRows(batch.map(({ text }) => ({ text, choice })))))
  }
  placings.set(choice, new Placing(mails, embeddings))
  choices.add(choice)
  await choose(choice)
}

/** Swaps adapters; everything that is shown follows. */
async function choose(choice: Choice): Promise<void> {
  const placing = placings.get(choice)
  if (encoder === undefined || placing === undefined) return
  const milliseconds = encoder.swap(choice)
  chosen = choice
  mailsPanel?.show(placing)
  // Browsers round their clock, many to a tenth of a millisecond.
  elements.swap.textContent = `${milliseconds < 0.1 ? '< 0.1' : milliseconds.toFixed(1)} ms`
  await ask()
  say(`Ready. MiniLM runs ${described(choice)}.`)
}

/** Asks about the visitor's text: with what is chosen, then with everything in one batch. */
async function ask(): Promise<void> {
  const text = textPanel?.text
  const placing = placings.get(chosen)
  if (text && placing) {
    const [embedding = []] = (await encoder?.embed([text])) ?? []
    mailsPanel?.placeOwn(placing.score(embedding))
  }
  await textPanel?.show()
}

function take({ text }: Mail): void {
  elements.text.value = text
  ask().catch(showError)
}

/** An adapter of the visitor's own. */
async function load(): Promise<void> {
  const files = [...(elements.files.files ?? [])]
  if (encoder === undefined || files.length === 0) return
  // So that the same files can be chosen again.
  elements.files.value = ''
  const name = `yours ${placings.size - 1}`
  await encoder.add(files, name)
  await include(name)
}

async function fetchMails(): Promise<Mail[]> {
  const response = await fetch(new URL('mails.json', document.baseURI))
  if (!response.ok)
    throw new Error(`mails.json could not be fetched (${response.status}): run npm run playground again`)
  return response.json()
}

function described(choice: Choice): string {
  return choice === null ? 'without adapter' : `with the adapter “${choice}”`
}

function say(text: string): void {
  elements.status.textContent = text
}

function showError(error: unknown): void {
  console.error(error)
  elements.error.textContent = error instanceof Error ? error.message : `${error}`
  elements.error.hidden = false
}
