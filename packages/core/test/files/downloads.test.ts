/** The limits of downloads and the secrecy of credentials, whatever the server does. All servers are real and run on this machine. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import { createServer as createSocketServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { request } from '../../src/files/sources/request.js'
import { createAdapter, createConfig, FourierFTError, loadAdapter } from '../../src/index.js'
import { type HubServer, startHubServer } from './hub-server.js'

const adapter = createAdapter(createConfig({ nFrequency: 5, scaling: 1 }), { layer: [8, 8] })
const { config, model } = adapter.toBytes()
const files = { 'adapter_config.json': config, 'adapter_model.safetensors': model }

const open: Server[] = []
async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  open.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
afterEach(() => {
  vi.unstubAllEnvs()
  for (const server of open.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

/** Serves the adapter below `/x`. */
const sendFile: RequestListener = ({ url = '' }, response) => {
  const name = new URL(url, 'http://server').pathname.split('/').at(-1)
  response.end(name === 'adapter_config.json' ? config : model)
}

async function errorOf(promise: Promise<unknown>): Promise<FourierFTError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (FourierFTError.isInstance(error)) return error
  throw new Error('expected a FourierFTError', { cause: error })
}

describe('a compressed answer', () => {
  const bomb = gzipSync(new Uint8Array(80 * 2 ** 20))
  const sendBomb: RequestListener = (incoming, response) => {
    if (incoming.url?.endsWith('.json')) return sendFile(incoming, response)
    response.writeHead(200, { 'Content-Encoding': 'gzip', 'Content-Length': bomb.length }).end(bomb)
  }

  it('is rejected if it becomes much larger', async () => {
    const error = await errorOf(loadAdapter(`${await serve(sendBomb)}/x`))
    expect(error).toMatchObject({ code: 'FILE_TOO_LARGE', details: { option: 'maxBytes' } })
    // One piece may exceed the limit a little, but not the whole answer.
    expect(error.details.received).toBeLessThan(72 * 2 ** 20)
  })

  it('has the limit that the caller sets', async () => {
    const url = await serve(sendBomb)
    expect((await errorOf(loadAdapter(`${url}/x`, { maxBytes: 1e6 }))).details.received).toBeLessThan(2e6)
    expect((await errorOf(loadAdapter(`${url}/x`, { maxBytes: 1e9 }))).code).toBe('INVALID_SAFETENSORS')
  })

  it('also has a limit for a configuration', async () => {
    const url = await serve((_, response) => {
      response.writeHead(200, { 'Content-Encoding': 'gzip' }).end(bomb)
    })
    expect((await errorOf(loadAdapter(`${url}/x`))).details.expected).toBe(16 * 2 ** 20)
  })
})

describe('a connection that stalls', () => {
  const options = { file: 'file', maxBytes: 1e6, idleMs: 100 }

  it.each<[string, RequestListener]>([
    ['before the answer', () => {}],
    ['in the middle', (_, response) => response.write('x')],
  ])('%s ends', async (_, listener) => {
    const error = await errorOf(request(new URL(await serve(listener)), options))
    expect(error).toMatchObject({ code: 'IO_ERROR', details: { option: 'signal' } })
    expect(error.message).toContain('nothing arrived for 0.1 seconds')
  })

  describe('with a fake clock', () => {
    beforeEach(() => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    })
    afterEach(() => {
      vi.useRealTimers()
    })

    it('is not one on which the pieces arrive in time', async () => {
      let stream: ServerResponse | undefined
      const url = await serve((_, response) => {
        stream = response
        response.write('x')
      })
      let pieces = 0
      const onProgress = () => {
        vi.advanceTimersByTime(300)
        if (++pieces < 5) stream?.write('x')
        else stream?.end()
      }
      expect((await request(new URL(url), { ...options, idleMs: 400, onProgress })).bytes).toHaveLength(5)
    })

    it('waits for the signal if the caller has one', async () => {
      const controller = new AbortController()
      const url = await serve(() => {
        vi.advanceTimersByTime(1000)
        // Later than everything that the clock may have ended.
        setImmediate(() => controller.abort(new Error('enough')))
      })
      const answer = request(new URL(url), { ...options, signal: controller.signal })
      await expect(answer).rejects.toThrow('enough')
    })
  })
})

