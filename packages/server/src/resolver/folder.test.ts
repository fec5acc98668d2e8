import { execFile } from 'node:child_process'
import { utimesSync, writeFileSync } from 'node:fs'
import {
  appendFile,
  chmod,
  mkdir,
  mkdtemp,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type Adapter, CONFIG_FILE, MODEL_FILE, savePretrained } from '@fourierft/core'
import { beforeEach, describe, expect, it } from 'vitest'
import { testAdapter } from '../__fixtures__/adapters.js'
import { folderResolver } from './folder.js'

const { signal } = new AbortController()
/** Longer than the time for which files must be unchanged. */
const QUIET_MS = 60

let parent: string
let folder: string

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'fourierft-server-'))
  folder = join(parent, 'adapters')
  await mkdir(folder)
  return () => rm(parent, { recursive: true })
})

const save = (name: string, adapter = testAdapter()) => savePretrained(adapter, join(folder, name))

async function read(name: string, resolver = folderResolver(folder)): Promise<Adapter> {
  const found = await resolver.find(name, signal)
  if (found === undefined) throw new Error(`${name} was not found`)
  return found.read(signal)
}

function coefficients({ modules }: Adapter): number[] {
  // Files have the modules in another order.
  return [...modules.keys()].sort().flatMap((name) => [...(modules.get(name)?.coefficients ?? [])])
}

describe('find', () => {
  it('finds and reads an adapter in a subfolder', async () => {
    const adapter = testAdapter({ initialSeed: 3 })
    await save('customer', adapter)
    expect(coefficients(await read('customer'))).toEqual(coefficients(adapter))
  })

  it('finds an adapter that was saved later', async () => {
    const resolver = folderResolver(folder)
    expect(await resolver.find('customer', signal)).toBeUndefined()
    await save('customer')
    expect(await resolver.find('customer', signal)).toBeDefined()
  })

  it('gives another version if a file changes, and the same one if none does', async () => {
    await save('customer')
    const resolver = folderResolver(folder)
    const version = async () => (await resolver.find('customer', signal))?.version
    const first = await version()
    expect(await version()).toBe(first)
    await save('customer', testAdapter({ initialSeed: 1 }))
    const second = await version()
    expect(second).not.toBe(first)
    await appendFile(join(folder, 'customer', CONFIG_FILE), '\n')
    expect(await version()).not.toBe(second)
  })

  it('sees a new content of the same size and the same time of modification', async () => {
    await save('customer')
    const file = join(folder, 'customer', MODEL_FILE)
    const { atime, mtime } = await stat(file)
    const resolver = folderResolver(folder)
    const version = async () => (await resolver.find('customer', signal))?.version
    const first = await version()
    await writeFile(file, testAdapter({ initialSeed: 1 }).toBytes().model)
    await utimes(file, atime, mtime)
    expect(await version()).not.toBe(first)
  })

  it('does not find a deleted adapter', async () => {
    await save('customer')
    const resolver = folderResolver(folder)
    expect(await resolver.find('customer', signal)).toBeDefined()
    await rm(join(folder, 'customer'), { recursive: true })
    expect(await resolver.find('customer', signal)).toBeUndefined()
  })

  it.each([CONFIG_FILE, MODEL_FILE])('does not find an adapter without %s', async (file) => {
    await save('customer')
    await rm(join(folder, 'customer', file))
    expect(await folderResolver(folder).find('customer', signal)).toBeUndefined()
  })

  it('waits for the second of two files', async () => {
    const [old, fresh] = [testAdapter(), testAdapter({ nFrequency: 7, initialSeed: 1 })]
    await save('customer', old)
    await sleep(QUIET_MS)
    const directory = join(folder, 'customer')
    const { config, model } = fresh.toBytes()
    await writeFile(join(directory, CONFIG_FILE), config)
    const reading = read('customer')
    await sleep(20)
    await writeFile(join(directory, MODEL_FILE), model)
    expect(coefficients(await reading)).toEqual(coefficients(fresh))
  })

  it('does not wait for files with a time in the future', async () => {
    await save('customer')
    await sleep(QUIET_MS)
    const future = new Date(Date.now() + 1e9)
    await utimes(join(folder, 'customer', MODEL_FILE), future, future)
    await sleep(QUIET_MS)
    expect(await folderResolver(folder).find('customer', signal)).toBeDefined()
  })

  it.each(['..', '.', '../secret', '/etc', 'a/b', '', 'customer\0', '..\\secret'])(
    'does not look up the name %j',
    async (name) => {
      await savePretrained(testAdapter(), join(parent, 'secret'))
      await savePretrained(testAdapter(), parent)
      await savePretrained(testAdapter(), folder)
      await savePretrained(testAdapter(), join(folder, 'a', 'b'))
      expect(await folderResolver(folder).find(name, signal)).toBeUndefined()
    },
  )

  it('follows symbolic links, as volumes of Kubernetes need', async () => {
    const adapter = testAdapter({ initialSeed: 4 })
    await savePretrained(adapter, join(folder, '..2026_01_01'))
    await symlink('..2026_01_01', join(folder, '..data'))
    await symlink('..data', join(folder, 'customer'))
    await mkdir(join(folder, 'other'))
    for (const file of [CONFIG_FILE, MODEL_FILE])
      await symlink(join('..', '..data', file), join(folder, 'other', file))
    const resolver = folderResolver(folder)
    for (const name of ['customer', 'other'])
      expect(coefficients(await read(name, resolver))).toEqual(coefficients(adapter))
    expect((await resolver.list()).map(({ name }) => name)).toEqual(['customer', 'other'])

    const before = await resolver.find('customer', signal)
    await savePretrained(testAdapter({ initialSeed: 5 }), join(folder, '..2026_01_02'))
    await symlink('..2026_01_02', join(folder, '..new'))
    await rename(join(folder, '..new'), join(folder, '..data'))
    expect((await resolver.find('customer', signal))?.version).not.toBe(before?.version)
  })

  it('does not find links that lead nowhere or to themselves', async () => {
    await symlink('nowhere', join(folder, 'dangling'))
    await symlink('loop', join(folder, 'loop'))
    for (const name of ['dangling', 'loop'])
      expect(await folderResolver(folder).find(name, signal)).toBeUndefined()
    expect(await folderResolver(folder).list()).toEqual([])
  })

  it('ends the wait of an aborted call alone', async () => {
    await save('customer')
    const resolver = folderResolver(folder)
    const controller = new AbortController()
    const aborted = resolver.find('customer', controller.signal)
    const other = resolver.find('customer', signal)
    controller.abort(new Error('gone'))
    await expect(aborted).rejects.toThrow('gone')
    expect(await other).toBeDefined()
  })
})

