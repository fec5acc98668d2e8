/** One adapter's files change nothing for the other adapters, and a large body nothing for the next request on its connection. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { type AdapterBytes, CONFIG_FILE, loadAdapter, MODEL_FILE } from '@fourierft/core'
// Imported before transformers.js, because it notes how models are loaded.
import '@fourierft/transformers'
import { env, pipeline } from '@huggingface/transformers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Pipe } from '../src/engine.js'
import { createHandler, type Handler } from '../src/handler.js'
import { createEngine, type ModelEngine } from '../src/model-engine.js'
import { listen } from '../src/node.js'
import { folderResolver } from '../src/resolver/folder.js'
import { adapterOf, bytesOf, firstVersion, overflowing } from './chaos/versions.js'

const { signal } = new AbortController()
let root: string
let pipe: Pipe
let engine: ModelEngine
let handler: Handler
const runs: number[] = []

beforeEach(async () => {
  env.localModelPath = fileURLToPath(new URL('../../transformers/test/__fixtures__/', import.meta.url))
  env.allowRemoteModels = false
  root = mkdtempSync(join(tmpdir(), 'fourierft-hostile-'))
  pipe = (await pipeline('text-classification', 'bert', { dtype: 'fp32' })) as unknown as Pipe
  engine = await createEngine(pipe, {
    name: 'bert',
    native: false,
    resolver: folderResolver(root),
    onBatch: (batch) => runs.push(batch.runs),
  })
  handler = createHandler(engine, { logger: false })
})
afterEach(async () => {
  await engine.close()
  await pipe.model.dispose()
  rmSync(root, { recursive: true })
})

function write(name: string, { config, model }: AdapterBytes): void {
  mkdirSync(join(root, name))
  writeFileSync(join(root, name, CONFIG_FILE), config)
  writeFileSync(join(root, name, MODEL_FILE), model)
}

async function post(path: string, body: object) {
  const response = await handler(
    new Request(`http://server${path}`, { method: 'POST', body: JSON.stringify(body) }),
  )
  return { status: response.status, json: JSON.parse(await response.text()) }
}

const classify = (model: string) =>
  post('/v1/tasks/text-classification', { model, inputs: 'the cat', parameters: { top_k: 10 } })

test('after an adapter that no run accepts, the adapters of its kind and the base model still share batches', async () => {
  const names = Array.from({ length: 6 }, (_, i) => `good-${i}`)
  for (const [i, name] of names.entries())
    write(name, bytesOf({ ...firstVersion('bert', 0, 1), initialSeed: i }))
  write('hostile', overflowing(firstVersion('bert', 0, 1)))
  // It is the first one, so its graph is opened for it.
  expect((await classify('hostile')).status).toBe(422)
  for (const name of names) await engine.prepare(name, { signal })
  expect(engine.joining).toBe('padded')
  runs.length = 0
  await Promise.all(names.map(classify))
  expect(Math.max(...runs)).toBe(names.length)
})

test('a head of PEFT, which has no names for its classes, answers with as many labels as it has classes', async () => {
  const version = firstVersion('bert', 2, 1)
  const { config, model } = adapterOf(version).toBytes()
  // Files of PEFT have no labels.
  write('plain', {
    config,
    model: Buffer.from(Buffer.from(model).toString('latin1').replace('"id2label"', '"id2xxxxx"'), 'latin1'),
  })
  const { json } = await classify('plain')
  const labels = json.map(({ label }: { label: unknown }) => label)
  expect(new Set(labels).size).toBe(5)
  expect(labels).not.toContain(undefined)
  const inputs = [{ name: 'text', datatype: 'BYTES', shape: [1], data: ['the cat'] }]
  const infer = await post('/v2/models/plain/infer', { inputs, parameters: { top_k: 10 } })
  expect(infer.json.outputs[0].data).toEqual(labels)
})

test('a request that begins after an adapter was written finds it, although an earlier request did not', async () => {
  const resolver = folderResolver(root)
  const early = resolver.find('new', signal)
  // The process is busy while the system has already answered the early request.
  const busy = performance.now() + 100
  while (performance.now() < busy);
  write('new', bytesOf(firstVersion('bert', 0, 1)))
  expect(await resolver.find('new', signal)).toBeDefined()
  await early
})

/** Replaces a file by a pipe and by a file, in turn, without a pause. */
const SWAP = `
  const { linkSync, renameSync } = require('node:fs')
  const { pipe, file, target } = require('node:worker_threads').workerData
  for (let i = 0; ; i++)
    for (const source of [pipe, file]) {
      linkSync(source, target + i)
      renameSync(target + i, target)
    }
`

test.skipIf(process.platform === 'win32')('reading a file that becomes a pipe ends', async () => {
  write('hostile', bytesOf(firstVersion('bert', 0, 1)))
  const [fifo, file] = [join(root, 'pipe'), join(root, 'file')]
  execFileSync('mkfifo', [fifo])
  writeFileSync(file, bytesOf(firstVersion('bert', 0, 1)).model)
  const target = join(root, 'hostile', MODEL_FILE)
  const worker = new Worker(SWAP, { eval: true, workerData: { pipe: fifo, file, target } })
  const end = performance.now() + 3000
  let ended = 0
  const readAll = async () => {
    while (performance.now() < end) {
      await loadAdapter(join(root, 'hostile')).catch(() => undefined)
      ended++
    }
    return 'ended'
  }
  try {
    const reads = Promise.all([readAll(), readAll()])
    expect(await Promise.race([reads, sleep(20_000, 'hangs')])).toEqual(['ended', 'ended'])
    expect(ended).toBeGreaterThan(10)
  } finally {
    await worker.terminate()
    // Threads that wait for a writer go on.
    closeSync(openSync(fifo, 'r+'))
  }
})

test('a connection whose body was too large gets an answer to its next request, or is announced to be closed', async () => {
  const server = await listen(engine, { port: 0, logger: false, maxBodyBytes: 1000 })
  const { hostname, port } = new URL(server.url)
  const socket = connect(Number(port), hostname)
  let received = ''
  socket.setEncoding('utf8').on('data', (text: string) => {
    received += text
  })
  socket.on('error', () => {})
  const closed = once(socket, 'close')
  const head = (length: number) =>
    `POST /v1/tasks/text-classification HTTP/1.1\r\nhost: server\r\ncontent-length: ${length}\r\n\r\n`
  try {
    socket.write(`${head(10_000)}${'x'.repeat(5000)}`)
    // Slow, but not slower than servers allow.
    await sleep(1500)
    expect(received).toMatch(/^HTTP\/1\.1 413 /)
    const isAnnounced = /^connection: close\r$/im.test(received)
    const next = JSON.stringify({ model: 'bert', inputs: 'the cat' })
    socket.write(`${'x'.repeat(5000)}${head(next.length)}${next}`)
    await Promise.race([closed, sleep(3000)])
    expect(isAnnounced || received.includes('HTTP/1.1 200 ')).toBe(true)
  } finally {
    socket.destroy()
    await server.close()
  }
})
