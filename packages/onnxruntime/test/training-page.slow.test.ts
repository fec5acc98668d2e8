/** Training in a page that Vite has bundled: in a Worker with the code of docs/training.md, on the main thread, and with ONNX Runtime's own proxy. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadAdapter } from '@fourierft/core'
import { createModel, DataType } from '@fourierft/onnx'
import { type Browser, chromium, type Page } from 'playwright'
import { build, defaultClientConditions, type InlineConfig, type PreviewServer, preview } from 'vite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CHROMIUM_FLAGS, findChromium } from '../../../test/chromium.js'

const program = findChromium()
const TIMEOUT = 300_000
const STEPS = 12

let folder: string
let server: PreviewServer
let browser: Browser

const BATCHES = `
export const batches = Array.from({ length: 4 }, (_, b) => {
  const ids = BigInt64Array.from({ length: 40 }, (_, i) => BigInt(((i + 40 * b) * 7 + ((i + b) % 11) * 3) % 30))
  const labels = BigInt64Array.from({ length: 8 }, (_, row) => ids[5 * row + 2] % 2n)
  return { ids: { data: ids, dims: [8, 5] }, labels: { data: labels, dims: [8] } }
})
export const textAndNumbers = ({ config, model }) => ({ config: new TextDecoder().decode(config), model: Array.from(model) })`

/** Pages give what they measured to `window.result`. */
const IN_WORKER = `
import { batches, textAndNumbers } from './batches.js'
import { trainInWorker } from './page.js'

const losses = []
window.result = trainInWorker('/model.onnx', batches, (step, loss) => losses.push(loss))
  .then((files) => trainInWorker('/missing.onnx', batches).catch(({ message }) => ({ files, message })))
  .then(({ files, message }) => ({ losses, message, ...textAndNumbers(files) }))`

const ON_MAIN_THREAD = `
import { createSession, createTrainer, crossEntropy } from '@fourierft/onnxruntime'
import * as ort from 'onnxruntime-web'
import { batches, textAndNumbers } from './batches.js'

ort.env.wasm.proxy = location.search === '?proxy'
async function train() {
  const session = await createSession('/model.onnx', { ort })
  await session.addAdapter('mine', { targetModules: ['query', 'value'], nFrequency: 1000 })
  const trainer = await createTrainer(session, { adapter: 'mine', loss: crossEntropy('logits') })
  const tensor = ({ data, dims }) => new ort.Tensor('int64', data, dims)
  const dataset = batches.map(({ ids, labels }) => ({ feeds: { input_ids: tensor(ids) }, labels: tensor(labels) }))
  // The longest time between two messages, of which one always waits.
  let [longestGap, messages, last] = [0, 0, performance.now()]
  const { port1, port2 } = new MessageChannel()
  port1.onmessage = () => {
    const now = performance.now()
    longestGap = Math.max(longestGap, now - last)
    last = now
    messages++
    port2.postMessage(undefined)
  }
  port2.postMessage(undefined)
  const { steps, longestBlock } = await trainer.fit(dataset)
  port1.close()
  const files = (await session.getAdapter('mine')).toBytes()
  const length = dataset[0].feeds.input_ids.data.length
  await session.release()
  return { losses: steps.map(({ loss }) => loss), longestBlock, longestGap, messages, length, ...textAndNumbers(files) }
}
window.result = train()`

/** A classifier: the tokens' embeddings, two adaptable layers, their mean, and two classes. */
function classifier(): Uint8Array {
  const width = 40
  const tensor = (name: string, dims: readonly [number, number], phase: number) => {
    const values = Float32Array.from({ length: dims[0] * dims[1] }, (_, i) => 0.4 * Math.sin(1.3 * i + phase))
    return { name, dims, dataType: DataType.float, data: new Uint8Array(values.buffer) }
  }
  const product = (module: string, x: string, y: string) => ({
    name: `/encoder/${module}/MatMul`,
    opType: 'MatMul',
    inputs: [x, `encoder.${module}.weight`],
    outputs: [y],
  })
  const graph = {
    name: 'main',
    nodes: [
      { opType: 'Gather', inputs: ['embeddings', 'input_ids'], outputs: ['x'] },
      product('query', 'x', 'h'),
      { opType: 'Tanh', inputs: ['h'], outputs: ['t'] },
      product('value', 't', 'v'),
      {
        opType: 'ReduceMean',
        inputs: ['v'],
        outputs: ['m'],
        attributes: { axes: { ints: [1] }, keepdims: { int: 0 } },
      },
      product('classifier', 'm', 'logits'),
    ],
    inputs: [{ name: 'input_ids', dataType: DataType.int64, dims: ['batch', 'tokens'] }],
    outputs: [{ name: 'logits', dataType: DataType.float, dims: ['batch', 2] }],
    initializers: [
      tensor('embeddings', [30, width], 1),
      tensor('encoder.query.weight', [width, width], 2),
      tensor('encoder.value.weight', [width, width], 3),
      tensor('encoder.classifier.weight', [width, 2], 4),
    ],
  }
  return createModel(graph, { opset: 17 }).toBytes()
}