describe('read', () => {
  const modelFile = () => join(folder, 'customer', MODEL_FILE)

  it('rejects a file that was cut off', async () => {
    await save('customer')
    await truncate(modelFile(), 300)
    await expect(read('customer')).rejects.toMatchObject({ code: 'INVALID_SAFETENSORS' })
  })

  it.each([
    ['a header longer than the file', Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 127, 123, 125)],
    ['an empty file', new Uint8Array()],
    [
      'a header that declares 2⁶⁰ numbers',
      withHeader('{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,0]}}'),
    ],
    ['a header with __proto__', withHeader('{"__proto__":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}')],
    ['a deep header', withHeader(`{"a":${'['.repeat(100_000)}`)],
  ])('rejects %s', async (_, model) => {
    await save('customer')
    await writeFile(modelFile(), model)
    await expect(read('customer')).rejects.toMatchObject({ name: 'FourierFTError' })
  })

  it('rejects a file beyond the limit before it is read', async () => {
    await save('customer')
    await truncate(modelFile(), 100 * 2 ** 30)
    await expect(read('customer')).rejects.toMatchObject({ code: 'FILE_TOO_LARGE' })
    const resolver = folderResolver(folder, { maxBytes: 1000 })
    await save('other', testAdapter({ layers: 5 }))
    await expect(read('other', resolver)).rejects.toMatchObject({ code: 'FILE_TOO_LARGE' })
  })

  it.skipIf(process.platform === 'win32')('does not wait for a pipe', async () => {
    await save('customer')
    await rm(modelFile())
    await promisify(execFile)('mkfifo', [modelFile()])
    await expect(read('customer')).rejects.toMatchObject({ code: 'IO_ERROR' })
  })

  it('does not show where the folder is', async () => {
    await save('customer')
    await truncate(modelFile(), 300)
    const error: unknown = await read('customer').catch((error) => error)
    expect((error as Error).message).toContain(MODEL_FILE)
    expect((error as Error).message).not.toContain(parent)
  })

  it('gives warnings to the caller alone', async () => {
    const adapter = testAdapter()
    const { model } = adapter.toBytes()
    const config = JSON.parse(new TextDecoder().decode(adapter.toBytes().config))
    await save('customer')
    await writeFile(modelFile(), model)
    await writeFile(
      join(folder, 'customer', CONFIG_FILE),
      JSON.stringify({ ...config, target_modules: ['query'] }),
    )
    const lines: string[] = []
    await read('customer', folderResolver(folder, { onWarning: (line) => lines.push(line) }))
    expect(lines).toHaveLength(1)
    expect(lines[0]).not.toContain(parent)
  })

  it('never gives a mixture while files are written again and again', async () => {
    const adapters = [
      testAdapter({ nFrequency: 4, initialSeed: 1, layers: 12 }),
      testAdapter({ nFrequency: 4, initialSeed: 2, layers: 12 }),
    ]
    const expected = adapters.map((adapter) => JSON.stringify(coefficients(adapter)))
    const [first] = adapters as [Adapter]
    await save('customer', first)
    const writer = new AbortController()
    const write = async () => {
      for (let i = 0; !writer.signal.aborted; i++) {
        const { model } = (adapters[i % 2] as Adapter).toBytes()
        // In place and in two pieces: the worst way to write a file.
        await writeFile(modelFile(), model.subarray(0, model.length / 2))
        await sleep(1)
        await appendFile(modelFile(), model.subarray(model.length / 2))
        await sleep((i % 5) * 20)
      }
    }
    const writing = write()
    try {
      const found = await folderResolver(folder).find('customer', signal)
      const outcomes: (string | undefined)[] = []
      for (let i = 0; i < 20; i++)
        outcomes.push(
          await found?.read(signal).then(
            (adapter) => JSON.stringify(coefficients(adapter)),
            (error: { code: string }) => error.code,
          ),
        )
      // On a busy machine the file may stay incomplete for longer than the resolver waits.
      for (const outcome of outcomes)
        expect([...expected, 'invalid_adapter', 'INVALID_SAFETENSORS']).toContain(outcome)
      expect(outcomes.filter((outcome) => outcome?.startsWith('['))).not.toEqual([])
    } finally {
      writer.abort()
      await writing
    }
    expect(expected).toContain(JSON.stringify(coefficients(await read('customer'))))
  })

  it('says that the files change while they are read', async () => {
    await save('customer')
    const config = JSON.parse(new TextDecoder().decode(testAdapter().toBytes().config))
    await writeFile(
      join(folder, 'customer', CONFIG_FILE),
      JSON.stringify({ ...config, target_modules: ['query'] }),
    )
    let attempts = 0
    const resolver = folderResolver(folder, {
      // Called within each attempt, because the file has tensors that the configuration does not target.
      onWarning: () => utimesSync(modelFile(), ++attempts, attempts),
    })
    const error: unknown = await read('customer', resolver).catch((error) => error)
    expect(error).toMatchObject({ code: 'invalid_adapter', status: 422 })
    expect((error as Error).message).toMatch(/change while they are read/)
    expect(attempts).toBeGreaterThan(1)
  })

  it('reads again if the files change while they are read', async () => {
    await save('customer')
    const config = JSON.parse(new TextDecoder().decode(testAdapter().toBytes().config))
    await writeFile(
      join(folder, 'customer', CONFIG_FILE),
      JSON.stringify({ ...config, target_modules: ['query'] }),
    )
    const fresh = testAdapter({ initialSeed: 1 })
    let attempts = 0
    const resolver = folderResolver(folder, {
      onWarning: () => {
        if (attempts++ === 0) writeFileSync(modelFile(), fresh.toBytes().model)
      },
    })
    const queries = coefficients(fresh).filter((_, i) => Math.floor(i / 6) % 2 === 0)
    expect(coefficients(await read('customer', resolver))).toEqual(queries)
    expect(attempts).toBe(2)
  })

  it('is not found any more if it is deleted before it is read', async () => {
    await save('customer')
    const found = await folderResolver(folder).find('customer', signal)
    await rm(join(folder, 'customer'), { recursive: true })
    await expect(found?.read(signal)).rejects.toMatchObject({ code: 'model_not_found' })
  })
})

