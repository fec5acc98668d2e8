/** `openChild`: starts the process under test from the sources, and keeps watch over what it prints. */
import { fork } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'vite'
import type { Measured, Order } from './server.js'

export interface Child {
  serve(options: (Order & { type: 'serve' })['options']): Promise<string>
  measure(): Promise<Measured>
  closeServer(url: string): Promise<void>
  /** What is wrong with the prints: forbidden words, with the text around them, and the process's own end. */
  readonly problems: readonly string[]
  /** Lines on stdout. */
  readonly lines: number
  /** What it printed on stderr, at most the first 10,000 characters. */
  readonly stderr: string
  end(): Promise<void>
}

/** A folder within the package, so that the bundle finds the dependencies. */
const BUILD = fileURLToPath(new URL('../../build', import.meta.url))

/** Milliseconds after which a process that should end counts as hanging: a thread that reads a file without an end would keep it. */
const END_MS = 20_000

/** @param forbidden a word that must never be printed */
export async function openChild(forbidden: string): Promise<Child> {
  await mkdir(BUILD, { recursive: true })
  const folder = await mkdtemp(join(BUILD, 'chaos-'))
  await build({
    logLevel: 'error',
    configFile: false,
    ssr: {
      noExternal: /^@fourierft\/(?!native)/,
      resolve: { conditions: ['@fourierft/source', 'node', 'import'] },
    },
    build: {
      ssr: fileURLToPath(new URL('server.ts', import.meta.url)),
      target: 'node20',
      outDir: folder,
      rollupOptions: { output: { entryFileNames: 'server.mjs' } },
    },
  })
  const child = fork(join(folder, 'server.mjs'), {
    execArgv: [
      '--expose-gc',

      '--unhandled-rejections=strict',
    ],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  const problems: string[] = []
  let lines = 0
  let stderr = ''
  let isEnding = false
  for (const [name, stream] of [
    ['stdout', child.stdout],
    ['stderr', child.stderr],
  ] as const) {
    let last = ''
    stream?.setEncoding('utf8').on('data', (text: string) => {
      if (name === 'stdout') lines += text.split('\n').length - 1
      else stderr = (stderr + text).slice(0, 10_000)
      const both = last + text
      const at = both.indexOf(forbidden)
      if (at >= 0)
        problems.push(`${name} has contents of a request: ${both.slice(Math.max(0, at - 300), at + 100)}`)
      last = both.slice(1 - forbidden.length)
    })
  }
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  child.on('message', ({ id, result, error }: { id: number; result: never; error?: string }) => {
    const { resolve, reject } = waiting.get(id) ?? {}
    waiting.delete(id)
    if (error === undefined) resolve?.(result)
    else reject?.(new Error(error))
  })
  child.on('exit', (code, signal) => {
    if (!isEnding) problems.push(`the server's process ended with ${code ?? signal}: ${stderr}`)
    for (const { reject } of waiting.values()) reject(new Error(`the server's process ended: ${stderr}`))
  })
  let lastId = 0
  const ask = <T>(order: Order) =>
    new Promise<T>((resolve, reject) => {
      const id = ++lastId
      waiting.set(id, { resolve, reject })
      child.send({ id, order })
    })
  return {
    problems,
    get lines() {
      return lines
    },
    get stderr() {
      return stderr
    },
    serve: (options) => ask({ type: 'serve', options }),
    measure: () => ask({ type: 'measure' }),
    closeServer: (url) => ask({ type: 'close', url }),
    async end() {
      isEnding = true
      if (child.exitCode === null && child.signalCode === null) {
        const ended = new Promise((resolve) => child.once('exit', resolve))
        child.disconnect()
        const late = setTimeout(() => {
          problems.push(`the server's process did not end within ${END_MS} ms`)
          child.kill('SIGKILL')
        }, END_MS)
        await ended
        clearTimeout(late)
      }
      await rm(folder, { recursive: true, force: true })
    },
  }
}
