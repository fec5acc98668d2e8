/** The script of the page. It runs in browsers as it stands here, so it is plain JavaScript without templates. */
export const PAGE_SCRIPT = String.raw`
const SHOWN = 200
const MOST_BARS = 10
const byId = (id) => document.getElementById(id)
const base = location.pathname.replace(/\/?$/, '/')
let key
let model
let adapters = []
let running

class ApiError extends Error {
  constructor(status, message, param) {
    super(message)
    this.status = status
    this.param = param
  }
}

async function request(path, body, signal) {
  const headers = {}
  if (key !== undefined) headers.authorization = 'Bearer ' + key
  if (body !== undefined) headers['content-type'] = 'application/json'
  const response = await fetch(base + path, {
    method: body === undefined ? 'GET' : 'POST', headers, signal,
    body: body === undefined ? undefined : JSON.stringify(body),
  })
  if (response.ok) return response
  const answer = await response.json().catch(() => ({}))
  throw new ApiError(response.status, answer.error?.message ?? 'the server answered with status ' + response.status, answer.error?.param)
}

const post = async (path, body, signal) => (await request(path, body, signal)).json()

/** Calls back with each object of a stream of server-sent events. */
async function stream(path, body, signal, onEvent) {
  const response = await request(path, body, signal)
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const events = (rest + value).split('\n\n')
    rest = events.pop()
    for (const event of events) {
      const data = event.replace(/^data: /, '')
      if (data === '[DONE]') return
      const parsed = JSON.parse(data)
      if (parsed.error) throw new ApiError(500, parsed.error.message)
      onEvent(parsed)
    }
  }
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties)
  made.append(...children)
  return made
}

const labelled = (label, control) => element('label', {}, label, control)
const area = (name, value, rows = 3) => element('textarea', { name, rows, required: true, value })
const field = (name) => byId('ask').elements.namedItem(name)

function bars(results) {
  const list = element('div', { className: 'bars' })
  // With few labels both sides have the same order, which is easier to compare.
  const sorted = results.length < MOST_BARS ? results.toSorted((a, b) => (a.label < b.label ? -1 : 1)) : results
  for (const { label, score } of sorted) {
    const share = element('span', { className: 'share' })
    share.style.width = 100 * score + '%'
    list.append(
      element('span', { textContent: label }),
      element('span', { className: 'bar' }, share),
      element('span', { className: 'number', textContent: (100 * score).toFixed(1) + ' %' }),
    )
  }
  return list
}

const json = (value) => element('pre', { textContent: JSON.stringify(value, null, 2) })
const text = (value) => element('p', { className: 'text', textContent: value })
const nothing = () => element('p', { className: 'note', textContent: 'The model ended at once, without text.' })
const task = (name, inputs, parameters = {}) => (model, signal) => post('v1/tasks/' + name, { model, inputs, parameters }, signal)

/** For each task: the controls of its input, and the call for one adapter, which returns or fills an element. */
const TASKS = {
  'text-generation': {
    inputs: () => [
      labelled('Text', area('text', 'Once upon a time')),
      element('div', { className: 'controls' },
        labelled('Send as', element('select', { name: 'kind' }, new Option('Message of a chat', 'chat', model.chat, model.chat), new Option('Text to continue', 'plain', !model.chat, !model.chat))),
        labelled('Tokens, at most', element('input', { name: 'tokens', type: 'number', min: 1, max: 100000, value: 200, required: true })),
        labelled('Temperature', element('input', { name: 'temperature', type: 'number', min: 0, max: 2, step: 0.1, value: 0, required: true }))),
    ],
    async answer(name, signal, show) {
      const isChat = field('kind').value === 'chat'
      const content = field('text').value
      const common = { model: name, stream: true, max_tokens: Number(field('tokens').value), temperature: Number(field('temperature').value) }
      const shown = text('')
      show(shown)
      const body = isChat ? { ...common, messages: [{ role: 'user', content }] } : { ...common, prompt: content }
      await stream(isChat ? 'v1/chat/completions' : 'v1/completions', body, signal, ({ choices }) => {
        shown.append(choices[0]?.delta?.content ?? choices[0]?.text ?? '')
      })
      if (shown.textContent === '') show(nothing())
    },
  },
  'text-classification': {
    inputs: () => [labelled('Text', area('text', 'The parcel came two weeks late.'))],
    answer: async (model, signal, show) => show(bars(await task('text-classification', field('text').value, { top_k: MOST_BARS })(model, signal))),
  },
  'zero-shot-classification': {
    inputs: () => [labelled('Text', area('text', 'The parcel came two weeks late.')), labelled('Labels, separated by commas', element('input', { name: 'labels', value: 'complaint, praise', required: true }))],
    async answer(model, signal, show) {
      const candidate_labels = field('labels').value.split(',').map((label) => label.trim()).filter((label) => label)
      const { labels, scores } = await task('zero-shot-classification', field('text').value, { candidate_labels })(model, signal)
      show(bars(labels.map((label, i) => ({ label, score: scores[i] }))))
    },
  },
  'image-classification': {
    inputs: () => [labelled('Image', element('input', { name: 'image', type: 'file', accept: 'image/png,image/jpeg,image/webp,image/gif', required: true }))],
    async answer(model, signal, show) {
      const url = await new Promise((resolve, reject) => {
        const reader = new FileReader()
        reader.onload = () => resolve(reader.result)
        reader.onerror = () => reject(new Error('the file cannot be read'))
        reader.readAsDataURL(field('image').files[0])
      })
      show(bars(await task('image-classification', url, { top_k: MOST_BARS })(model, signal)))
    },
  },
  'feature-extraction': {
    inputs: () => [labelled('First text', area('first', 'The parcel came two weeks late.', 2)), labelled('Second text', area('second', 'My order has still not arrived.', 2))],
    async answer(model, signal, show) {
      const { data } = await post('v1/embeddings', { model, input: [field('first').value, field('second').value] }, signal)
      const [a, b] = data.map(({ embedding }) => embedding)
      const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0)
      const similarity = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
      show(element('div', {}, element('p', { className: 'big', textContent: similarity.toFixed(3) }), element('p', { className: 'note', textContent: 'Cosine similarity of the two texts: 1 is the same direction, 0 is unrelated.' })))
    },
  },
  'fill-mask': {
    inputs: () => [labelled('Text with a mask', area('text', 'The parcel came two [MASK] late.'))],
    async answer(model, signal, show) {
      const words = await task('fill-mask', field('text').value, { top_k: MOST_BARS })(model, signal)
      show(bars(words.map(({ token_str, score }) => ({ label: token_str, score }))))
    },
  },
  'question-answering': {
    inputs: () => [labelled('Question', element('input', { name: 'question', value: 'When did the parcel come?', required: true })), labelled('Text with the answer', area('context', 'The parcel came two weeks late.'))],
    async answer(model, signal, show) {
      const { answer, score } = await task('question-answering', { question: field('question').value, context: field('context').value })(model, signal)
      show(element('div', {}, text(answer), element('p', { className: 'note', textContent: 'Score: ' + score.toFixed(3) })))
    },
  },
}

/** Tasks that make a text of a text show it, others the JSON of the answer. */
const OTHER = (name) => ({
  inputs: () => [labelled('Text', area('text', ''))],
  async answer(model, signal, show) {
    const given = await task(name, field('text').value)(model, signal)
    const made = given[0]?.generated_text ?? given[0]?.summary_text ?? given[0]?.translation_text
    show(made === undefined ? json(given) : made === '' ? nothing() : text(made))
  },
})

/** Fills the list of a side with the names that contain the searched text. Thousands of rows would make the page slow. */
function search(side) {
  const wanted = side.querySelector('input').value.trim().toLowerCase()
  const select = side.querySelector('select')
  const chosen = select.value
  const found = adapters.filter((name) => name.toLowerCase().includes(wanted))
  const shown = found.slice(0, SHOWN)
  const options = shown.map((name) => new Option(name, name))
  if (wanted === '') options.unshift(new Option(model.id + ' (no adapter)', model.id))
  select.replaceChildren(...options)
  select.value = chosen
  if (select.selectedIndex < 0) select.selectedIndex = 0
  const more = found.length - shown.length
  side.querySelector('.note').textContent = count(found.length) + (more > 0 ? ', of which ' + SHOWN + ' are listed: search for the others' : '')
}

const count = (adapters) => adapters.toLocaleString('en') + (adapters === 1 ? ' adapter' : ' adapters')

function report(error) {
  const isKey = error.status === 401
  byId('key-form').hidden = !isKey && key === undefined
  byId('problem').hidden = isKey && key === undefined
  byId('problem').textContent = isKey ? 'The server does not accept this key.' : error.message
  byId('about').textContent = isKey && key === undefined ? 'This server needs an API key.' : ''
  if (isKey) byId('key').focus()
}

async function load() {
  byId('problem').hidden = true
  try {
    const { data } = await (await request('v1/models')).json()
    model = data[0]
    adapters = data.slice(1).map(({ id }) => id)
  } catch (error) {
    report(error)
    return
  }
  byId('key-form').hidden = true
  byId('model').textContent = model.id
  byId('about').textContent = 'A model for the task ' + model.task + ', with ' + count(adapters.length) + '.'
  byId('inputs').replaceChildren(...kind().inputs())
  byId('ask').hidden = false
  for (const side of document.querySelectorAll('fieldset')) {
    side.querySelector('input').oninput = () => search(side)
    search(side)
  }
  const right = document.querySelector('fieldset[data-side=right] select')
  if (adapters.length > 0) right.selectedIndex = 1
}

const kind = () => TASKS[model.task] ?? OTHER(model.task)

async function answer(side, signal) {
  const name = document.querySelector('fieldset[data-side=' + side + '] select').value || model.id
  const panel = document.querySelector('#answers [data-side=' + side + ']')
  const place = panel.querySelector('.answer')
  const note = panel.querySelector('.note')
  panel.querySelector('h2').textContent = name
  place.replaceChildren()
  // Screen readers read the answer when it is complete.
  panel.setAttribute('aria-busy', 'true')
  note.textContent = 'Waiting for the server …'
  const begin = performance.now()
  const took = () => ((performance.now() - begin) / 1000).toFixed(2) + ' s'
  try {
    await kind().answer(name, signal, (shown) => place.replaceChildren(shown))
    note.textContent = took()
  } catch (error) {
    note.textContent = signal.aborted ? 'Stopped after ' + took() : ''
    if (signal.aborted) return
    place.append(element('p', { className: 'failed', textContent: error.message }))
    if (error.status === 401) report(error)
  } finally {
    panel.setAttribute('aria-busy', 'false')
  }
}

byId('ask').onsubmit = async (event) => {
  event.preventDefault()
  if (running) return
  running = new AbortController()
  byId('run').disabled = true
  byId('stop').disabled = false
  byId('answers').hidden = false
  await Promise.all([answer('left', running.signal), answer('right', running.signal)])
  running = undefined
  byId('run').disabled = false
  byId('stop').disabled = true
}
byId('stop').onclick = () => running?.abort()
byId('key-form').onsubmit = (event) => {
  event.preventDefault()
  key = byId('key').value
  load()
}
load()
`
