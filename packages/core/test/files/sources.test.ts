/** Each source of an adapter, and its errors. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  type Adapter,
  type AdapterSource,
  createAdapter,
  createConfig,
  type DownloadProgress,
  type LoadAdapterOptions,
  loadAdapter,
  savePretrained,
} from '../../src/index.js'
import { type HubServer, startHubServer } from './hub-server.js'

const first = createAdapter(createConfig({ nFrequency: 5, scaling: 1 }), { layer: [8, 8] })
const second = createAdapter(createConfig({ nFrequency: 6, scaling: 2 }), { layer: [8, 8] })
const filesOf = (adapter: Adapter): Record<string, Uint8Array> => {
  const { config, model } = adapter.toBytes()
  return { 'adapter_config.json': config, 'adapter_model.safetensors': model }
}

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fourierft-sources-'))
})
afterEach(() => {
  vi.restoreAllMocks()
  rmSync(directory, { recursive: true })
})

async function expectError(
  source: AdapterSource,
  code: string,
  part: string,
  options?: LoadAdapterOptions,
): Promise<void> {
  await expect(loadAdapter(source, options)).rejects.toMatchObject({
    name: 'FourierFTError',
    code,
    message: expect.stringContaining(part),
  })
}

describe('a directory', () => {
  it('that does not exist', () => expectError(join(directory, 'none'), 'FILE_NOT_FOUND', 'none'))
  it('without files', () => expectError(directory, 'FILE_NOT_FOUND', 'adapter_config.json'))

  it('without a model, or with a pickle', async () => {
    writeFileSync(join(directory, 'adapter_config.json'), first.toBytes().config)
    await expectError(directory, 'FILE_NOT_FOUND', 'adapter_model.safetensors')
    writeFileSync(join(directory, 'adapter_model.bin'), '')
    await expectError(directory, 'FILE_NOT_FOUND', 'pickle')
  })

  it('with a folder instead of a file', async () => {
    await savePretrained(first, directory)
    rmSync(join(directory, 'adapter_model.safetensors'))
    mkdirSync(join(directory, 'adapter_model.safetensors'))
    await expectError(directory, 'IO_ERROR', 'regular file')
  })

  it('with a file that is too large', async () => {
    await savePretrained(first, directory)
    await expectError(directory, 'FILE_TOO_LARGE', 'maxBytes', { maxBytes: 100 })
  })

  it('as a relative path, a path from the home directory, and a URL', async () => {
    await savePretrained(first, join(directory, 'a'))
    vi.spyOn(process, 'cwd').mockReturnValue(directory)
    vi.stubEnv('HOME', directory)
    for (const source of ['./a', '~/a', new URL(`file://${directory}/a`), join(directory, 'a')]) {
      expect((await loadAdapter(source)).toBytes()).toEqual(first.toBytes())
    }
    vi.unstubAllEnvs()
  })
})

describe('a subfolder', () => {
  beforeEach(async () => {
    await savePretrained(first, directory)
    await savePretrained(second, join(directory, 'german'))
    await savePretrained(second, join(directory, 'deep', 'down'))
  })
  const removeRoot = () => {
    for (const file of Object.keys(filesOf(first))) rmSync(join(directory, file))
  }

  it('of a directory, by path and by URL', async () => {
    for (const source of [directory, new URL(`file://${directory}`)]) {
      expect((await loadAdapter(source, { subfolder: '' })).toBytes()).toEqual(first.toBytes())
      for (const subfolder of ['german', 'german/', 'deep/down'])
        expect((await loadAdapter(source, { subfolder })).toBytes()).toEqual(second.toBytes())
    }
  })

  it('that does not exist: the error names those that do', async () => {
    await expectError(directory, 'FILE_NOT_FOUND', "pass { subfolder: 'german' }", { subfolder: 'french' })
    await expectError(directory, 'FILE_NOT_FOUND', "pass { subfolder: 'deep/down' }", { subfolder: 'deep' })
  })

  it('is named by the error if the directory itself holds no adapter', async () => {
    removeRoot()
    await expectError(
      directory,
      'FILE_NOT_FOUND',
      "the subfolder 'german' contains an adapter; pass { subfolder: 'german' }",
    )
    await savePretrained(first, join(directory, 'french'))
    await expectError(directory, 'FILE_NOT_FOUND', 'these subfolders contain adapters: ')
    for (let i = 0; i < 10; i++) await savePretrained(first, join(directory, `more-${i}`))
    await expectError(directory, 'FILE_NOT_FOUND', ', …; pass')
    rmSync(join(directory, 'deep', 'down'), { recursive: true })
    await expectError(join(directory, 'deep'), 'FILE_NOT_FOUND', 'pass the subfolder of that name')
  })

  it.each(['..', '../x', 'a/../../b', '/etc', 'a//b', '.', 'a\\b', 'C:', 'a\0', '\ud800', 7, null])(
    '%j, which is not a folder below the source, is rejected for every source',
    async (subfolder) => {
      const options = { subfolder: subfolder as string, offline: true, cacheDir: directory }
      for (const source of [directory, new URL('http://127.0.0.1:1/x'), 'user/adapter', first.toBytes()])
        await expectError(source, 'INVALID_OPTION', 'subfolder', options)
    },
  )

  it('of files and bytes in memory is rejected', async () => {
    const list = Object.entries(filesOf(first)).map(([name, bytes]) => new File([bytes as BlobPart], name))
    for (const source of [first.toBytes(), list])
      await expectError(source, 'INVALID_OPTION', 'subfolder', { subfolder: 'german' })
  })
})

describe('an invalid source', () => {
  it.each(['file://host/x', 'file:///x/a%2Fb'])('%s, which is not a directory of this machine', (url) =>
    expectError(new URL(url), 'INVALID_OPTION', 'source'),
  )

  it.each([['no-such-name'], [''], ['a/b/c'], ['ftp://host/x'], [null], [7], [{}]])('%j', (source) =>
    expectError(source as AdapterSource, 'INVALID_OPTION', 'source'),
  )
})

describe('memory', () => {
  it('is copied', async () => {
    const { config, model } = first.toBytes()
    const adapter = await loadAdapter({ config, model })
    model.fill(0)
    expect(adapter.toBytes()).toEqual(first.toBytes())
    adapter.toBytes().model.fill(0)
    expect(adapter.toBytes()).toEqual(first.toBytes())
  })

  it('must hold bytes', () =>
    expectError({ config: '{}', model: '' } as unknown as AdapterSource, 'INVALID_OPTION', 'Uint8Array'))
})

describe('File objects', () => {
  const fileList = (adapter: Adapter) =>
    Object.entries(filesOf(adapter)).map(([name, bytes]) => new File([bytes as BlobPart], name))
  it('load', async () => expect((await loadAdapter(fileList(first))).toBytes()).toEqual(first.toBytes()))
  it('of which one is missing', () =>
    expectError(fileList(first).slice(0, 1), 'FILE_NOT_FOUND', 'adapter_model.safetensors'))
  it('of which two have the same name', () =>
    expectError([...fileList(first), ...fileList(second)], 'INVALID_OPTION', 'adapter_config.json'))
  it('that are too large', () => expectError(fileList(first), 'FILE_TOO_LARGE', 'maxBytes', { maxBytes: 10 }))
})

describe('a URL', () => {
  let server: Server
  let url: string
  /** Pages by path and query. */
  let pages: Record<string, (response: import('node:http').ServerResponse) => void>
  beforeEach(async () => {
    pages = {}
    server = createServer((request, response) => {
      const page = pages[request.url ?? '']
      if (page) page(response)
      else response.writeHead(404).end()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterEach(() => {
    server.closeAllConnections()
    server.close()
  })
  const serve = (base: string, adapter: Adapter, query = '') => {
    for (const [name, bytes] of Object.entries(filesOf(adapter))) {
      pages[`${base}/${name}${query}`] = (response) => response.end(bytes)
    }
  }
  const model = '/x/adapter_model.safetensors'

  it('of a directory, with or without a final slash, with a query', async () => {
    serve('/x', first)
    serve('/x', second, '?key=1')
    expect((await loadAdapter(`${url}/x`)).toBytes()).toEqual(first.toBytes())
    expect((await loadAdapter(new URL(`${url}/x/`))).toBytes()).toEqual(first.toBytes())
    expect((await loadAdapter(`${url}/x/?key=1`)).toBytes()).toEqual(second.toBytes())
  })

  it('reports the progress of its download', async () => {
    serve('/x', first, '?key=a/b')
    const reports: DownloadProgress[] = []
    await loadAdapter(`${url}/x?key=a/b`, { onProgress: (progress) => reports.push(progress) })
    const sizes = Object.entries(filesOf(first)).map(([file, { length }]) => [file, length, length])
    const last = new Map(reports.map(({ file, loaded, total }) => [file, [file, loaded, total]]))
    expect([...last.values()]).toEqual(sizes)
  })

  it('that redirects relatively', async () => {
    serve('/x', first)
    pages[model] = (response) => response.writeHead(302, { Location: '../y/file' }).end()
    pages['/y/file'] = (response) => response.end(first.toBytes().model)
    expect((await loadAdapter(`${url}/x`)).toBytes()).toEqual(first.toBytes())
  })

  it('in compressed form', async () => {
    const { gzipSync } = await import('node:zlib')
    serve('/x', first)
    pages[model] = (response) => {
      response.setHeader('Content-Encoding', 'gzip')
      response.end(gzipSync(first.toBytes().model))
    }
    expect((await loadAdapter(`${url}/x`)).toBytes()).toEqual(first.toBytes())
  })

  it('with a subfolder whose name must be escaped', async () => {
    serve('/x', first)
    serve('/x/german/a%3Fb%20%25', second)
    serve('/x/german', second, '?key=1')
    const load = (source: string, subfolder: string) => loadAdapter(source, { subfolder })
    expect((await load(`${url}/x`, 'german/a?b %')).toBytes()).toEqual(second.toBytes())
    expect((await load(`${url}/x/?key=1`, 'german')).toBytes()).toEqual(second.toBytes())
    await expectError(`${url}/y`, 'FILE_NOT_FOUND', "pass { subfolder: 'its name' }")
  })

  it('without files', () => expectError(`${url}/x`, 'FILE_NOT_FOUND', `${url}/x/adapter_config.json`))
  it('without a server', () => expectError('http://127.0.0.1:1/x', 'IO_ERROR', 'the request failed'))
  it('that is malformed', () => expectError('http://', 'INVALID_OPTION', 'source'))

  it('that answers with an error', async () => {
    serve('/x', first)
    pages[model] = (response) => response.writeHead(503).end()
    await expectError(`${url}/x`, 'IO_ERROR', '503')
  })

  it('that announces too many bytes', async () => {
    serve('/x', first)
    pages[model] = (response) => {
      response.writeHead(200, { 'Content-Length': 1e12 })
      response.write('x')
    }
    await expectError(`${url}/x`, 'FILE_TOO_LARGE', '1000000000000')
  })

  it('that sends bytes without end and does not announce a length', async () => {
    serve('/x', first)
    pages[model] = (response) => {
      const more = () => {
        while (response.write(new Uint8Array(65536)));
      }
      response.on('drain', more)
      more()
    }
    await expectError(`${url}/x`, 'FILE_TOO_LARGE', 'maxBytes', { maxBytes: 1_000_000 })
  })

  it('that breaks off', async () => {
    serve('/x', first)
    for (const length of [{ 'Content-Length': 1000 }, {}]) {
      pages[model] = (response) => {
        response.writeHead(200, length)
        response.write('x', () => response.destroy())
      }
      await expectError(`${url}/x`, 'IO_ERROR', 'broke off')
    }
  })

  it('rejects with the reason of an aborted signal', async () => {
    serve('/x', first)
    const controller = new AbortController()
    pages[model] = (response) => {
      response.write('x')
      controller.abort(new Error('enough'))
    }
    await expect(loadAdapter(`${url}/x`, { signal: controller.signal })).rejects.toThrow('enough')
    await expect(loadAdapter(`${url}/x`, { signal: controller.signal })).rejects.toThrow('enough')
  })
})

describe('a repository of the hub', () => {
  const [oldCommit, newCommit] = ['a'.repeat(40), 'b'.repeat(40)]
  let hub: HubServer
  let options: LoadAdapterOptions
  beforeEach(async () => {
    hub = await startHubServer()
    hub.commits.set(oldCommit, filesOf(first)).set(newCommit, filesOf(second))
    hub.branches.set('main', newCommit).set('v1', oldCommit).set('refs/pr/1', oldCommit)
    options = { hubUrl: hub.url, cacheDir: join(directory, 'cache') }
  })
  afterEach(() => hub.close())
  const load = (more?: LoadAdapterOptions) => loadAdapter('user/adapter', { ...options, ...more })
  const expectHubError = (code: string, part: string, more?: LoadAdapterOptions) =>
    expectError('user/adapter', code, part, { ...options, ...more })
  const cached = (...path: string[]) => join(directory, 'cache', 'models--user--adapter', ...path)

  it('at a branch, a tag, a reference with slashes and a commit', async () => {
    expect((await load()).toBytes()).toEqual(second.toBytes())
    for (const revision of ['v1', 'refs/pr/1', oldCommit]) {
      expect((await load({ revision })).toBytes()).toEqual(first.toBytes())
    }
  })

  it('with the adapter in a folder', async () => {
    const files = Object.entries(filesOf(first)).map(([name, bytes]) => [`sub/dir/${name}`, bytes])
    hub.commits.set(newCommit, Object.fromEntries(files))
    expect((await load({ subfolder: 'sub/dir' })).toBytes()).toEqual(first.toBytes())
    await expectHubError('FILE_NOT_FOUND', 'adapter_config.json')
    await expectHubError('FILE_NOT_FOUND', "pass { subfolder: 'its name' }")
    expect((await load({ subfolder: 'sub/dir/', offline: true })).toBytes()).toEqual(first.toBytes())
  })

  it('reports the progress of its download', async () => {
    const files = new Set<string>()
    await load({ onProgress: ({ file, loaded, total }) => loaded === total && files.add(file) })
    expect([...files]).toEqual(['adapter_config.json', 'adapter_model.safetensors'])
  })

  it('is cached in the layout of huggingface_hub', async () => {
    await load()
    expect(readFileSync(cached('refs', 'main'), 'utf8')).toBe(newCommit)
    const pointer = cached('snapshots', newCommit, 'adapter_model.safetensors')
    expect(readlinkSync(pointer)).toMatch(/^\.\.[/\\]\.\.[/\\]blobs[/\\][0-9a-f]{64}$/)
    expect(existsSync(join(dirname(pointer), readlinkSync(pointer)))).toBe(true)
    expect(readdirSync(cached('blobs')).filter((name) => name.endsWith('.incomplete'))).toEqual([])
  })

  it('is not downloaded twice, unless its branch moves', async () => {
    hub.branches.set('main', oldCommit)
    await load()
    hub.requests.length = 0
    await load()
    expect(hub.requests).toEqual(['GET /api/models/user/adapter/revision/main'])
    hub.branches.set('main', newCommit)
    expect((await load()).toBytes()).toEqual(second.toBytes())
    hub.requests.length = 0
    expect((await load({ revision: oldCommit })).toBytes()).toEqual(first.toBytes())
    expect(hub.requests).toEqual([])
  })

  it('loads without a network only from the cache', async () => {
    await expectHubError('FILE_NOT_FOUND', 'cache', { offline: true })
    await load()
    hub.requests.length = 0
    expect((await load({ offline: true })).toBytes()).toEqual(second.toBytes())
    expect(hub.requests).toEqual([])
    await expectHubError('FILE_NOT_FOUND', 'offline', { offline: true, revision: 'v1' })
    await hub.close()
    expect((await load()).toBytes()).toEqual(second.toBytes())
    await expectHubError('IO_ERROR', 'the connection was refused, ECONNREFUSED', { revision: 'v1' })
  })

  it('loads from a cache of huggingface_hub, with links or copies', async () => {
    for (const name of Object.keys(filesOf(first))) {
      const snapshot = cached('snapshots', oldCommit, name)
      mkdirSync(dirname(snapshot), { recursive: true })
      mkdirSync(cached('blobs'), { recursive: true })
      writeFileSync(cached('blobs', name), filesOf(first)[name])
      if (name.endsWith('.json')) writeFileSync(snapshot, filesOf(first)[name])
      else symlinkSync(join('..', '..', 'blobs', name), snapshot)
    }
    mkdirSync(cached('refs'))
    writeFileSync(cached('refs', 'main'), oldCommit)
    expect((await load({ offline: true })).toBytes()).toEqual(first.toBytes())
    vi.stubEnv('HF_HUB_CACHE', join(directory, 'cache'))
    const { cacheDir: _, ...others } = options
    expect((await loadAdapter('user/adapter', { ...others, offline: true })).toBytes()).toEqual(
      first.toBytes(),
    )
    vi.unstubAllEnvs()
  })

  it('that does not exist, or lacks a file', async () => {
    await expectError('user/other', 'FILE_NOT_FOUND', 'user/other', options)
    await expectHubError('FILE_NOT_FOUND', 'v9', { revision: 'v9' })
    const { 'adapter_config.json': config } = filesOf(first)
    hub.commits.set(newCommit, { 'adapter_config.json': config })
    await expectHubError('FILE_NOT_FOUND', 'adapter_model.safetensors')
  })

  it('that needs a token', async () => {
    hub.token = 'hf_secret'
    await expectHubError('IO_ERROR', 'token')
    await expectHubError('IO_ERROR', '401', { token: 'hf_wrong' })
    await expectHubError('INVALID_OPTION', 'hf_', { token: 'wrong' })
    expect((await load({ token: 'hf_secret' })).toBytes()).toEqual(second.toBytes())
  })

  it('that breaks off, or sends another file, leaves nothing in the cache', async () => {
    hub.fault = 'cut off'
    await expectHubError('IO_ERROR', 'broke off')
    hub.fault = 'another content'
    await expectHubError('IO_ERROR', 'digest')
    expect(existsSync(cached())).toBe(false)
    hub.fault = undefined
    expect((await load()).toBytes()).toEqual(second.toBytes())
  })

  it('with a file that is too large, which is not requested', async () => {
    await expectHubError('FILE_TOO_LARGE', 'maxBytes', { maxBytes: 10 })
    expect(hub.requests.filter((request) => request.includes('resolve'))).toEqual([])
  })

  it('rejects revisions that lead out of the cache', async () => {
    for (const revision of ['', '..', 'a/../b', '\ud800', 7])
      await expectHubError('INVALID_OPTION', 'revision', { revision: revision as string })
    await expectHubError('INVALID_OPTION', 'revision', { offline: true, revision: '../../../x' })
  })

  it('whose cache cannot be written', async () => {
    writeFileSync(join(directory, 'cache'), '')
    await expectHubError('IO_ERROR', 'cache')
  })

  it('rejects with the reason of an aborted signal', async () => {
    const signal = AbortSignal.abort(new Error('enough'))
    await expect(load({ signal })).rejects.toThrow('enough')
  })
})
