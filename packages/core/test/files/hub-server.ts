/** A local server with the part of the hub's interface that a download uses. */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface HubServer {
  readonly url: string
  /** The files of each commit, by path; those named `*.safetensors` are in the storage for large files. */
  readonly commits: Map<string, Record<string, Uint8Array>>
  readonly branches: Map<string, string>
  /** `METHOD path` of each request. */
  readonly requests: string[]
  /** If set, requests need this token. */
  token: string | undefined
  /** Fault in the bodies of files. */
  fault: 'cut off' | 'another content' | undefined
  close(): Promise<void>
}

/** Serves one repository, `user/adapter`. */
export async function startHubServer(): Promise<HubServer> {
  const hub: Omit<HubServer, 'url' | 'close'> = {
    commits: new Map(),
    branches: new Map(),
    requests: [],
    token: undefined,
    fault: undefined,
  }
  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://hub')
    hub.requests.push(`${request.method} ${url.pathname}`)
    if (hub.token !== undefined && request.headers.authorization !== `Bearer ${hub.token}`) {
      return json(response, 401, { error: 'Invalid username or password.' })
    }
    const route =
      /^\/(?:api\/models\/)?user\/adapter\/(revision|paths-info|resolve)\/([^/]+)(?:\/(.*))?$/.exec(
        url.pathname,
      )
    const [, action, revision = '', path = ''] = route ?? []
    const commit = hub.branches.get(decodeURIComponent(revision)) ?? decodeURIComponent(revision)
    const files = hub.commits.get(commit)
    if (!files) return json(response, 404, { error: 'Repository not found' })
    if (action === 'revision') return json(response, 200, { _id: '1', id: 'user/adapter', sha: commit })
    if (action === 'paths-info') {
      const { paths } = JSON.parse(await bodyOf(request))
      const known = paths.filter((name: string) => files[name])
      return json(
        response,
        200,
        known.map((name: string) => pathInfo(name, files[name])),
      )
    }
    const bytes = files[path]
    if (!bytes) {
      response.setHeader('X-Error-Code', 'EntryNotFound')
      return json(response, 404, { error: 'Entry not found' })
    }
    send(request, response, bytes, pathInfo(path, bytes), commit, hub.fault)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return Object.assign(hub, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  })
}

function pathInfo(path: string, bytes: Uint8Array) {
  const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
  const lfs = { oid: createHash('sha256').update(bytes).digest('hex'), size: bytes.length, pointerSize: 130 }
  return { type: 'file', path, oid, size: bytes.length, ...(path.endsWith('.safetensors') && { lfs }) }
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Uint8Array,
  { oid, lfs }: { oid: string; lfs?: { oid: string } },
  commit: string,
  fault: HubServer['fault'],
): void {
  response.setHeader('ETag', `"${lfs?.oid ?? oid}"`)
  response.setHeader('X-Repo-Commit', commit)
  response.setHeader('Accept-Ranges', 'bytes')
  if (request.method !== 'HEAD' && request.headers.range === 'bytes=0-0') {
    response.writeHead(206, { 'Content-Range': `bytes 0-0/${bytes.length}`, 'Content-Length': 1 })
    response.end(bytes.subarray(0, 1))
    return
  }
  response.writeHead(200, { 'Content-Length': bytes.length })
  if (request.method === 'HEAD') response.end()
  else if (fault === 'cut off') response.write(bytes.subarray(0, bytes.length / 2), () => response.destroy())
  else response.end(fault === 'another content' ? bytes.map((byte) => byte ^ 1) : bytes)
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json' })
  response.end(JSON.stringify(value))
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request) text += chunk
  return text
}
