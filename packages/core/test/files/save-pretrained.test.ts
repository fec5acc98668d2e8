/** A save is complete or changes nothing, whatever happens to the process, the disk or the directory. */
import { spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Adapter, createAdapter, createConfig, loadAdapter, savePretrained } from '../../src/index.js'
import { bundleCore } from './bundle-core.js'

/** Adapters without common parts: a file of one does not load with a file of the other. */
const small = createAdapter(createConfig({ nFrequency: 3, scaling: 1 }), { 'block.query': [8, 8] })
const large = createAdapter(createConfig({ nFrequency: 20_000, scaling: 2 }), { 'block.value': [256, 256] })

let directory: string
let core: string

beforeAll(async () => {
  const chunks = await bundleCore('node')
  const folder = mkdtempSync(join(tmpdir(), 'fourierft-core-'))
  chmodSync(folder, 0o755)
  core = join(folder, 'core.mjs')
  writeFileSync(core, String(chunks[0]?.code))
  return () => rmSync(folder, { recursive: true })
})

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fourierft-save-'))
})
afterEach(() => {
  chmodSync(directory, 0o755)
  rmSync(directory, { recursive: true })
})

async function isSaved(adapter: Adapter, path = directory): Promise<boolean> {
  const loaded = (await loadAdapter(path)).toBytes()
  const wanted = adapter.toBytes()
  return (
    Buffer.compare(loaded.config, wanted.config) === 0 && Buffer.compare(loaded.model, wanted.model) === 0
  )
}

const names = () => readdirSync(directory).sort()

/** Saves the large adapter in a child process, after `prologue`. Resolves with its output, or the signal that ended it. */
function saveInChild(
  prologue: string,
  { shell, uid }: { shell?: string; uid?: number } = {},
): Promise<string> {
  const script = `
    const { createAdapter, createConfig, savePretrained } = await import(${JSON.stringify(core)})
    const adapter = createAdapter(createConfig({ nFrequency: 20_000, scaling: 2 }), { 'block.value': [256, 256] })
    ${prologue}
    await savePretrained(adapter, ${JSON.stringify(directory)}).then(
      () => console.log('saved'),
      (error) => console.log(error.name, error.code),
    )`
  const file = join(core, '..', `child-${Math.random().toString(36).slice(2)}.mjs`)
  writeFileSync(file, script)
  const [command, args] = shell
    ? ['sh', ['-c', `${shell}; exec "$0" "$1"`, process.execPath, file]]
    : [process.execPath, [file]]
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    ...(uid === undefined ? {} : { uid }),
  })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (_, signal) => resolve(signal ?? output.trim()))
  })
}

/** Makes the process kill itself instead of its `step`th file operation, or half-way through it if it writes. */
const killAt = (step: number) => `
    const fs = (await import('node:fs/promises')).default
    const { syncBuiltinESMExports } = await import('node:module')
    let left = ${step}
    const counted = (operation, half) =>
      async function (...args) {
        if (left-- === 0) {
          await half?.call(this, ...args)
          process.kill(process.pid, 'SIGKILL')
        }
        return operation.apply(this, args)
      }
    const probe = await fs.open(${JSON.stringify(core)})
    const handle = Object.getPrototypeOf(probe)
    await probe.close()
    const { writeFile } = handle
    handle.writeFile = counted(writeFile, function (bytes) {
      return writeFile.call(this, bytes.subarray(0, bytes.length / 2))
    })
    handle.sync = counted(handle.sync)
    for (const name of ['mkdir', 'mkdtemp', 'open', 'readdir', 'rename', 'rm', 'rmdir', 'stat']) fs[name] = counted(fs[name])
    syncBuiltinESMExports()`

/** On a busy machine a reader can lose every race against the writers, and says so. */
function rejectUnless(problem: RegExp): (error: Error) => undefined {
  return (error) => {
    if (!problem.test(error.message)) throw error
  }
}

