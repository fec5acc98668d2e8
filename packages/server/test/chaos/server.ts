/** The process under test: serves the models that its parent asks for, and measures itself. Its parent talks to it over Node's IPC. */
import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RunningServer } from '../../src/node.js'
import { type ServeOptions, serve } from '../../src/serve.js'

export type Order =
  | { readonly type: 'serve'; readonly options: ServeOptions }
  | { readonly type: 'measure' }
  | { readonly type: 'close'; readonly url: string }

export interface Measured {
  readonly heap: number
  readonly arrayBuffers: number
  readonly rss: number
  /** Open file handles; undefined where the system does not list them. */
  readonly files: number | undefined
  /** Timers, sockets and other things that keep a process alive. */
  readonly resources: number
}

const servers = new Map<string, RunningServer>()

async function measure(): Promise<Measured> {
  // Objects with finalisers take several collections.
  for (let i = 0; i < 6; i++) {
    global.gc?.()
    await sleep(30)
  }
  const { heapUsed, arrayBuffers, rss } = process.memoryUsage()
  const files = process.platform === 'linux' ? readdirSync('/proc/self/fd').length : undefined
  return { heap: heapUsed, arrayBuffers, rss, files, resources: process.getActiveResourcesInfo().length }
}

async function obey(order: Order): Promise<unknown> {
  if (order.type === 'measure') return measure()
  if (order.type === 'close') return servers.get(order.url)?.close()
  const server = await serve(order.options)
  servers.set(server.url, server)
  return server.url
}

process.on('message', ({ id, order }: { id: number; order: Order }) => {
  obey(order).then(
    (result) => process.send?.({ id, result }),
    (error: Error) => process.send?.({ id, error: error.stack }),
  )
})

// The parent has ended.
process.on('disconnect', () => process.exit())
