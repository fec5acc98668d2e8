/**
 * What strangers install: every published package is packed, linted (publint), its types are resolved the way each tool resolves them
 * (attw), and the tarballs are installed into an empty project, imported, type-checked and run there as a user would.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const folders = [
  'conformance',
  ...readdirSync(join(root, 'packages')).map((name) => `packages/${name}`),
  ...readdirSync(join(root, 'packages/native/platforms')).map((name) => `packages/native/platforms/${name}`),
]
const packages = folders
  .map((folder) => ({ folder: join(root, folder), manifest: manifestOf(folder) }))
  .filter(
    ({ folder, manifest }) =>
      !manifest.main || (isOfThisMachine(manifest) && existsSync(join(folder, manifest.main))),
  )
const names = packages.map(({ manifest }) => manifest.name)

const temporary = mkdtempSync(join(tmpdir(), 'fourierft-packages-'))
const tarballs = new Map<string, string>()

beforeAll(() => {
  for (const { folder, manifest } of packages) {
    const output = run('pnpm', ['pack', '--json', '--pack-destination', temporary], folder)
    // What a package's own `prepack` writes comes first.
    tarballs.set(manifest.name, JSON.parse(output.slice(output.search(/^\{/m))).filename)
  }
}, 120_000)

afterAll(() => rmSync(temporary, { recursive: true, force: true }))

describe.each(packages)('$manifest.name', ({ folder, manifest }) => {
  test('publint finds nothing', async () => {
    const bytes = readFileSync(tarball(manifest.name))
    const { messages, pkg } = await publint({
      pack: { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) },
      strict: true,
    })
    expect(messages.map((message) => formatMessage(message, pkg))).toEqual([])
  })

  test('its types resolve in Node and in bundlers', () => {
    if (Object.keys(manifest.exports ?? {}).every((entry) => entry === './package.json')) return // a program, nothing to import
    const output = run('attw', [tarball(manifest.name), '--profile', 'esm-only', '--format', 'json'], folder)
    // The packages are ES modules: what CommonJS and Node 10 make of them is no problem.
    const problems: { resolutionKind?: string }[] = Object.values(
      JSON.parse(output).problems ?? {},
    ).flat() as []
    expect(problems.filter(({ resolutionKind: kind }) => kind !== 'node10' && kind !== 'node16-cjs')).toEqual(
      [],
    )
  }, 60_000)

  test('says who it is, and ships what it promises', () => {
    expect(manifest).toMatchObject({ license: 'Apache-2.0', engines: { node: '>=20.19' } })
    const files = run('tar', ['-tzf', tarball(manifest.name)], folder).split('\n')
    for (const file of ['package/README.md', 'package/LICENSE', 'package/package.json'])
      expect(files).toContain(file)
    expect(files.filter((file) => file.includes('.test.'))).toEqual([])
  })
})

describe('an empty project that installs the tarballs', () => {
  const project = join(temporary, 'project')

  beforeAll(() => {
    mkdirSync(project)
    writeFileSync(
      join(project, 'package.json'),
      JSON.stringify({ name: 'stranger', private: true, type: 'module' }),
    )
    const runtimes = [
      '@tensorflow/tfjs-backend-wasm@4.22.0',
      '@tensorflow/tfjs-core@4.22.0',
      '@tensorflow/tfjs-layers@4.22.0',
      '@tensorflow/tfjs-backend-cpu@4.22.0',
      'onnxruntime-node@1.30.0',
      '@huggingface/transformers@4.3.1',
    ]
    run(
      'npm',
      [
        'install',
        '--no-audit',
        '--no-fund',
        '--ignore-scripts',
        ...tarballs.values(),
        ...runtimes,
        '@types/node@20',
      ],
      project,
    )
  }, 300_000)

  test('has one copy of every package of ours, the packed one', () => {
    const lock = JSON.parse(readFileSync(join(project, 'package-lock.json'), 'utf8'))
    const installed = Object.entries<{ resolved?: string }>(lock.packages)
      .filter(([path]) => names.some((name) => path.endsWith(`node_modules/${name}`)))
      .map(([path, { resolved }]) => [path, resolved?.startsWith('file:')])
    expect(installed.sort()).toEqual(names.map((name) => [`node_modules/${name}`, true]).sort())
  })

  test('trains and checks an adapter with what it imports', () => {
    writeFileSync(
      join(project, 'use.mjs'),
      `import { createAdapter, createConfig, delta, loadAdapter, savePretrained } from '@fourierft/core'
       import { coreBackend } from '@fourierft/core/conformance'
       import { runConformance } from '@fourierft/conformance'
       import * as tf from '@tensorflow/tfjs-core'
       import * as layers from '@tensorflow/tfjs-layers'
       import '@tensorflow/tfjs-backend-cpu'
       import { attach } from '@fourierft/tfjs'

       const config = createConfig({ nFrequency: 20, targetModules: ['query'], initWeights: false })
       const adapter = createAdapter(config, { 'encoder.query': [8, 6] })
       await savePretrained(adapter, 'adapter')
       const again = await loadAdapter('./adapter')
       const expected = delta(adapter.layers()[0])
       const found = delta(again.layers()[0])
       if (!expected.every((value, i) => value === found[i])) throw new Error('the adapter changed on its way through the files')

       const model = layers.sequential({ layers: [layers.layers.dense({ name: 'encoder.query', units: 8, inputShape: [6] })] })
       const adapters = await attach(model)
       await adapters.loadAdapter('./adapter', { name: 'mine' })
       const x = tf.ones([1, 6])
       const active = await model.predict(x).data()
       adapters.disableAdapters()
       const base = await model.predict(x).data()
       const change = active.map((value, i) => value - base[i])
       const want = Array.from({ length: 8 }, (_, p) => expected.slice(p * 6, p * 6 + 6).reduce((sum, value) => sum + value, 0))
       const scale = Math.max(...want.map(Math.abs))
       if (!want.every((value, p) => Math.abs(value - change[p]) <= 1e-4 * scale)) throw new Error('the layer was not adapted')

       const report = await runConformance(coreBackend(), { levels: [1, 8] })
       console.log(JSON.stringify(report.levels.map(({ level, status }) => [level, status])))`,
    )
    expect(JSON.parse(run('node', ['use.mjs'], project).trim().split('\n').at(-1) ?? '')).toEqual([
      [1, 'pass'],
      [8, 'pass'],
    ])
  }, 120_000)

  test.each([
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ])(
    'type-checks under module %s, resolution %s',
    (module, moduleResolution) => {
      writeFileSync(
        join(project, 'use.ts'),
        `import { type Adapter, type Layer, delta, loadAdapter } from '@fourierft/core'
       import { testBackend } from '@fourierft/conformance/vitest'
       import { attach } from '@fourierft/tfjs'
       const adapter: Adapter = await loadAdapter('./adapter')
       const layer: Layer | undefined = adapter.layers()[0]
       export const change: Float32Array | Float64Array | undefined = layer && delta(layer)
       // @ts-expect-error a layer is no string
       delta('layer')
       export { attach, testBackend }`,
      )
      const options = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', module]
      const files = ['--moduleResolution', moduleResolution, '--types', 'node', 'use.ts']
      expect(run('tsc', [...options, ...files], project)).toBe('')
    },
    60_000,
  )

  test.each(readmes())(
    'runs what the README of $name shows ($title)',
    ({ name, code, index }) => {
      const file = `readme-${name.replaceAll(/\W+/g, '-')}-${index}.mjs`
      writeFileSync(join(project, file), code)
      expect(run('node', [file], project)).not.toMatch(/\bfalse\b/)
    },
    120_000,
  )

  test('has the command line', () => {
    expect(
      run('npx', ['fourierft', 'entries', '--shape', '4,5', '--n', '3', '--seed', '0', '--json'], project),
    ).toMatch(/^\[\[/)
  })
})

/**
 * The programs of all READMEs: a fence `js run` begins one, named after the heading above it, and fences `js run on` continue it. What such
 * code prints is `true` where it checks something.
 */