beforeAll(async () => {
  // Inside the package, so that the imports resolve as they do for users.
  const cache = fileURLToPath(new URL('../.cache', import.meta.url))
  mkdirSync(cache, { recursive: true })
  folder = mkdtempSync(join(cache, 'page-'))
  const docs = readFileSync(new URL('../../../docs/training.md', import.meta.url), 'utf8')
  const blocks = Array.from(docs.matchAll(/^```js (\S+\.js)\n(.*?)^```$/gms), ([, name, code]) => [
    name,
    code,
  ])
  expect(blocks.map(([name]) => name)).toEqual(['worker.js', 'page.js'])
  const page = (script: string) => `<!doctype html><script type="module" src="./${script}"></script>`
  mkdirSync(join(folder, 'public'))
  writeFileSync(join(folder, 'public', 'model.onnx'), classifier())
  for (const [name, code] of [
    ...blocks,
    ['batches.js', BATCHES],
    ['in-worker.js', IN_WORKER],
    ['on-main-thread.js', ON_MAIN_THREAD],
    ['in-worker.html', page('in-worker.js')],
    ['on-main-thread.html', page('on-main-thread.js')],
  ])
    writeFileSync(join(folder, name), code)
  const config: InlineConfig = {
    configFile: false,
    root: folder,
    logLevel: 'error',
    resolve: { conditions: ['@fourierft/source', ...defaultClientConditions] },
    build: {
      target: 'es2022',
      rolldownOptions: {
        input: ['in-worker.html', 'on-main-thread.html'].map((name) => join(folder, name)),
        // The proxy runs the file of ONNX Runtime in a Worker, so that file must contain nothing else.
        output: { codeSplitting: { groups: [{ name: 'onnxruntime-web', test: /onnxruntime-web/ }] } },
      },
    },
    preview: { port: 0 },
  }
  if (program === undefined) return
  await build(config)
  server = await preview(config)
  browser = await chromium.launch({ executablePath: program, args: CHROMIUM_FLAGS, timeout: TIMEOUT })
}, TIMEOUT)

afterAll(async () => {
  await browser?.close()
  await server?.close()
  rmSync(folder, { recursive: true })
})

interface Result {
  readonly losses: readonly number[]
  /** The text of the adapter's configuration. */
  readonly config: string
  /** The bytes of the adapter's weights. */
  readonly model: readonly number[]
}

interface MainThreadResult extends Result {
  readonly longestBlock: number
  readonly longestGap: number
  readonly messages: number
  /** The number of ids in a batch after the training. */
  readonly length: number
}

/** Opens a page, and returns what it gives to `window.result`. */
async function resultOf<T extends Result>(path: string): Promise<T> {
  const page: Page = await browser.newPage()
  const errors: string[] = []
  page.on('pageerror', ({ message }) => errors.push(message))
  await page.goto(new URL(path, server.resolvedUrls?.local[0]).href)
  const result = await page.evaluate(() => (window as unknown as { result: Promise<T> }).result)
  await page.close()
  expect(errors).toEqual([])
  expect(result.losses).toHaveLength(STEPS)
  expect(result.losses.at(-1)).toBeLessThan(0.8 * result.losses[0])
  return result
}

describe.skipIf(program === undefined)(
  `a bundled page${program ? '' : ' (skipped: there is no Chromium)'}`,
  () => {
    let inWorker: Result & { readonly message: string }

    test(
      'trains in a Worker, with the code of the documentation',
      async () => {
        inWorker = await resultOf('in-worker.html')
        expect(inWorker.message).toMatch(/missing\.onnx.*404/)
        const { config, model } = inWorker
        const adapter = await loadAdapter({
          config: new TextEncoder().encode(config),
          model: Uint8Array.from(model),
        })
        expect([...adapter.modules.keys()]).toEqual(['encoder.query', 'encoder.value'])
      },
      TIMEOUT,
    )

    test(
      'trains on the main thread, handles messages between the batches, and reports how long it did not',
      async () => {
        const result = await resultOf<MainThreadResult>('on-main-thread.html')
        expect([result.losses, result.model]).toEqual([inWorker.losses, inWorker.model])
        expect(result.messages).toBeGreaterThanOrEqual(STEPS)
        expect(result.longestBlock).toBeGreaterThan(0)
        // Browsers round their clock to at most a millisecond.
        expect(result.longestBlock).toBeLessThanOrEqual(result.longestGap + 1)
      },
      TIMEOUT,
    )

    test(
      'trains with the proxy of onnxruntime-web, which does not take the memory of the batches',
      async () => {
        const result = await resultOf<MainThreadResult>('on-main-thread.html?proxy')
        expect([result.losses, result.model]).toEqual([inWorker.losses, inWorker.model])
        expect(result.length).toBe(40)
      },
      TIMEOUT,
    )
  },
)