describe('messages', () => {
  it.each(['404', '500'])('contain no passwords and signatures: answer %s', async (status) => {
    const url = await serve((_, response) => response.writeHead(Number(status)).end('token hf_x'))
    const source = `${url.replace('//', '//user:pa55word@')}/x?X-Amz-Signature=51gnature#fra9`
    const error = await errorOf(loadAdapter(source))
    expect(error.message).toContain(`${url}/x/adapter_config.json`)
    expect(JSON.stringify([error.message, error.stack, error.details])).not.toMatch(
      /pa55word|51gnature|fra9|hf_x/,
    )
  })

  it('contain none of them for an invalid file or an invalid URL', async () => {
    const url = await serve((_, response) => response.end('{'))
    const wrong = await errorOf(loadAdapter(`${url.replace('//', '//user:pa55word@')}/x?key=51gnature`))
    expect(wrong.code).toBe('INVALID_JSON')
    const none = await errorOf(loadAdapter('https://user:pa55word@:99999999/x?key=51gnature'))
    expect(none.code).toBe('INVALID_OPTION')
    for (const error of [wrong, none])
      expect(JSON.stringify([error.message, error.stack, error.details])).not.toMatch(/pa55word|51gnature/)
  })

  it('say why a server was not reached', async () => {
    const closed = await serve(() => {})
    await new Promise((resolve) => open.pop()?.close(resolve))
    const refused = await errorOf(loadAdapter(`${closed.replace('//', '//user:pa55word@')}/x`))
    expect(refused.message).toContain('the connection was refused, ECONNREFUSED')
    expect((await errorOf(loadAdapter('http://127.0.0.1:1/x'))).message).toContain('bad port')
    const unknown = await errorOf(loadAdapter('http://no-such-host.invalid/x'))
    expect(unknown.message).toMatch(/the host's name is unknown \(DNS\), (ENOTFOUND|EAI_AGAIN)/)
    const http = await serve(() => {})
    const noTls = await errorOf(loadAdapter(`${http.replace('http', 'https')}/x`))
    expect(noTls.message).toContain('the TLS connection failed, ERR_SSL')
    const silent = createSocketServer((socket) => socket.destroy())
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    const cut = await errorOf(loadAdapter(`http://127.0.0.1:${(silent.address() as AddressInfo).port}/x`))
    silent.close()
    expect(cut.message).toMatch(/the connection broke off, (ECONNRESET|UND_ERR_SOCKET)/)
  })
})

describe('credentials', () => {
  it('in a URL are sent, but not to another origin after a redirect', async () => {
    const seen: (string | undefined)[] = []
    const note = ({ headers }: IncomingMessage) => seen.push(headers.authorization)
    const other = await serve((incoming, response) => {
      note(incoming)
      sendFile(incoming, response)
    })
    const url = await serve((incoming, response) => {
      note(incoming)
      if (incoming.url?.startsWith('/x')) response.writeHead(302, { Location: `/y${incoming.url}` }).end()
      else response.writeHead(307, { Location: `${other}${incoming.url}` }).end()
    })
    await loadAdapter(`${url.replace('//', '//user:p%C3%A4ss@')}/x`)
    const basic = `Basic ${Buffer.from('user:päss').toString('base64')}`
    expect(seen).toEqual([basic, basic, undefined, basic, basic, undefined])
    // An invalid percent escape stays as it is.
    seen.length = 0
    await loadAdapter(`${other.replace('//', '//user:100%@')}/x`)
    expect(seen[0]).toBe(`Basic ${btoa('user:100%')}`)
  })
})

describe('a hub', () => {
  let hub: HubServer
  let directory: string
  const commit = 'a'.repeat(40)
  beforeEach(async () => {
    hub = await startHubServer()
    hub.commits.set(commit, files)
    hub.branches.set('main', commit)
    directory = mkdtempSync(join(tmpdir(), 'fourierft-downloads-'))
  })
  afterEach(async () => {
    await hub.close()
    rmSync(directory, { recursive: true })
  })
  const load = (hubUrl: string, more = {}) =>
    loadAdapter('user/adapter', { hubUrl, cacheDir: directory, ...more })

  it('gets the token, and no other host does', async () => {
    hub.token = 'hf_secret'
    const seen: (string | undefined)[] = []
    const cdn = await serve((incoming, response) => {
      seen.push(incoming.headers.authorization)
      response.setHeader('X-Cache', 'Hit from cloudfront')
      sendFile(incoming, response)
    })
    const front = await serve((incoming, response) => {
      const isFile = incoming.url?.includes('/resolve/')
      seen.push(`front ${incoming.headers.authorization}`)
      response.writeHead(307, { Location: `${isFile ? cdn : hub.url}${incoming.url}` }).end()
    })
    // The hub behind this server needs the token, which is not sent to it after the redirect.
    expect((await errorOf(load(front, { token: 'hf_secret' }))).message).toContain('401')
    hub.token = undefined
    expect((await load(front, { token: 'hf_secret' })).toBytes()).toEqual({ config, model })
    expect(seen.filter((each) => each !== 'front Bearer hf_secret')).toEqual([undefined, undefined])
    expect(seen.length).toBeGreaterThan(4)
  })

  it('with endless or invalid answers is rejected', async () => {
    const endless = await serve((_, response) => {
      const more = () => {
        while (response.write('"'.repeat(65536)));
      }
      response.on('drain', more)
      more()
    })
    expect((await errorOf(load(endless))).code).toBe('FILE_TOO_LARGE')
    const endlessError = await serve((_, response) => {
      response.writeHead(500, { 'Content-Type': 'application/json' })
      const more = () => {
        while (response.write('"'.repeat(65536)));
      }
      response.on('drain', more)
      more()
    })
    expect((await errorOf(load(endlessError))).message).toContain('the hub answered 500')
    for (const answer of ['{"sha":"../../../x"}', '{"sha":7}', '[]', 'null', '<html>']) {
      const url = await serve((_, response) => response.end(answer))
      expect(['IO_ERROR', 'INVALID_JSON']).toContain((await errorOf(load(url))).code)
    }
  })

  it('that sends more than it announced is rejected', async () => {
    const url = await serve((incoming, response) => {
      if (!incoming.url?.includes('/resolve/'))
        response.writeHead(307, { Location: `${hub.url}${incoming.url}` }).end()
      else response.end(Buffer.alloc(1e6))
    })
    expect((await errorOf(load(url))).message).toMatch(/expected \d+ bytes; (received more|received 1000000)/)
  })

  it('is the one in the environment', async () => {
    vi.stubEnv('HF_ENDPOINT', `${hub.url}/`)
    vi.stubEnv('HF_HUB_CACHE', directory)
    expect((await loadAdapter('user/adapter')).toBytes()).toEqual({ config, model })
    hub.requests.length = 0
    vi.stubEnv('HF_HUB_OFFLINE', '1')
    expect((await loadAdapter('user/adapter')).toBytes()).toEqual({ config, model })
    expect(hub.requests).toEqual([])
    expect((await errorOf(loadAdapter('user/other'))).message).toContain('offline')
    vi.stubEnv('HF_ENDPOINT', 'nonsense')
    expect((await errorOf(loadAdapter('user/other'))).message).toContain('HF_ENDPOINT')
  })

  it('whose cache holds a reference or a link that leads out of it is rejected', async () => {
    const root = join(directory, 'cache', 'models--user--adapter')
    const elsewhere = join(directory, 'elsewhere')
    mkdirSync(join(root, 'refs'), { recursive: true })
    mkdirSync(elsewhere)
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(elsewhere, name), bytes)
    const offline = () => errorOf(load(hub.url, { cacheDir: join(directory, 'cache'), offline: true }))
    for (const text of ['../../../elsewhere', elsewhere, '', 'x'.repeat(1e6), `${commit}\0`]) {
      writeFileSync(join(root, 'refs', 'main'), text)
      expect((await offline()).message).toContain('expected a commit')
    }
    writeFileSync(join(root, 'refs', 'main'), `${commit}\n`)
    mkdirSync(join(root, 'snapshots', commit), { recursive: true })
    for (const name of Object.keys(files))
      symlinkSync(join(elsewhere, name), join(root, 'snapshots', commit, name))
    expect((await offline()).message).toContain('leads out of the cache')
  })
})
