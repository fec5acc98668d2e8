/** The bundle for browsers contains no module of Node, and loads an adapter. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type * as Core from '../../src/index.js'
import { bundleCore } from './bundle-core.js'

const FIXTURE = fileURLToPath(new URL('__fixtures__/peft/plain/', import.meta.url))
const BUILTINS = new Set(builtinModules.flatMap((name) => [name, `node:${name}`]))

let directory: string
let chunks: Awaited<ReturnType<typeof bundleCore>>

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'fourierft-bundle-'))
  chunks = await bundleCore('browser')
  for (const { fileName, code } of chunks)
    writeFileSync(join(directory, fileName.replace(/\.js$/, '.mjs')), code)
})
afterAll(() => rmSync(directory, { recursive: true }))

it('imports no module of Node', () => {
  const names = chunks.map(({ fileName }) => fileName)
  const outside = chunks.flatMap(({ imports, dynamicImports }) =>
    [...imports, ...dynamicImports].filter((name) => !names.includes(name)),
  )
  expect(outside).toEqual([])
  const mentioned = chunks.flatMap(({ code }) =>
    [...code.matchAll(/(?:from|import|import\(|require\()\s*["']([^"'\n]+)["']/g)].map(([, name]) =>
      String(name),
    ),
  )
  expect(mentioned.filter((name) => BUILTINS.has(name) || name.startsWith('node:'))).toEqual([])
})

it('imports modules of Node in the bundle for Node', async () => {
  const [entry] = await bundleCore('node')
  expect(entry?.imports.filter((name) => BUILTINS.has(name))).toContain('node:fs/promises')
})

describe('the bundle', () => {
  let core: typeof Core
  beforeAll(async () => {
    const entry = String(chunks.find(({ isEntry }) => isEntry)?.fileName).replace(/\.js$/, '.mjs')
    core = await import(pathToFileURL(join(directory, entry)).href)
  })
  const file = (name: string) => new File([readFileSync(join(FIXTURE, name))], name)

  it('loads an adapter from File objects', async () => {
    const files = [file('adapter_model.safetensors'), file('adapter_config.json'), file('expected.json')]
    const adapter = await core.loadAdapter(files)
    const expected = JSON.parse(await file('expected.json').text())
    expect(adapter.modules.size).toBe(Object.keys(expected).length)
    for (const [name, { shape, rows, coefficients }] of Object.entries<Record<string, number[]>>(expected)) {
      const layer = adapter.layer(name, shape as unknown as Core.Shape)
      expect([...layer.entries.rows]).toEqual(rows)
      expect([...layer.coefficients]).toEqual(coefficients)
    }
  })

  it('rejects directories', async () => {
    await expect(core.loadAdapter('./adapter')).rejects.toMatchObject({ code: 'UNSUPPORTED' })
    const adapter = core.createAdapter(core.createConfig({ nFrequency: 2 }), { layer: [4, 4] })
    await expect(core.savePretrained(adapter, 'adapter')).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  })
})
