/**
 * Starts servers for the benchmark `serving`, each in a process of its own: `@fourierft/server`, PEFT's, or a simple one that gets the adapter
 * ready for each request. This file is also the program of these processes.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { serve } from '@fourierft/server'
import { attach } from '@fourierft/transformers'
import { env, pipeline, type Tensor } from '@huggingface/transformers'
import { BASE } from './serving-load.js'

type SimpleKind = 'loading' | 'opening'

export interface ServerOptions {
  /** `loading` loads the adapter's file for each request, `opening` opens the model with the adapter for each request. */
  readonly kind: 'serving' | SimpleKind
  /** The model's folder. */
  readonly model: string
  /** The folder of the adapters; without it there is only the base model. */
  readonly adapters?: string
  /** The options of `serve` with these names. */
  readonly maxBatch?: number
  readonly memory?: number
}

/** Bytes, after garbage collection. */
export interface MemoryInUse {
  /** JavaScript's memory: the heap and external memory. */
  readonly heap: number
  readonly resident: number
}

export interface ServerProcess {
  readonly url: string
  stop(): void
}

export interface MeasurableServer extends ServerProcess {
  memoryInUse(): Promise<MemoryInUse>
}

type Message = { readonly url: string } | MemoryInUse

export async function startServer(options: ServerOptions): Promise<MeasurableServer> {
  // Each request is logged, as users have it, but the lines are not kept.
  const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(options)], {
    execArgv: ['--expose-gc'],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const { url } = (await answerOf(child)) as { readonly url: string }
  return {
    url,
    async memoryInUse() {
      child.send('memory')
      return (await answerOf(child)) as MemoryInUse
    },
    stop: () => child.kill(),
  }
}

function answerOf(child: ChildProcess): Promise<Message> {
  return new Promise((resolve, reject) => {
    const onEnd = () => reject(new Error('the process of a server ended'))
    child.once('exit', onEnd)
    child.once('message', (message) => {
      child.off('exit', onEnd)
      resolve(message as Message)
    })
  })
}

/** Starts PEFT behind Python's HTTP server (`python/serving_peer.py`). */
export async function startPeft(
  python: string,
  options: readonly (string | number)[],
): Promise<ServerProcess & { readonly versions: string; readonly adapters: number }> {
  const script = fileURLToPath(new URL('../python/serving_peer.py', import.meta.url))
  // Threads must not spin while another process is measured.
  const child = spawn(python, [script, ...options.map(String)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { OMP_WAIT_POLICY: 'PASSIVE', PYTHONWARNINGS: 'ignore', ...process.env },
  })
  for await (const line of createInterface({ input: child.stdout }))
    return { ...JSON.parse(line), stop: () => child.kill() }
  throw new Error('the process of PEFT ended')
}

/** Returns the vector of a text with an adapter. */
type Embed = (adapter: string, text: string) => Promise<Tensor>

/** One pipeline: the adapter is loaded, activated, and deleted after the call. */
async function embedLoading(model: string, adapters: string): Promise<Embed> {
  const pipe = await openPipeline(model)
  const set = await attach(pipe)
  return async (name, text) => {
    await set.loadAdapter(join(adapters, name), { name })
    set.setAdapter(name)
    try {
      return await pipe(text, POOLING)
    } finally {
      set.deleteAdapter(name)
    }
  }
}

/** A pipeline for each call, as it is necessary where adapters are constants of the model. */
async function embedOpening(model: string, adapters: string): Promise<Embed> {
  return async (name, text) => {
    const pipe = await openPipeline(model)
    try {
      const set = await attach(pipe)
      await set.loadAdapter(join(adapters, name), { name })
      return await pipe(text, POOLING)
    } finally {
      await pipe.dispose()
    }
  }
}

const POOLING = { pooling: 'mean', normalize: true } as const

function openPipeline(model: string) {
  env.localModelPath = dirname(model)
  env.allowRemoteModels = false
  return pipeline('feature-extraction', basename(model), { dtype: 'fp32' })
}

/** The servers that one writes first: they answer one request after the other. @returns the URL */
async function serveSimply(kind: SimpleKind, model: string, adapters: string): Promise<string> {
  const embed = await (kind === 'loading' ? embedLoading : embedOpening)(model, adapters)
  let last: Promise<unknown> = Promise.resolve()
  const server = createServer(async (request, response) => {
    try {
      const { model: name, input } = JSON.parse(await bodyOf(request))
      const turn = last.then(() => embed(name, input))
      last = turn.catch(() => undefined)
      const embedding = base64(await turn)
      const body = JSON.stringify({
        object: 'list',
        data: [{ object: 'embedding', index: 0, embedding }],
        model: name,
      })
      response.writeHead(200, { 'content-type': 'application/json' }).end(body)
    } catch (error) {
      console.error(error)
      response.writeHead(500).end()
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

function base64({ data }: Tensor): string {
  const { buffer, byteOffset, byteLength } = data as Float32Array
  return Buffer.from(buffer, byteOffset, byteLength).toString('base64')
}

async function memoryInUse(): Promise<MemoryInUse> {
  for (let i = 0; i < 4; i++) {
    await new Promise((done) => setTimeout(done, 20))
    global.gc?.()
  }
  const { heapUsed, external, rss } = process.memoryUsage()
  return { heap: heapUsed + external, resident: rss }
}

async function start({ kind, model, adapters, maxBatch, memory }: ServerOptions): Promise<string> {
  if (kind !== 'serving') return serveSimply(kind, model, adapters as string)
  const { url } = await serve({
    name: BASE,
    model,
    task: 'feature-extraction',
    adapters,
    maxBatch,
    memory,
    port: 0,
  })
  return url
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const reply = (message: Message) => process.send?.(message)
  process.on('disconnect', () => process.exit())
  process.on('message', async () => reply(await memoryInUse()))
  reply({ url: await start(JSON.parse(process.argv[2]) as ServerOptions) })
}