// Windows has no such permissions.
describe.runIf(process.platform !== 'win32')('without permission', () => {
  const NOBODY = 65534
  const { getuid } = process
  /** Root may read everything. */
  async function asNobody(work: () => Promise<void>) {
    if (getuid?.() !== 0) return work()
    process.seteuid?.(NOBODY)
    try {
      await work()
    } finally {
      process.seteuid?.(0)
    }
  }

  it('rejects the adapter alone', async () => {
    for (const name of ['open', 'closed', 'unreadable']) await save(name)
    for (const path of [parent, folder, join(folder, 'open')]) await chmod(path, 0o755)
    await chmod(join(folder, 'closed'), 0)
    await chmod(join(folder, 'unreadable', MODEL_FILE), 0)
    await asNobody(async () => {
      expect(await read('open')).toBeDefined()
      await expect(read('closed')).rejects.toMatchObject({ code: 'invalid_adapter', param: 'model' })
      await expect(read('unreadable')).rejects.toMatchObject({ code: 'IO_ERROR' })
      expect((await folderResolver(folder).list()).map(({ name }) => name)).toContain('open')
    })
    await chmod(join(folder, 'closed'), 0o755)
  })

  it('rejects an adapter that was closed after it was found', async () => {
    await save('customer')
    for (const path of [parent, folder]) await chmod(path, 0o755)
    const found = await folderResolver(folder).find('customer', signal)
    await chmod(join(folder, 'customer'), 0)
    await asNobody(async () => {
      await expect(found?.read(signal)).rejects.toMatchObject({ code: 'invalid_adapter' })
    })
    await chmod(join(folder, 'customer'), 0o755)
  })

  it('warns that the folder cannot be listed', async () => {
    const warnings: string[] = []
    await chmod(parent, 0o755)
    await chmod(folder, 0)
    await asNobody(async () => {
      const resolver = folderResolver(folder, { onWarning: (line) => warnings.push(line) })
      expect(await resolver.list()).toEqual([])
    })
    await chmod(folder, 0o755)
    expect(warnings).toHaveLength(1)
  })
})

