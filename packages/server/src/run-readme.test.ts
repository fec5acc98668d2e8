/** Runs the code of the README with the built package: the program, the servers in which the handler is mounted, and KServe's client. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
// @ts-expect-error a script of the repository, without types
import { javascriptRuntimes } from '../../../scripts/javascript-runtimes.js'

const PACKAGE = fileURLToPath(new URL('..', import.meta.url))
const MODEL = fileURLToPath(new URL('../../transformers/test/__fixtures__/roberta', import.meta.url))

const readme = await readFile(join(PACKAGE, 'README.md'), 'utf8')
/** Returns the code of the blocks whose fence has this text. */
const blocks = (fence: string) =>
  [...readme.matchAll(/^```([^\n]*)\n(.*?)^```$/gms)]
    .filter(([, found]) => found === fence)
    .map(([, , code]) => code)

let folder: string
beforeAll(async () => {
  // Inside the package, so that the packages' names resolve as they do for users.
  const cache = join(PACKAGE, '.cache')
  await mkdir(cache, { recursive: true })
  folder = await mkdtemp(join(cache, 'readme-'))
  // Bun and Deno do not find a package by its own name.
  await mkdir(join(folder, 'node_modules/@fourierft'), { recursive: true })
  await symlink(PACKAGE, join(folder, 'node_modules/@fourierft/server'), 'dir')
  await cp(MODEL, join(folder, 'some/model'), { recursive: true })
  await cp(join(MODEL, 'adapter-a'), join(folder, 'adapters/german'), { recursive: true })
  const [handler = ''] = blocks('js handler.js')
  await writeFile(
    join(folder, 'handler.js'),
    `import { env } from '@huggingface/transformers'
     env.localModelPath = '.'
     env.allowRemoteModels = false
     ${handler}`,
  )
})
afterAll(() => rm(folder, { recursive: true, force: true }))

let running: ChildProcess | undefined
afterEach(async () => {
  if (running === undefined || running.exitCode !== null) return
  const ended = new Promise((resolve) => running?.once('exit', resolve))
  running.kill('SIGKILL')
  await ended
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Starts a program, and waits until its server answers. */
async function start(command: string, args: readonly string[], url: string): Promise<void> {
  const child = spawn(command, args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
  running = child
  let printed = ''
  child.stderr.on('data', (text) => {
    printed += text
  })
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the program ended: ${printed}`)
    const answer = await fetch(`${url}/health/ready`).catch(() => undefined)
    if (answer?.ok) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

test('the program serves adapters, asks for embeddings and ends', async () => {
  await writeFile(join(folder, 'program.js'), [...blocks('js run'), ...blocks('js run on')].join('\n'))
  const { stdout } = await promisify(execFile)(process.execPath, ['program.js'], { cwd: folder })
  expect(stdout).toBe('true\ntrue true true\ntrue\n')
})

interface Runtime {
  readonly name: string
  /** Undefined if the runtime has not been fetched. */
  readonly executable: string | undefined
  readonly args: readonly string[]
}
const NODE: Runtime = { name: 'Node', executable: process.execPath, args: [] }
const [BUN, DENO] = ['Bun', 'Deno'].map((name) =>
  (javascriptRuntimes as readonly Runtime[]).find((runtime) => runtime.name.startsWith(name)),
) as [Runtime, Runtime]

const MOUNTS: readonly (readonly [file: string, runtime: Runtime])[] = [
  ['hono.js', NODE],
  ['express.js', NODE],
  ['fastify.js', NODE],
  ['bun.js', BUN],
  // Otherwise Deno would search the packages of the workspace in its cache.
  ['deno.js', { ...DENO, args: [...DENO.args, '--node-modules-dir=manual'] }],
]

for (const [file, { name, executable, args }] of MOUNTS) {
  const reason =
    executable === undefined
      ? ` (skipped: ${name} has not been fetched; run \`node scripts/javascript-runtimes.js\` on Linux x64)`
      : ''
  test.skipIf(executable === undefined)(`${file} answers as the handler does${reason}`, async () => {
    const [code = ''] = blocks(`js ${file}`)
    expect(code).toMatch(/\b3000\b/)
    const port = await freePort()
    await writeFile(join(folder, file), code.replace('3000', String(port)))
    const url = `http://localhost:${port}/ai`
    await start(executable as string, [...args, file], url)
    const ask = (body: string) =>
      fetch(`${url}/v1/embeddings`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    const vectorOf = async (model: string): Promise<number[]> =>
      (await (await ask(JSON.stringify({ model, input: 'good old' }))).json()).data[0].embedding
    const [german, base] = [await vectorOf('german'), await vectorOf('base')]
    expect(german.length).toBe(base.length)
    expect(german).not.toEqual(base)
    expect((await ask('{')).status).toBe(400)
    expect(await (await fetch(url)).text()).toContain('<!doctype html>')
  })
}

const python = process.env.FOURIERFT_PYTHON_CLIENTS
const noPython = python ? '' : ' (skipped: FOURIERFT_PYTHON_CLIENTS does not name a Python with kserve)'

test.skipIf(!python)(`KServe's client gets embeddings${noPython}`, async () => {
  const port = await freePort()
  const [code = ''] = blocks('python run')
  await writeFile(join(folder, 'client.py'), code.replace('8000', String(port)))
  const serve = `import { serve } from '@fourierft/server'
    await serve({ model: 'some/model', adapters: 'adapters', task: 'feature-extraction', port: ${port}, logger: false })`
  await writeFile(join(folder, 'serve.js'), serve)
  await start(process.execPath, ['serve.js'], `http://127.0.0.1:${port}`)
  const { stdout } = await promisify(execFile)(python as string, ['client.py'], { cwd: folder })
  expect(stdout).toMatch(/^\(2, \d+\)\n$/)
})
