/** The digits page: one model on one backend, one job at a time, and errors as messages on the page. */
import { type Adapter, CONFIG_FILE, MODEL_FILE } from '@fourierft/core'
import { score } from '@fourierft/quickstart/browser'
import { type Backend, backendNames, backends, fastestBackend, startBackend } from './compute.js'
import { Curve } from './curve.js'
import { DigitModel } from './digit-model.js'
import { download } from './download.js'
import { DrawingPanel } from './drawing-panel.js'
import { elements } from './elements.js'
import { type Data, fetchData } from './fetch-data.js'
import { OnnxPanel } from './onnx-panel.js'

const percent = (fraction: number): string => `${(100 * fraction).toFixed(1)} %`

const loss = new Curve(elements.lossCurve, { title: 'Loss', format: (value) => value.toFixed(1) })
const accuracy = new Curve(elements.accuracyCurve, {
  title: 'Digits classified correctly',
  top: 1,
  format: (value) => `${Math.round(100 * value)} %`,
})
const panel = new DrawingPanel(showError)

let data: Data | undefined
let model: DigitModel | undefined
let onnxPanel: OnnxPanel | undefined
/** The adapter, kept during a change of the backend, also if the new backend does not start. */
let savedAdapter: Adapter | undefined
/** Stops the running training. */
let running: AbortController | undefined

elements.form.addEventListener('submit', (event) => {
  event.preventDefault()
  void job(train)
})
elements.stop.addEventListener('click', () => running?.abort())
elements.backend.addEventListener('change', () => void job(() => use(chosenBackend())))
elements.sample.addEventListener('click', () => data && panel.take(data.test))
elements.download.addEventListener('click', () => void job(save))
elements.files.addEventListener('change', () => void job(load))
addEventListener('unhandledrejection', ({ reason }) => showError(reason))

void job(async () => {
  data = await fetchData()
  onnxPanel = new OnnxPanel(data)
  elements.testCount.textContent = `${data.test.count}`
  await use(await fastestBackend())
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
  elements.backend.disabled = busy || data === undefined
  elements.sample.disabled = data === undefined
  for (const control of [elements.train, elements.download, elements.files])
    control.disabled = busy || model === undefined
}

/** Changes the backend and keeps the adapter. */
async function use(backend: Backend): Promise<void> {
  if (data === undefined) return
  elements.backend.value = backend
  say(`Starting ${backendNames[backend]} …`)
  if (model) savedAdapter = await model.adapter()
  panel.model = undefined
  model?.dispose()
  model = undefined
  await startBackend(backend)
  const next = new DigitModel(data)
  if (savedAdapter) await next.load(savedAdapter)
  model = next
  panel.model = next
  elements.parameters.textContent = next.parameters.toLocaleString('en')
  await showFrozenScore(next, data)
  if (savedAdapter) await showTunedScore(next, data)
  say(`Ready. The backend is ${backendNames[backend]}.`)
}

async function train(): Promise<void> {
  if (model === undefined || data === undefined) return
  const steps = elements.steps.valueAsNumber
  running = new AbortController()
  const { signal } = running
  elements.stop.disabled = false
  elements.tunedScore.textContent = '…'
  onnxPanel?.clear()
  elements.progress.max = steps
  elements.progress.value = 0
  loss.start(steps)
  accuracy.start(steps)
  say(`Fine-tuning: ${steps} steps on ${backendNames[chosenBackend()]} …`)
  let done = 0
  try {
    await model.train({
      steps,
      signal,
      onStep(step, batch) {
        done = step
        elements.progress.value = step
        loss.add(batch.loss)
        accuracy.add(batch.accuracy)
      },
    })
  } finally {
    elements.stop.disabled = true
    running = undefined
  }
  panel.predict()
  await showTunedScore(model, data)
  say(
    `${signal.aborted ? 'Stopped' : 'Fine-tuned'} after ${done} steps: ${elements.tunedScore.textContent} classified correctly.`,
  )
}

async function save(): Promise<void> {
  const adapter = await model?.adapter()
  if (adapter === undefined) return
  const { config, model: coefficients } = adapter.toBytes()
  download(CONFIG_FILE, config)
  download(MODEL_FILE, coefficients)
  say('The adapter’s two files are in your downloads.')
}

async function load(): Promise<void> {
  const files = [...(elements.files.files ?? [])]
  if (model === undefined || data === undefined || files.length === 0) return
  // Lets the user choose the same files again.
  elements.files.value = ''
  await model.load(files)
  panel.predict()
  await showTunedScore(model, data)
  say(
    `Loaded ${files.map(({ name }) => name).join(' and ')}: ${elements.tunedScore.textContent} classified correctly.`,
  )
}

async function showFrozenScore(model: DigitModel, { test }: Data): Promise<void> {
  say('Testing the frozen model on rotated digits …')
  const frozen = score(await model.testLogits('frozen'), test.labels)
  elements.frozenScore.textContent = percent(frozen.accuracy)
  loss.baseline = frozen.loss
  accuracy.baseline = frozen.accuracy
}

/** Shows the score in TensorFlow.js and in ONNX Runtime Web. */
async function showTunedScore(model: DigitModel, { test }: Data): Promise<void> {
  say('Testing the fine-tuned model …')
  const logits = await model.testLogits('tuned')
  elements.tunedScore.textContent = percent(score(logits, test.labels).accuracy)
  say('Testing it in ONNX Runtime Web …')
  await onnxPanel?.compare(await model.adapter(), logits)
}

function chosenBackend(): Backend {
  return backends.find((name) => name === elements.backend.value) ?? 'wasm'
}

function say(text: string): void {
  elements.status.textContent = text
}

function showError(error: unknown): void {
  console.error(error)
  elements.error.textContent = error instanceof Error ? error.message : `${error}`
  elements.error.hidden = false
}
