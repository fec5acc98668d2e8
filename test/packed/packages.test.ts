/**
 * Tests the packages as users install them. Each tarball passes publint, can be published, and has types that resolve (attw). A project in which
 * the tarballs are installed imports, type-checks and runs them.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { describe, expect, inject, test } from 'vitest'
import { readmePrograms } from './readme-programs.js'
import { run } from './run.js'

const packages = inject('packages')
const project = inject('project')
const names = packages.map(({ manifest }) => manifest.name)

describe.each(packages)('$manifest.name', ({ folder, manifest, tarball }) => {
  test('passes publint', async () => {
    const bytes = readFileSync(tarball)
    const { messages, pkg } = await publint({
      pack: { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) },
      strict: true,
    })
    expect(messages.map((message) => formatMessage(message, pkg))).toEqual([])
  })

  // The command-line tool and the packages of platforms have no exports.
  if (Object.keys(manifest.exports ?? {}).some((entry) => entry !== './package.json')) {
    test('has types that resolve in Node and in bundlers', () => {
      const output = run('attw', [tarball, '--profile', 'esm-only', '--format', 'json'], folder)
      // The packages are ES modules, so problems of CommonJS and Node 10 do not count.
      const problems: { resolutionKind?: string }[] = Object.values(
        JSON.parse(output).problems ?? {},
      ).flat() as []
      const kinds = problems.map(({ resolutionKind }) => resolutionKind)
      expect(kinds.filter((kind) => kind !== 'node10' && kind !== 'node16-cjs')).toEqual([])
    })
  }

  test('has a licence, a range of Node versions, a README and no tests', () => {
    expect(manifest).toMatchObject({ license: 'Apache-2.0', engines: { node: '>=20.19' } })
    const files = run('tar', ['-tzf', tarball], folder).split('\n')
    for (const file of ['package/README.md', 'package/LICENSE', 'package/package.json'])
      expect(files).toContain(file)
    expect(files.filter((file) => file.includes('.test.'))).toEqual([])
  })

  test('could be published', () => {
    // With `--force` npm does not ask the registry for existing versions, so the dry run needs neither a login nor the network.
    const flags = ['--dry-run', '--force', '--provenance=false', '--json']
    const { id, files } = JSON.parse(run('npm', ['publish', tarball, ...flags], project))[manifest.name]
    expect(id).toBe(`${manifest.name}@${manifest.version}`)
    expect(files).not.toEqual([])
  })
})

describe('a project in which the tarballs are installed', () => {
  test('has one copy of each of our packages, from its tarball', () => {
    const lock = JSON.parse(readFileSync(join(project, 'package-lock.json'), 'utf8'))
    const installed = Object.entries<{ resolved?: string }>(lock.packages)
      .filter(([path]) => names.some((name) => path.endsWith(`node_modules/${name}`)))
      .map(([path, { resolved }]) => [path, resolved?.startsWith('file:')])
    expect(installed.sort()).toEqual(names.map((name) => [`node_modules/${name}`, true]).sort())
  })

  test('uses adapters and runs the conformance suite', () => {
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
       if (!expected.every((value, i) => value === found[i])) throw new Error('the files changed the adapter')

       const model = layers.sequential({ layers: [layers.layers.dense({ name: 'encoder.query', units: 8, inputShape: [6] })] })
       const adapters = await attach(model)
       await adapters.loadAdapter('./adapter', { name: 'mine' })
       const x = tf.ones([1, 6])
       const active = await model.predict(x).data()
       adapters.disableAdapters()
       const base = await model.predict(x).data()
       const change = active.map((value, i) => value - base[i])
       const rowSums = Array.from({ length: 8 }, (_, p) => expected.slice(p * 6, p * 6 + 6).reduce((sum, value) => sum + value, 0))
       const scale = Math.max(...rowSums.map(Math.abs))
       if (!rowSums.every((value, p) => Math.abs(value - change[p]) <= 1e-4 * scale)) throw new Error('the layer was not adapted')

       const report = await runConformance(coreBackend(), { levels: [1, 8] })
       console.log(JSON.stringify(report.levels.map(({ level, status }) => [level, status])))`,
    )
    expect(JSON.parse(run('node', ['use.mjs'], project).trim().split('\n').at(-1) ?? '')).toEqual([
      [1, 'pass'],
      [8, 'pass'],
    ])
  })

  test.each([
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ])('type-checks under module %s, resolution %s', (module, moduleResolution) => {
    writeFileSync(
      join(project, 'use.ts'),
      `import { type Adapter, type Layer, delta, loadAdapter } from '@fourierft/core'
       import { testBackend } from '@fourierft/conformance/vitest'
       import { type RunningServer, serve } from '@fourierft/server'
       import { attach } from '@fourierft/tfjs'
       const adapter: Adapter = await loadAdapter('./adapter')
       const layer: Layer | undefined = adapter.layers()[0]
       export const change: Float32Array | Float64Array | undefined = layer && delta(layer)
       // @ts-expect-error a string is not a layer
       delta('layer')
       export const start = (model: string): Promise<RunningServer> => serve({ model, adapters: './adapters' })
       // @ts-expect-error a port is a number
       serve({ model: 'some/model', port: '80' })
       export { attach, testBackend }`,
    )
    const options = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', module]
    const files = ['--moduleResolution', moduleResolution, '--types', 'node', 'use.ts']
    expect(run('tsc', [...options, ...files], project)).toBe('')
  })

  test.each(readmePrograms(packages))(
    'runs the program of the README of $name ($title)',
    ({ file, code }) => {
      writeFileSync(join(project, file), code)
      // A program prints `true` or `false` for each result that it checks.
      expect(run('node', [file], project)).not.toMatch(/\bfalse\b/)
    },
  )

  test('runs the command-line tool', () => {
    const command = ['fourierft', 'entries', '--shape', '4,5', '--n', '3', '--seed', '0', '--json']
    expect(run('npx', command, project)).toMatch(/^\[\[/)
  })
})