function readmes(): { name: string; title: string; index: number; code: string }[] {
  return packages.flatMap(({ folder, manifest: { name } }) => {
    const text = readFileSync(join(folder, 'README.md'), 'utf8')
    const programs: { name: string; title: string; index: number; code: string }[] = []
    for (const match of text.matchAll(/^```js run( on)?\n(.*?)^```/gms)) {
      const [, continues, code = ''] = match
      const last = programs.at(-1)
      if (continues && last) {
        last.code += code
      } else {
        const title =
          text
            .slice(0, match.index)
            .match(/^#+ .*$/gm)
            ?.at(-1)
            ?.replace(/^#+ /, '') ?? ''
        programs.push({ name, title, index: programs.length, code })
      }
    }
    return programs
  })
}

interface Manifest {
  name: string
  license: string
  /** A compiled package has `main`, every other one `exports`. */
  main?: string
  exports?: Record<string, unknown>
  os?: string[]
  cpu?: string[]
  libc?: string[]
}

/** A package that is compiled for another machine cannot be installed here. */
function isOfThisMachine({ os, cpu, libc }: Manifest): boolean {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
  const own = header.glibcVersionRuntime ? 'glibc' : 'musl'
  return Boolean(
    os?.includes(process.platform) && cpu?.includes(process.arch) && (libc?.includes(own) ?? true),
  )
}

function manifestOf(folder: string): Manifest {
  return JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'))
}

function tarball(name: string): string {
  const file = tarballs.get(name)
  if (file === undefined) throw new Error(`${name} was not packed`)
  return file
}

/** Runs a program of the workspace; its output, or an error that shows all it printed. */
function run(command: string, args: string[], cwd: string): string {
  try {
    return execFileSync(command, args, {
      cwd,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 2 ** 26,
    })
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string }
    throw new Error(`${command} ${args.join(' ')}\n${stdout ?? ''}${stderr ?? ''}`, { cause: error })
  }
}
