/** The encoder page: one encoder with interchangeable adapters, and errors as messages on the page. */
import { loadAdapter } from '@fourierft/core'
import { Choices } from './choices.js'
import { elements } from './elements.js'
import type { Email } from './email.js'
import { EmailComparison } from './email-comparison.js'
import { EmailsPanel } from './emails-panel.js'
import { type Choice, Encoder } from './encoder.js'
import { TextPanel } from './text-panel.js'

/** Emails in a batch. The page handles events between batches. */
const batchSize = 8
/** The text is encoded after a pause in typing of this many milliseconds. */
const typingPause = 250

const choices = new Choices(elements.choices, (choice) => void job(() => choose(choice)))
/** The scores of the emails without an adapter and with each adapter. */
const comparisons = new Map<Choice, EmailComparison>()

let emails: readonly Email[] = []
let encoder: Encoder | undefined
let emailsPanel: EmailsPanel | undefined
let textPanel: TextPanel | undefined
let chosen: Choice = null
let typing: ReturnType<typeof setTimeout> | undefined

elements.files.addEventListener('change', () => void job(load))
elements.take.addEventListener('click', () => {
  const unknown = emails.filter(({ isKnown }) => !isKnown)
  const email = unknown[Math.floor(Math.random() * unknown.length)]
  if (email) take(email)
})
elements.text.addEventListener('input', () => {
  clearTimeout(typing)
  typing = setTimeout(() => encodeText().catch(showError), typingPause)
})
addEventListener('unhandledrejection', ({ reason }) => showError(reason))

void job(async () => {
  say('Loading the encoder …')
  emails = await fetchEmails()
  const loaded = await Encoder.load()
  encoder = loaded
  emailsPanel = new EmailsPanel(emails, take)
  textPanel = new TextPanel(loaded, comparisons)
  await include(null)
  const adapter = await loadAdapter(new URL('adapters/emails', document.baseURI))
  const counts = Array.from(adapter.modules.values(), ({ coefficients }) => coefficients.length)
  elements.coefficients.textContent = counts.reduce((sum, count) => sum + count).toLocaleString('en')
  await loaded.add(adapter, 'emails')
  await include('emails')
})

/** Runs one job with the conflicting controls disabled. */
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

/** Encodes the emails with a new choice and selects it. */
async function include(choice: Choice): Promise<void> {
  if (encoder === undefined) return
  say(`Encoding ${emails.length} emails ${described(choice)} …`)
  const embeddings: number[][] = []
  elements.progress.max = emails.length
  for (let i = 0; i < emails.length; i += batchSize) {
    elements.progress.value = i
    const batch = emails.slice(i, i + batchSize)
    embeddings.push(...(await encoder.embedRows(batch.map(({ text }) => ({ text, choice })))))
  }
  comparisons.set(choice, new EmailComparison(emails, embeddings))
  choices.add(choice)
  await choose(choice)
}

/** Swaps adapters and updates the page. */
async function choose(choice: Choice): Promise<void> {
  const comparison = comparisons.get(choice)
  if (encoder === undefined || comparison === undefined) return
  const milliseconds = encoder.swap(choice)
  chosen = choice
  emailsPanel?.show(comparison)
  // Browsers round the time, many of them to a tenth of a millisecond.
  elements.swap.textContent = `${milliseconds < 0.1 ? '< 0.1' : milliseconds.toFixed(1)} ms`
  await encodeText()
  say(`Ready. MiniLM runs ${described(choice)}.`)
}

/** Encodes the visitor's text with the chosen adapter, then with all adapters in one batch. */
async function encodeText(): Promise<void> {
  const text = textPanel?.text
  const comparison = comparisons.get(chosen)
  if (text && comparison) {
    const [embedding = []] = (await encoder?.embed([text])) ?? []
    emailsPanel?.setOwnScore(comparison.score(embedding))
  }
  await textPanel?.show()
}

function take({ text }: Email): void {
  elements.text.value = text
  encodeText().catch(showError)
}

/** Loads the visitor's adapter. */
async function load(): Promise<void> {
  const files = [...(elements.files.files ?? [])]
  if (encoder === undefined || files.length === 0) return
  // Lets the user choose the same files again.
  elements.files.value = ''
  const name = `yours ${comparisons.size - 1}`
  await encoder.add(files, name)
  await include(name)
}

async function fetchEmails(): Promise<Email[]> {
  const response = await fetch(new URL('emails.json', document.baseURI))
  if (!response.ok)
    throw new Error(`emails.json could not be fetched (${response.status}); run npm run playground again`)
  return response.json()
}

function described(choice: Choice): string {
  return choice === null ? 'without an adapter' : `with the adapter “${choice}”`
}

function say(text: string): void {
  elements.status.textContent = text
}

function showError(error: unknown): void {
  console.error(error)
  elements.error.textContent = error instanceof Error ? error.message : `${error}`
  elements.error.hidden = false
}