describe('savePretrained', () => {
  it('creates the directory and writes two files', async () => {
    const inner = join(directory, 'a', 'b')
    await savePretrained(small, inner)
    expect(readdirSync(inner).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors'])
    expect(await isSaved(small, inner)).toBe(true)
  })

  it('replaces an adapter and keeps other files', async () => {
    writeFileSync(join(directory, 'README.md'), 'mine')
    await savePretrained(small, directory)
    await savePretrained(large, directory)
    expect(await isSaved(large)).toBe(true)
    expect(names()).toEqual(['README.md', 'adapter_config.json', 'adapter_model.safetensors'])
  })

  it('replaces links, not their targets', async () => {
    const blobs = join(directory, 'blobs')
    mkdirSync(blobs)
    await savePretrained(small, blobs)
    const snapshot = join(directory, 'snapshot')
    mkdirSync(snapshot)
    for (const file of readdirSync(blobs)) symlinkSync(join(blobs, file), join(snapshot, file))
    await savePretrained(large, snapshot)
    expect(await isSaved(large, snapshot)).toBe(true)
    expect(await isSaved(small, blobs)).toBe(true)
  })

  it('accepts file URLs', async () => {
    const url = new URL(`file://${directory}/`)
    await savePretrained(small, url)
    expect((await loadAdapter(url)).modules.size).toBe(1)
  })

  it('leaves no files behind if it cannot write', async () => {
    mkdirSync(join(directory, 'adapter_model.safetensors'))
    await expect(savePretrained(small, directory)).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringContaining('adapter_model.safetensors'),
    })
    expect(names()).toEqual(['adapter_model.safetensors'])
    const file = join(directory, 'file')
    writeFileSync(file, '')
    await expect(savePretrained(small, join(file, 'a', 'b'))).rejects.toMatchObject({ code: 'IO_ERROR' })
    expect(names()).toEqual(['adapter_model.safetensors', 'file'])
  })

  it('lets a reader see one adapter or the other while two writers save', async () => {
    await savePretrained(small, directory)
    let writing = true
    let reading = true
    const seen = new Set<boolean>()
    const write = async (adapter: Adapter) => {
      for (let i = 0; i < 30 || (reading && seen.size < 2); i++) await savePretrained(adapter, directory)
    }
    const writers = Promise.all([write(small), write(large)]).finally(() => {
      writing = false
    })
    try {
      while (writing) {
        const adapter = await loadAdapter(directory).catch(
          rejectUnless(/change faster than they can be read/),
        )
        if (!adapter) continue
        const { model } = adapter.toBytes()
        const isSmall = Buffer.compare(model, small.toBytes().model) === 0
        expect(isSmall || Buffer.compare(model, large.toBytes().model) === 0).toBe(true)
        seen.add(isSmall)
      }
    } finally {
      reading = false
      await writers
    }
    expect(names()).toEqual(['adapter_config.json', 'adapter_model.safetensors'])
  })

  it('leaves the old adapter or the new one, at whatever step the process is killed', async () => {
    let step = 0
    let committed = false
    for (let outcome = 'SIGKILL'; outcome === 'SIGKILL'; step++) {
      rmSync(directory, { recursive: true })
      await savePretrained(small, directory)
      outcome = await saveInChild(killAt(step))
      expect(outcome).toMatch(/^(SIGKILL|saved)$/)
      const isNew = await isSaved(large)
      expect({ step, isComplete: isNew || (await isSaved(small)) }).toEqual({ step, isComplete: true })
      // After the commit, the new adapter stays at all later steps. The next save removes the journal.
      expect(isNew || !committed).toBe(true)
      committed ||= isNew
      await savePretrained(small, directory)
      expect(await isSaved(small)).toBe(true)
      expect(existsSync(join(directory, '.fourierft-save'))).toBe(false)
    }
    expect(committed).toBe(true)
    // A save has more than 20 file operations. Fewer steps would mean that they are no longer counted.
    expect(step).toBeGreaterThan(20)
  })

  it('keeps the old adapter, and nothing else, if the disk is full', async () => {
    await savePretrained(small, directory)
    // A limit of 4 to 8 kB for each file. As on a full disk, a write is cut short first, and the next one fails.
    const outcome = await saveInChild("process.on('SIGXFSZ', () => {})", { shell: 'ulimit -f 8' })
    expect(outcome).toBe('FourierFTError IO_ERROR')
    expect(await isSaved(small)).toBe(true)
    expect(names()).toEqual(['adapter_config.json', 'adapter_model.safetensors'])
  })

  it('keeps the old adapter in a directory without write permission', async () => {
    await savePretrained(small, directory)
    chmodSync(directory, 0o555)
    // Permissions do not apply to root, so as root the child gets another user.
    const outcome = await saveInChild('', process.getuid?.() === 0 ? { uid: 65534 } : {})
    expect(outcome).toBe('FourierFTError IO_ERROR')
    expect(await isSaved(small)).toBe(true)
    expect(names()).toEqual(['adapter_config.json', 'adapter_model.safetensors'])
  })

  it('keeps the permissions of the files', async () => {
    await savePretrained(small, directory)
    const files = ['adapter_config.json', 'adapter_model.safetensors'].map((name) => join(directory, name))
    const modes = [0o600, 0o640]
    for (const [i, file] of files.entries()) chmodSync(file, modes[i])
    await savePretrained(large, directory)
    expect(await isSaved(large)).toBe(true)
    expect(files.map((file) => statSync(file).mode & 0o777)).toEqual(modes)
  })

  it('deletes only its own files', async () => {
    const old = new Date(Date.now() - 24 * 3600_000)
    const kept = ['.fourierft-save-notes', '.fourierft-save-abc123', '.fourierft-save-abcdef']
    for (const name of kept) mkdirSync(join(directory, name))
    writeFileSync(join(directory, '.fourierft-save-notes', 'mine'), '')
    writeFileSync(join(directory, '.fourierft-save-abc123', 'mine'), '')
    // A killed save leaves this.
    writeFileSync(join(directory, '.fourierft-save-abcdef', 'adapter_model.safetensors'), '')
    writeFileSync(join(directory, '.fourierft-save-file12'), 'mine')
    for (const name of names()) utimesSync(join(directory, name), old, old)
    await savePretrained(small, directory)
    expect(names()).toEqual([
      '.fourierft-save-abc123',
      '.fourierft-save-file12',
      '.fourierft-save-notes',
      'adapter_config.json',
      'adapter_model.safetensors',
    ])
    expect(readdirSync(join(directory, '.fourierft-save-abc123'))).toEqual(['mine'])
  })

  it.each([
    ['', 'empty'],
    [null, 'null'],
    [7, 'number'],
    [undefined, 'undefined'],
    [new URL('https://host/x'), 'https:'],
    ['https://host/x', 'a URL as text'],
    ['file:///tmp/x', 'a URL as text'],
    [new URL('file://host/x'), 'file://host/x'],
    [new URL('file:///x/a%2Fb'), 'a%2Fb'],
  ])('rejects %s, which does not name a directory', async (target, part) => {
    const cwd = process.cwd()
    const before = readdirSync(cwd)
    await expect(savePretrained(small, target as string)).rejects.toMatchObject({
      name: 'FourierFTError',
      code: 'INVALID_OPTION',
      message: expect.stringMatching(new RegExp(`^directory: .*${part}`)),
    })
    expect(readdirSync(cwd)).toEqual(before)
  })

  it('writes nothing if the form cannot hold the adapter', async () => {
    const banded = createAdapter(
      createConfig({ nFrequency: 3 }),
      { layer: [8, 8] },
      {
        entries: { sampler: 'bandpass', seed: 1, centerFrequency: 2, bandwidth: 200 },
      },
    )
    await savePretrained(small, directory)
    await expect(savePretrained(banded, directory, { form: 'peft' })).rejects.toMatchObject({
      code: 'NOT_REPRODUCIBLE',
    })
    expect(await isSaved(small)).toBe(true)
  })

  it('writes the bytes of toBytes', async () => {
    await savePretrained(large, directory)
    const { config, model } = large.toBytes()
    expect(new Uint8Array(await readFile(join(directory, 'adapter_config.json')))).toEqual(config)
    expect(new Uint8Array(await readFile(join(directory, 'adapter_model.safetensors')))).toEqual(model)
  })
})
