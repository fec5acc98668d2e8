/** Adapters are loaded only from the locations in transformers.js' `env`. The host is a real server on this machine. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdapter, createConfig, savePretrained } from '@fourierft/core'
import { env, LogLevel } from '@huggingface/transformers'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { settings } from './environment.js'
import { loadFromTransformersEnv } from './load-from-transformers-env.js'
import { loadPeftModel } from './load-peft-model.js'

const adapter = createAdapter(
  createConfig({ nFrequency: 3, taskType: 'FEATURE_EXTRACTION', baseModelNameOrPath: 'user/base' }),
  { 'a.query': [4, 4] },
)
const bytes = adapter.toBytes()

let directory: string
let server: Server
let url: string
/** The paths of the requests to the server. */
let requestedPaths: string[]
/** The `Authorization` headers of these requests. */
let authorizations: (string | undefined)[]
const initialEnv = { ...env }

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'fourierft-env-'))
  requestedPaths = []
  authorizations = []
  server = createServer(({ url: path = '', headers }, response) => {
    requestedPaths.push(path)
    authorizations.push(headers.authorization)
    if (!path.startsWith('/files/user/adapter/') && !path.startsWith('/user/adapter/'))
      response.writeHead(404).end()
    else if (path.endsWith('adapter_config.json')) response.end(bytes.config)
    else if (path.endsWith('adapter_model.safetensors')) response.end(bytes.model)
    else response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  env.logLevel = LogLevel.NONE
  env.localModelPath = join(directory, 'models')
  env.cacheDir = join(directory, 'cache')
  // The cache is empty, and the host does not exist, so a request to the wrong host fails.
  vi.stubEnv('HF_HUB_CACHE', join(directory, 'hub'))
  vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:9')
})
afterEach(() => {
  Object.assign(env, initialEnv)
  vi.unstubAllEnvs()
  server.closeAllConnections()
  server.close()
  rmSync(directory, { recursive: true })
})

test('downloads from the mirror’s host and path, and saves the files in the cache of transformers.js', async () => {
  env.remoteHost = `${url}/`
  env.remotePathTemplate = 'files/{model}/at/{revision}/'
  const token = 'secret'
  expect((await loadFromTransformersEnv('user/adapter', { revision: 'refs/pr/1', token })).toBytes()).toEqual(
    bytes,
  )
  expect(requestedPaths).toEqual([
    '/files/user/adapter/at/refs%2Fpr%2F1/adapter_config.json',
    '/files/user/adapter/at/refs%2Fpr%2F1/adapter_model.safetensors',
  ])
  expect(new Set(authorizations)).toEqual(new Set(['Bearer secret']))
  const cached = join(directory, 'cache/user/adapter/refs/pr/1/adapter_config.json')
  expect(readFileSync(cached)).toEqual(Buffer.from(bytes.config))
  expect((await loadFromTransformersEnv('user/adapter', { subfolder: 'de' })).toBytes()).toEqual(bytes)
  expect(requestedPaths[2]).toBe('/files/user/adapter/at/main/de/adapter_config.json')
  requestedPaths.length = 0
  await loadFromTransformersEnv('user/adapter', { revision: 'refs/pr/1' })
  await loadFromTransformersEnv('user/adapter', { subfolder: 'de' })
  expect(requestedPaths).toEqual([])
  await expect(loadFromTransformersEnv('user/other')).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
})

test.each(['models', 'cache'])('finds a subfolder of a folder in %s', async (parent) => {
  env.remoteHost = `${url}/`
  await savePretrained(adapter, join(directory, parent, 'user/adapter/german'))
  expect((await loadFromTransformersEnv('user/adapter', { subfolder: 'german' })).toBytes()).toEqual(bytes)
  expect(requestedPaths).toEqual([])
})

test('reads an existing directory, even if env.remoteHost is set', async () => {
  env.remoteHost = `${url}/`
  await savePretrained(adapter, join(directory, 'saved/german'))
  // A relative path without a leading dot: a link in the current directory.
  const link = `fourierft-${process.pid}-saved`
  symlinkSync(join(directory, 'saved'), link)
  try {
    expect((await loadFromTransformersEnv(link, { subfolder: 'german' })).toBytes()).toEqual(bytes)
    await expect(loadFromTransformersEnv(link)).rejects.toThrow("pass { subfolder: 'german' }")
  } finally {
    rmSync(link)
  }
  expect(requestedPaths).toEqual([])
})

