/** The classifier page: the visitor's examples, one training at a time in a worker, and errors as messages on the page. */
import { CONFIG_FILE, MODEL_FILE } from '@fourierft/core'
import { Curve } from '../curve.js'
import { download } from '../download.js'
import type { Answer } from './calls.js'
import { Classifier, ClassifierError } from './classifier.js'
import { elements } from './elements.js'
import { examples } from './examples.js'
import { ExamplesList } from './examples-list.js'

/** The text is classified after a pause in typing of this many milliseconds. */
const typingPause = 250

const list = new ExamplesList(elements.examples, elements.labels)
const loss = new Curve(elements.lossCurve, { title: 'Loss', format: (value) => value.toFixed(1) })
const classifier = new Classifier(({ step, steps, loss: value }) => {
  if (step === 1) loss.start(steps)
  loss.add(value)
  elements.progress.max = steps
  elements.progress.value = step
  say(`Training: step ${step} of ${steps} …`)
})

let isLoaded = false
let isTrained = false
let typing: ReturnType<typeof setTimeout> | undefined
/** The number of the latest text: a late answer for an older one is not shown. */
let latest = 0

for (const example of examples) list.add(example)
elements.add.addEventListener('click', () => list.add({ text: '', label: '' }).focus())
elements.clear.addEventListener('click', () => {
  list.clear()
  list.add({ text: '', label: '' }).focus()
})
elements.form.addEventListener('submit', (event) => {
  event.preventDefault()
  void job(train)
})
elements.stop.addEventListener('click', () => void classifier.call('stop'))
elements.download.addEventListener('click', () => void job(save))
elements.text.addEventListener('input', () => {
  clearTimeout(typing)
  typing = setTimeout(() => classify().catch(showError), typingPause)
})
addEventListener('unhandledrejection', ({ reason }) => showError(reason))

void job(async () => {
  say('Loading the encoder …')
  await classifier.call('load', document.baseURI)
  isLoaded = true
  say('Ready. Edit the examples, then train.')
})

/** Runs one job with the conflicting controls disabled. */
async function job(run: () => Promise<void>): Promise<void> {
  setControls({ busy: true })
  elements.error.hidden = true
  try {
    await run()
  } catch (error) {
    say('Nothing is running.')
    showError(error)
  } finally {
    setControls({ busy: false })
  }
}

function setControls({ busy }: { busy: boolean }): void {
  elements.train.disabled = busy || !isLoaded
  elements.stop.disabled = !busy || !isLoaded
  elements.download.disabled = busy || !isTrained
  elements.text.disabled = !isTrained
}

async function train(): Promise<void> {
  const rows = list.read()
  elements.progress.value = 0
  say(`Preparing ${rows.length} examples …`)
  const { right, coefficients, seconds, steps, isStopped } = await classifier.call('train', rows, {
    epochs: elements.epochs.valueAsNumber,
    nFrequency: elements.frequencies.valueAsNumber,
  })
  isTrained = true
  elements.right.textContent = `${right} of ${rows.length}`
  elements.coefficients.textContent = coefficients.toLocaleString('en')
  elements.seconds.textContent = `${seconds.toFixed(1)} s`
  await classify()
  say(`${isStopped ? 'Stopped' : 'Trained'} after ${steps} steps. Try the classifier on new text.`)
}

/** Shows the labels of the visitor's text. */
async function classify(): Promise<void> {
  const request = ++latest
  const text = elements.text.value.trim()
  const answers = text === '' ? [] : await classifier.call('classify', text)
  if (request === latest) elements.answers.replaceChildren(...answers.map(answerRow))
}

async function save(): Promise<void> {
  const { config, model } = await classifier.call('save')
  download(CONFIG_FILE, config)
  download(MODEL_FILE, model)
  say('The adapter’s two files are in your downloads.')
}

function answerRow({ label, score }: Answer, position: number): HTMLTableRowElement {
  const row = document.createElement('tr')
  const head = document.createElement('th')
  head.scope = 'row'
  head.textContent = label
  row.append(head)
  const cell = row.insertCell()
  cell.className = position === 0 ? 'tuned likeliest' : 'tuned'
  cell.textContent = `${(100 * score).toFixed(1)} %`
  cell.style.setProperty('--part', `${score}`)
  return row
}

function say(text: string): void {
  elements.status.textContent = text
}

function showError(error: unknown): void {
  console.error(error)
  elements.error.textContent = error instanceof Error ? error.message : `${error}`
  elements.error.hidden = false
  if (error instanceof ClassifierError && error.row !== undefined) list.mark(error.row, error.message)
  else elements.error.scrollIntoView({ block: 'nearest' })
}
