/** Tests `fourierft serve` as users run it: as a process (`dist/main.js`) that serves until it is stopped. */
import { spawn } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { capturedRun } from './captured-run.js'

const MAIN = fileURLToPath(new URL('../dist/main.js', import.meta.url))
const MODEL = fileURLToPath(new URL('../../transformers/test/__fixtures__/bert', import.meta.url))

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fourierft-serve-'))
  await cp(MODEL, join(directory, 'my-model'), { recursive: true })
  await cp(join(MODEL, 'adapter-a'), join(directory, 'my-adapters/first'), { recursive: true })
  await mkdir(join(directory, 'empty'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

interface Serving {
  readonly url: string
  stop(signal: NodeJS.Signals): void
  readonly ended: Promise<{
    readonly status: number | null
    readonly stdout: string
    readonly stderr: string
  }>
}

const processes: Serving[] = []
afterEach(async () => {
  for (const serving of processes.splice(0)) {
    serving.stop('SIGKILL')
    await serving.ended
  }
})

/** Starts the command, and waits for its line. @throws what it printed, if it ends instead */
async function serve(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Serving> {
  const child = spawn(process.execPath, [MAIN, 'serve', ...args], {
    cwd: directory,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (text) => {
    stdout += text
  })
  const ended: Serving['ended'] = new Promise((resolve) =>
    child.once('close', (status) => resolve({ status, stdout, stderr })),
  )
  const url = await new Promise<string>((resolve, reject) => {
    child.stderr.on('data', (text) => {
      stderr += text
      const [, found] = /^Serving \S+ at (\S+)\. Ctrl-C stops\.$/m.exec(stderr) ?? []
      if (found !== undefined) resolve(found)
    })
    void ended.then(() => reject(new Error(stderr)))
  })
  const serving: Serving = { url, ended, stop: (signal) => void child.kill(signal) }
  processes.push(serving)
  return serving
}

async function classify(url: string, model: string, headers: Readonly<Record<string, string>> = {}) {
  const response = await fetch(`${url}/v1/tasks/text-classification`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ model, inputs: 'what a good film' }),
  })
  return { status: response.status, answer: await response.json() }
}

test('the command of the README serves a model with its adapters, also new ones, until SIGINT', async () => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const [, command = ''] = /^npx fourierft serve (.*)$/m.exec(readme) ?? []
  const { url, stop, ended } = await serve([...command.split(' '), '--port', '0'])
  const base = await classify(url, 'my-model')
  const first = await classify(url, 'first')
  expect([base.status, first.status]).toEqual([200, 200])
  expect(first.answer[0].score).not.toBe(base.answer[0].score)

  await cp(join(MODEL, 'adapter-b'), join(directory, 'my-adapters/second'), { recursive: true })
  const second = await classify(url, 'my-model:second')
  expect(second.status).toBe(200)
  expect(second.answer[0].score).not.toBe(first.answer[0].score)
  expect(await classify(url, 'third')).toMatchObject({
    status: 404,
    answer: { error: { code: 'model_not_found' } },
  })

  stop('SIGINT')
  const { status, stdout, stderr } = await ended
  expect(status).toBe(0)
  expect(stderr).toContain('Stopping: running requests end first.')
  await expect(fetch(url)).rejects.toThrow()
  const logged = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(logged.map(({ api, adapter, status }) => [api, adapter, status])).toEqual([
    ['tasks', undefined, 200],
    ['tasks', 'first', 200],
    ['tasks', 'second', 200],
    ['tasks', 'third', 404],
  ])
  expect(stdout).not.toContain('good film')
})

test('the key comes from the environment, the name from an option; SIGTERM stops too', async () => {
  const env = { FOURIERFT_API_KEY: 'secret', FOURIERFT_ADMIN_TOKEN: 'admin' }
  const { url, stop, ended } = await serve(['my-model', '--name', 'reviews', '--port', '0'], env)
  expect(await classify(url, 'reviews')).toMatchObject({
    status: 401,
    answer: { error: { code: 'invalid_api_key' } },
  })
  expect(await classify(url, 'reviews', { authorization: 'Bearer secret' })).toMatchObject({ status: 200 })
  const loaded = await fetch(`${url}/v1/load_lora_adapter`, {
    method: 'POST',
    headers: { authorization: 'Bearer admin' },
    body: JSON.stringify({ lora_name: 'added', lora_path: join(MODEL, 'adapter-a') }),
  })
  expect(loaded.status).toBe(200)
  expect(await classify(url, 'added', { authorization: 'Bearer secret' })).toMatchObject({ status: 200 })
  stop('SIGTERM')
  expect(await ended).toMatchObject({ status: 0, stderr: expect.not.stringMatching(/secret|admin/) })
})

test('limits of bodies and of the files of adapters are options', async () => {
  const args = ['--adapters', 'my-adapters', '--max-body', '1KB', '--max-adapter', '1KB']
  const { url } = await serve(['my-model', ...args, '--port', '0'])
  expect((await classify(url, 'my-model')).status).toBe(200)
  expect(await classify(url, 'first')).toMatchObject({
    status: 422,
    answer: { error: { code: 'invalid_adapter' } },
  })
  expect(await classify(url, 'x'.repeat(1100))).toMatchObject({
    status: 413,
    answer: { error: { code: 'body_too_large' } },
  })
})

test.each([
  [['']],
  [[]],
  [['my-model', '--port', '70000']],
  [['my-model', '--port', 'http']],
  [['my-model', '--memory', 'lots']],
  [['my-model', '--max-batch', '0']],
  [['my-model', '--max-body', '0']],
  [['my-model', '--timeout', '-1']],
  [['my-model', '--dtype', 'q3']],
  [['my-model', '--hub-owners', 'someone,,else']],
  [['my-model', '--adapters', 'nowhere']],
  [['my-model', '--colour', 'red']],
])('rejects the arguments %j in one line', async (args) => {
  const { status, stdout, stderr } = await capturedRun('serve', ...args)
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
  expect(stderr).toMatch(/^fourierft: USAGE: [^\n]+\n$/)
})

test('reports a port that is taken', async () => {
  const other = createServer()
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  const { port } = other.address() as AddressInfo
  await expect(serve(['my-model', '--port', String(port)])).rejects.toThrow(
    /^fourierft: PORT: my-model cannot be served: [^\n]*EADDRINUSE[^\n]*; choose another --port\n$/,
  )
  await new Promise((resolve) => other.close(resolve))
})

test.each([
  ['a folder without a model', ['empty'], 'config.json'],
  ['a path that does not exist', ['/nowhere/model'], 'config.json'],
  ['a task that the model does not have', ['my-model', '--task', 'nonsense'], 'nonsense'],
  [
    'a pinned adapter that does not exist',
    ['my-model', '--adapters', 'my-adapters', '--pin', 'nobody'],
    "'nobody'",
  ],
])('reports %s in one line', async (_, args, reason) => {
  const error = await serve([...args, '--port', '0']).catch((error) => error)
  expect(error.message).toMatch(/^fourierft: MODEL: \S+ cannot be served: [^\n]+\n$/)
  expect(error.message).toContain(reason)
})