describe('list', () => {
  it('lists subfolders with both files and a name that requests can use', async () => {
    for (const name of ['b', 'a', '.hidden', 'with space', '-x']) await save(name)
    await mkdir(join(folder, 'empty'))
    await writeFile(join(folder, 'file'), '')
    const list = await folderResolver(folder).list()
    expect(list.map(({ name }) => name)).toEqual(['a', 'b'])
    for (const { modified } of list) expect(Math.abs(modified - Date.now())).toBeLessThan(60_000)
  })

  it('keeps the list for a second', async () => {
    await save('a')
    const resolver = folderResolver(folder)
    const list = resolver.list()
    await save('b')
    expect(resolver.list()).toBe(list)
    await list
    await sleep(1001)
    expect((await resolver.list()).map(({ name }) => name)).toEqual(['a', 'b'])
  })

  it('warns that the folder cannot be read, and lists nothing', async () => {
    const warnings: string[] = []
    const missing = join(folder, 'missing')
    const resolver = folderResolver(missing, { onWarning: (line) => warnings.push(line) })
    expect(await resolver.list()).toEqual([])
    expect(await resolver.list()).toEqual([])
    expect(warnings).toEqual([`the folder of adapters cannot be listed (ENOENT): ${missing}`])
  })
})

function withHeader(header: string): Uint8Array {
  const text = new TextEncoder().encode(header)
  const bytes = new Uint8Array(8 + text.length)
  new DataView(bytes.buffer).setUint32(0, text.length, true)
  bytes.set(text, 8)
  return bytes
}
