import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type AdapterBytes, CONFIG_FILE, loadAdapter, MODEL_FILE } from '@fourierft/core'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { testAdapter } from '../__fixtures__/adapters.js'
import { type HubResolverOptions, hubResolver } from './hub.js'

const { signal } = new AbortController()
const TOKEN = 'hf_secret'

let folder: string
let hub: Awaited<ReturnType<typeof startHub>>

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fourierft-server-'))
  hub = await startHub()
})

afterEach(async () => {
  await hub.close()
  await rm(folder, { recursive: true })
})

const resolverFor = (options: Partial<HubResolverOptions> = {}) =>
  hubResolver({
    owners: ['acme'],
    hubUrl: hub.url,
    cacheDir: join(folder, 'cache'),
    offline: false,
    ...options,
  })

describe('hubResolver', () => {
  it('reads an adapter from the commit of the branch', async () => {
    const commit = hub.push(testAdapter({ scaling: 2 }).toBytes())
    const found = await resolverFor().find('acme/adapter', signal)
    expect(found?.version).toBe(commit)
    expect((await found?.read(signal))?.config.scaling).toBe(2)
  })

  it('reads the commit that it has found, also if the branch has moved', async () => {
    hub.push(testAdapter({ scaling: 2 }).toBytes())
    const found = await resolverFor().find('acme/adapter', signal)
    hub.push(testAdapter({ scaling: 3 }).toBytes())
    expect((await found?.read(signal))?.config.scaling).toBe(2)
  })

  it.each([
    'other/adapter',
    'adapter',
    'acme',
    'acme/',
    '/adapter',
    'acme/../x',
    '../adapter',
    'acme/a/b',
    'ACME/adapter',
  ])('does not ask for %s', async (name) => {
    hub.push(testAdapter().toBytes())
    expect(await resolverFor().find(name, signal)).toBeUndefined()
    expect(hub.requests).toEqual([])
  })

  it('asks again only after some time', async () => {
    const first = hub.push(testAdapter({ scaling: 2 }).toBytes())
    const slow = resolverFor()
    const fast = resolverFor({ recheckSeconds: 0 })
    const versions = async () => [
      (await slow.find('acme/adapter', signal))?.version,
      (await fast.find('acme/adapter', signal))?.version,
    ]
    expect(await versions()).toEqual([first, first])
    const second = hub.push(testAdapter({ scaling: 3 }).toBytes())
    expect(await versions()).toEqual([first, second])
  })

  it('asks once for concurrent requests', async () => {
    hub.push(testAdapter().toBytes())
    const resolver = resolverFor()
    await Promise.all(
      Array.from({ length: 100 }, () => resolver.find('acme/adapter', new AbortController().signal)),
    )
    expect(hub.requests).toHaveLength(1)
  })

  it('asks for a missing repository once in a while', async () => {
    const resolver = resolverFor()
    expect(await resolver.find('acme/missing', signal)).toBeUndefined()
    expect(await resolver.find('acme/missing', signal)).toBeUndefined()
    expect(hub.requests).toHaveLength(1)
  })

  it('asks 16 questions at a time, and rejects what would wait too long', async () => {
    const commit = hub.push(testAdapter().toBytes())
    const resolver = resolverFor({ recheckSeconds: 0 })
    expect((await resolver.find('acme/adapter', signal))?.version).toBe(commit)
    hub.delay = 5
    const made = Promise.allSettled(
      Array.from({ length: 500 }, (_, i) => resolver.find(`acme/made-up-${i}`, signal)),
    )
    // One that exists is not delayed by them.
    const before = hub.requests.length
    expect((await resolver.find('acme/adapter', signal))?.version).toBe(commit)
    expect(hub.requests.length - before).toBeLessThan(60)
    const outcomes = await made
    const rejected = outcomes.filter((outcome) => outcome.status === 'rejected')
    expect(rejected.length).toBe(500 - 16 - 256)
    for (const { reason } of rejected) expect(reason).toMatchObject({ code: 'queue_full', status: 429 })
    expect(hub.mostAtOnce).toBe(16)
    expect(await resolver.find('acme/made-up-499', signal)).toBeUndefined()
  })

  it('keeps what it knows when many made-up names are asked for', { timeout: 60_000 }, async () => {
    hub.push(testAdapter().toBytes())
    const resolver = resolverFor()
    await resolver.find('acme/adapter', signal)
    for (let i = 0; i < 10_050; i += 250)
      await Promise.all(Array.from({ length: 250 }, (_, k) => resolver.find(`acme/made-up-${i + k}`, signal)))
    const asked = hub.requests.length
    expect(await resolver.find('acme/adapter', signal)).toBeDefined()
    expect(hub.requests.length).toBe(asked)
  })

  it('does not ask for the commit of a revision that is one', async () => {
    const commit = hub.push(testAdapter({ scaling: 2 }).toBytes())
    hub.push(testAdapter({ scaling: 3 }).toBytes())
    const found = await resolverFor({ revision: commit }).find('acme/adapter', signal)
    expect(hub.requests).toEqual([])
    expect((await found?.read(signal))?.config.scaling).toBe(2)
  })

  it('sends the token', async () => {
    hub.push(testAdapter().toBytes())
    hub.needsToken = true
    expect(await resolverFor().find('acme/adapter', signal)).toBeUndefined()
    const found = await resolverFor({ token: TOKEN }).find('acme/adapter', signal)
    expect(await found?.read(signal)).toBeDefined()
  })

  it('keeps the last version if the hub is out of order', async () => {
    const commit = hub.push(testAdapter().toBytes())
    const resolver = resolverFor({ recheckSeconds: 0 })
    expect((await resolver.find('acme/adapter', signal))?.version).toBe(commit)
    hub.status = 503
    expect((await resolver.find('acme/adapter', signal))?.version).toBe(commit)
  })

  it('reads the cache if the hub has never answered, or if it may not be asked', async () => {
    hub.push(testAdapter({ scaling: 2 }).toBytes())
    await loadAdapter('acme/adapter', { hubUrl: hub.url, cacheDir: join(folder, 'cache'), offline: false })
    hub.status = 503
    for (const offline of [false, true]) {
      const found = await resolverFor({ offline }).find('acme/adapter', signal)
      expect((await found?.read(signal))?.config.scaling).toBe(2)
    }
  })

  it('rejects an answer without a commit', async () => {
    hub.answer = JSON.stringify({ sha: '../../etc/passwd' })
    const found = await resolverFor().find('acme/adapter', signal)
    expect(found?.version).toBe('cached')
    await expect(found?.read(signal)).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
  })

  it('never reads a local folder with the name of a repository', async () => {
    hub.push(testAdapter().toBytes())
    const found = await resolverFor().find('acme/adapter', signal)
    const before = process.cwd()
    await mkdir(join(folder, 'acme', 'adapter'), { recursive: true })
    process.chdir(folder)
    try {
      await expect(found?.read(signal)).rejects.toMatchObject({ code: 'invalid_adapter' })
    } finally {
      process.chdir(before)
    }
  })
})

