/** Adapters come from where transformers.js' `env` says that models are, and from nowhere else. The hosts are real servers on this machine. */
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
import { loadPeftModel } from './load-peft-model.js'
import { loadWithEnv } from './load-with-env.js'

const adapter = createAdapter(
  createConfig({ nFrequency: 3, taskType: 'FEATURE_EXTRACTION', baseModelNameOrPath: 'user/base' }),
  { 'a.query': [4, 4] },
)
const bytes = adapter.toBytes()

let directory: string
let server: Server
let url: string
/** What the server was asked for. */
let asked: string[]
/** Tokens that came with it. */
let tokens: (string | undefined)[]
const before = { ...env }

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'fourierft-env-'))
  asked = []
  tokens = []
  server = createServer(({ url: path = '', headers }, response) => {
    asked.push(path)
    tokens.push(headers.authorization)
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
  // Nothing on this machine, and nobody beyond it: a request that goes elsewhere than it should fails here.
  vi.stubEnv('HF_HUB_CACHE', join(directory, 'hub'))
  vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:9')
})
afterEach(() => {
  Object.assign(env, before)
  vi.unstubAllEnvs()
  server.closeAllConnections()
  server.close()
  rmSync(directory, { recursive: true })
})

test('a mirror is asked by its host and path, and what it sends is kept in the cache of transformers.js', async () => {
  env.remoteHost = `${url}/`
  env.remotePathTemplate = 'files/{model}/at/{revision}/'
  const token = 'secret'
  expect((await loadWithEnv('user/adapter', { revision: 'refs/pr/1', token })).toBytes()).toEqual(bytes)
  expect(asked).toEqual([
    '/files/user/adapter/at/refs%2Fpr%2F1/adapter_config.json',
    '/files/user/adapter/at/refs%2Fpr%2F1/adapter_model.safetensors',
  ])
  expect(new Set(tokens)).toEqual(new Set(['Bearer secret']))
  const kept = join(directory, 'cache/user/adapter/refs/pr/1/adapter_config.json')
  expect(readFileSync(kept)).toEqual(Buffer.from(bytes.config))
  expect((await loadWithEnv('user/adapter', { subfolder: 'de' })).toBytes()).toEqual(bytes)
  expect(asked[2]).toBe('/files/user/adapter/at/main/de/adapter_config.json')
  asked.length = 0
  await loadWithEnv('user/adapter', { revision: 'refs/pr/1' })
  await loadWithEnv('user/adapter', { subfolder: 'de' })
  expect(asked).toEqual([])
  await expect(loadWithEnv('user/other')).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
})

test.each(['models', 'cache'])('a subfolder of a folder below %s is looked into', async (below) => {
  env.remoteHost = `${url}/`
  await savePretrained(adapter, join(directory, below, 'user/adapter/german'))
  expect((await loadWithEnv('user/adapter', { subfolder: 'german' })).toBytes()).toEqual(bytes)
  expect(asked).toEqual([])
})

test('a directory is read, whatever host there is', async () => {
  env.remoteHost = `${url}/`
  await savePretrained(adapter, join(directory, 'saved/german'))
  // A path that does not begin like one: from here to there through a link.
  const link = `fourierft-${process.pid}-saved`
  symlinkSync(join(directory, 'saved'), link)
  try {
    expect((await loadWithEnv(link, { subfolder: 'german' })).toBytes()).toEqual(bytes)
    await expect(loadWithEnv(link)).rejects.toThrow("pass { subfolder: 'german' }")
  } finally {
    rmSync(link)
  }
  expect(asked).toEqual([])
})

test('nothing leads out of the folders or of the host', async () => {
  env.remoteHost = `${url}/`
  env.remotePathTemplate = 'files/{model}/at/{revision}/'
  await savePretrained(adapter, join(directory, 'models/outside'))
  const refused = { code: 'INVALID_OPTION' }
  for (const option of ['subfolder', 'revision'])
    for (const path of ['..', '../outside', 'a/../../../outside', '/etc', 'a\\b', '\ud800'])
      await expect(loadWithEnv('user/adapter', { [option]: path })).rejects.toMatchObject({
        ...refused,
        details: { option },
      })
  await expect(loadWithEnv('user/../../adapter')).rejects.toMatchObject(refused)
  expect(asked).toEqual([])
  // In a URL these would be the folder above.
  await loadWithEnv('user/adapter', { subfolder: '%2e%2e/x' })
  expect(asked[0]).toBe('/files/user/adapter/at/main/%252e%252e/x/adapter_config.json')
})

test('a model folder is looked into first', async () => {
  env.remoteHost = `${url}/`
  await savePretrained(adapter, join(directory, 'models/user/adapter'))
  await savePretrained(adapter, join(directory, 'models/single'))
  expect((await loadWithEnv('user/adapter')).toBytes()).toEqual(bytes)
  expect((await loadWithEnv('single')).toBytes()).toEqual(bytes)
  expect(asked).toEqual([])
  env.allowLocalModels = false
  await loadWithEnv('user/adapter')
  expect(asked).toHaveLength(2)
})

test('without remote models nobody is asked', async () => {
  env.remoteHost = `${url}/`
  vi.stubEnv('HF_ENDPOINT', url)
  env.allowRemoteModels = false
  const refused = loadPeftModel('user/adapter')
  await expect(refused).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
  await expect(refused).rejects.toThrow(/models\/user\/adapter.*env\.allowRemoteModels/s)
  env.allowRemoteModels = true
  await expect(loadPeftModel('user/adapter', { local_files_only: true })).rejects.toMatchObject({
    code: 'FILE_NOT_FOUND',
  })
  expect(asked).toEqual([])
})

test('HF_ENDPOINT is the hub of adapters and of base models', async () => {
  vi.stubEnv('HF_ENDPOINT', url)
  await expect(loadWithEnv('user/adapter')).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
  expect(asked).toEqual(['/api/models/user/adapter/revision/main?expand=sha'])
  asked.length = 0
  await savePretrained(adapter, join(directory, 'models/user/adapter'))
  // There is no base model anywhere, but it is looked for there.
  await expect(loadPeftModel('user/adapter')).rejects.toThrow()
  expect(asked.length).toBeGreaterThan(0)
  expect(asked.every((path) => path.startsWith('/user/base/resolve/main/'))).toBe(true)
})

test('a program that requires transformers.js sets the env of its own copy', async () => {
  const { env: theirs }: { env: typeof env } = createRequire(import.meta.url)('@huggingface/transformers')
  expect(theirs).not.toBe(env)
  Object.assign(env, before)
  const original = { ...theirs }
  try {
    theirs.remoteHost = `${url}/`
    theirs.localModelPath = join(directory, 'theirs')
    theirs.cacheDir = join(directory, 'their-cache')
    expect((await loadWithEnv('user/adapter')).toBytes()).toEqual(bytes)
    expect(asked).toHaveLength(2)
    theirs.allowRemoteModels = false
    await expect(loadWithEnv('user/other')).rejects.toThrow('env.allowRemoteModels')
    expect(asked).toHaveLength(2)
    mkdirSync(join(directory, 'theirs'))
    await savePretrained(adapter, join(directory, 'theirs/own'))
    expect((await loadWithEnv('own')).toBytes()).toEqual(bytes)
    // What is set in this copy goes first; what is taken back there is taken back here.
    env.remoteHost = 'http://127.0.0.1:9/'
    expect(settings().remoteHost).toBe('http://127.0.0.1:9/')
    theirs.allowRemoteModels = true
    expect(settings().allowRemoteModels).toBe(true)
  } finally {
    Object.assign(theirs, original)
    settings()
  }
})