test('rejects names that escape the model folder or the URL path', async () => {
  env.remoteHost = `${url}/`
  env.remotePathTemplate = 'files/{model}/at/{revision}/'
  await savePretrained(adapter, join(directory, 'models/outside'))
  const invalid = { code: 'INVALID_OPTION' }
  for (const option of ['subfolder', 'revision'])
    for (const path of ['..', '../outside', 'a/../../../outside', '/etc', 'a\\b', '\ud800'])
      await expect(loadFromTransformersEnv('user/adapter', { [option]: path })).rejects.toMatchObject({
        ...invalid,
        details: { option },
      })
  await expect(loadFromTransformersEnv('user/../../adapter')).rejects.toMatchObject(invalid)
  expect(requestedPaths).toEqual([])
  // In a URL, an unescaped `%2e%2e` would be the parent folder.
  await loadFromTransformersEnv('user/adapter', { subfolder: '%2e%2e/x' })
  expect(requestedPaths[0]).toBe('/files/user/adapter/at/main/%252e%252e/x/adapter_config.json')
})

test('looks in the model folder first', async () => {
  env.remoteHost = `${url}/`
  await savePretrained(adapter, join(directory, 'models/user/adapter'))
  await savePretrained(adapter, join(directory, 'models/single'))
  expect((await loadFromTransformersEnv('user/adapter')).toBytes()).toEqual(bytes)
  expect((await loadFromTransformersEnv('single')).toBytes()).toEqual(bytes)
  expect(requestedPaths).toEqual([])
  env.allowLocalModels = false
  await loadFromTransformersEnv('user/adapter')
  expect(requestedPaths).toHaveLength(2)
})

test('makes no requests if remote models are forbidden', async () => {
  env.remoteHost = `${url}/`
  vi.stubEnv('HF_ENDPOINT', url)
  env.allowRemoteModels = false
  const loading = loadPeftModel('user/adapter')
  await expect(loading).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
  await expect(loading).rejects.toThrow(/models\/user\/adapter.*env\.allowRemoteModels/s)
  env.allowRemoteModels = true
  await expect(loadPeftModel('user/adapter', { local_files_only: true })).rejects.toMatchObject({
    code: 'FILE_NOT_FOUND',
  })
  expect(requestedPaths).toEqual([])
})

test('HF_ENDPOINT specifies the hub of adapters and of base models', async () => {
  vi.stubEnv('HF_ENDPOINT', url)
  await expect(loadFromTransformersEnv('user/adapter')).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
  expect(requestedPaths).toEqual(['/api/models/user/adapter/revision/main?expand=sha'])
  requestedPaths.length = 0
  await savePretrained(adapter, join(directory, 'models/user/adapter'))
  // The base model does not exist, but it is requested from the hub.
  await expect(loadPeftModel('user/adapter')).rejects.toThrow()
  expect(requestedPaths.length).toBeGreaterThan(0)
  expect(requestedPaths.every((path) => path.startsWith('/user/base/resolve/main/'))).toBe(true)
})

test('uses the env of the CommonJS copy of transformers.js', async () => {
  const { env: commonJsEnv }: { env: typeof env } = createRequire(import.meta.url)(
    '@huggingface/transformers',
  )
  expect(commonJsEnv).not.toBe(env)
  Object.assign(env, initialEnv)
  const original = { ...commonJsEnv }
  try {
    commonJsEnv.remoteHost = `${url}/`
    commonJsEnv.localModelPath = join(directory, 'commonjs-models')
    commonJsEnv.cacheDir = join(directory, 'commonjs-cache')
    expect((await loadFromTransformersEnv('user/adapter')).toBytes()).toEqual(bytes)
    expect(requestedPaths).toHaveLength(2)
    commonJsEnv.allowRemoteModels = false
    await expect(loadFromTransformersEnv('user/other')).rejects.toThrow('env.allowRemoteModels')
    expect(requestedPaths).toHaveLength(2)
    mkdirSync(join(directory, 'commonjs-models'))
    await savePretrained(adapter, join(directory, 'commonjs-models/german'))
    expect((await loadFromTransformersEnv('german')).toBytes()).toEqual(bytes)
    // A value that is set in the ESM copy takes precedence. Resetting a value in the CommonJS copy takes effect.
    env.remoteHost = 'http://127.0.0.1:9/'
    expect(settings().remoteHost).toBe('http://127.0.0.1:9/')
    commonJsEnv.allowRemoteModels = true
    expect(settings().allowRemoteModels).toBe(true)
  } finally {
    Object.assign(commonJsEnv, original)
    settings()
  }
})