/** A server with the part of the hub's interface that downloads use, and one repository: `acme/adapter`. */
async function startHub() {
  const commits = new Map<string, ReadonlyMap<string, Uint8Array>>()
  const state = {
    head: undefined as string | undefined,
    requests: [] as string[],
    /** Milliseconds before each answer. */
    delay: 0,
    mostAtOnce: 0,
    needsToken: false,
    /** Answers all questions with this status. */
    status: undefined as number | undefined,
    /** Answers all questions with this text. */
    answer: undefined as string | undefined,
  }
  let atOnce = 0
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://hub')
    state.requests.push(`${request.method} ${pathname}`)
    atOnce++
    state.mostAtOnce = Math.max(state.mostAtOnce, atOnce)
    if (state.delay > 0) await sleep(state.delay)
    atOnce--
    const respond = (status: number, body: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body))
    }
    if (state.status !== undefined) return respond(state.status, {})
    if (state.answer !== undefined) return respond(200, state.answer)
    if (state.needsToken && request.headers.authorization !== `Bearer ${TOKEN}`) return respond(401, {})
    const [, action, revision = '', path = ''] =
      /^\/(?:api\/models\/)?acme\/adapter\/(revision|paths-info|resolve)\/([^/]+)(?:\/(.*))?$/.exec(
        pathname,
      ) ?? []
    const commit = revision === 'main' ? state.head : revision
    const files = commits.get(commit ?? '')
    if (!files) return respond(404, {})
    if (action === 'revision') return respond(200, { sha: commit })
    if (action === 'paths-info') return respond(200, Array.from(files, pathInfo))
    respond(200, files.get(path) ?? '')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return Object.assign(state, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** Adds a commit to the branch `main`. @returns its name */
    push({ config, model }: AdapterBytes): string {
      const commit = createHash('sha1').update(config).update(model).digest('hex')
      commits.set(
        commit,
        new Map([
          [CONFIG_FILE, config],
          [MODEL_FILE, model],
        ]),
      )
      state.head = commit
      return commit
    },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  })
}

function pathInfo([path, bytes]: readonly [string, Uint8Array]) {
  const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
  return { type: 'file', path, oid, size: bytes.length }
}
