/** Tests `fourierft convert`, with `inspect` and `delta` of its results. */
import { cp, mkdtemp, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdapter, createConfig, savePretrained } from '@fourierft/core'
import { beforeEach, expect, test } from 'vitest'
import { capturedRun, peftAdapter } from './captured-run.js'
import { recordedAdapters } from './recorded-adapters.js'

const recorded = recordedAdapters.find(({ name }) => name === 'linear-float32')
if (!recorded) throw new Error('no recorded adapter linear-float32')
const shapes = Object.fromEntries(recorded.layers.map(({ name, shape }) => [name, shape]))
const MODULE = 'encoder.layer.0.attention.query'
const PEFT = peftAdapter('linear-float32')

let directory: string
let shapesFile: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fourierft-'))
  shapesFile = join(directory, 'shapes.json')
  await writeFile(shapesFile, JSON.stringify(shapes))
})

test('converts a PEFT adapter to a standalone one with the same ΔW', async () => {
  const [standalone, before, after] = ['standalone', 'before', 'after'].map((name) => join(directory, name))
  if (!standalone || !before || !after) throw new Error('unreachable')
  expect(await capturedRun('convert', PEFT, standalone, '--shapes', shapesFile)).toEqual({
    status: 0,
    stdout: '',
    stderr: '',
  })
  const common = ['--module', MODULE, '--dtype', 'float64']
  expect((await capturedRun('delta', standalone, ...common, '--out', after)).stderr).toBe('')
  expect((await capturedRun('delta', PEFT, ...common, '--shape', '20,24', '--out', before)).stderr).toBe('')
  expect(await readFile(after)).toEqual(await readFile(before))
  const { stdout } = await capturedRun('inspect', standalone, '--json')
  expect(JSON.parse(stdout)).toMatchObject({ standalone: true, peftType: 'FOURIERFT_STANDALONE' })
  expect((await capturedRun('inspect', standalone)).stdout).toMatch(
    /^format +standalone \(PEFT cannot load it\)$/m,
  )
})

test('converts it back, with the coefficients and the configuration that PEFT wrote', async () => {
  const [standalone, peft] = [join(directory, 'standalone'), join(directory, 'peft')]
  await capturedRun('convert', PEFT, standalone, '--shapes', shapesFile)
  expect(await capturedRun('convert', standalone, peft, '--to', 'peft')).toMatchObject({
    status: 0,
    stderr: '',
  })
  expect(await readFile(join(peft, 'adapter_config.json'))).toEqual(
    await readFile(join(PEFT, 'adapter_config.json')),
  )
  expect((await capturedRun('inspect', peft)).stdout).toMatch(
    /^format +PEFT, with the shapes of its layers$/m,
  )
  const [original, converted] = await Promise.all(
    [PEFT, peft].map(async (path) => JSON.parse((await capturedRun('inspect', path, '--json')).stdout)),
  )
  expect(
    converted.modules.map(({ name, n, norm }: { name: string; n: number; norm: number }) => [name, n, norm]),
  ).toEqual(
    original.modules.map(({ name, n, norm }: { name: string; n: number; norm: number }) => [name, n, norm]),
  )
})

test('needs shapes to convert a PEFT adapter to a standalone one', async () => {
  const { status, stdout, stderr } = await capturedRun('convert', PEFT, join(directory, 'out'))
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(/^fourierft: SHAPE_UNKNOWN: module encoder[^\n]+ with --shapes FILE\n$/)
  expect(await readdir(directory)).toEqual(['shapes.json'])
})

test('rejects a shape with fewer positions than the adapter has entries', async () => {
  await writeFile(shapesFile, JSON.stringify({ ...shapes, [MODULE]: [2, 3] }))
  const { status, stderr } = await capturedRun(
    'convert',
    PEFT,
    join(directory, 'out'),
    '--shapes',
    shapesFile,
  )
  expect(status).toBe(1)
  expect(stderr).toMatch(/^fourierft: INVALID_ENTRY_COUNT: [^\n]+\n$/)
  expect(await readdir(directory)).toEqual(['shapes.json'])
})

test.each(['adapter', 'link', 'adapter/../link/.'])(
  'does not overwrite the adapter that it reads (%s)',
  async (out) => {
    const adapter = join(directory, 'adapter')
    await cp(PEFT, adapter, { recursive: true })
    await symlink(adapter, join(directory, 'link'))
    const contents = async () =>
      Promise.all(
        (await readdir(adapter)).sort().map(async (name) => [name, await readFile(join(adapter, name))]),
      )
    const before = await contents()
    const args = ['convert', adapter, `${directory}/${out}`, '--shapes', shapesFile]
    const { status, stdout, stderr } = await capturedRun(...args)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(/^fourierft: USAGE: [^\n]*overwritten[^\n]*\n$/)
    expect(await contents()).toEqual(before)
  },
)

test('reports a misspelled module in the shapes with the module that lacks a shape', async () => {
  const { 'encoder.layer.0.attention.query': query, ...others } = shapes as Record<string, readonly number[]>
  await writeFile(shapesFile, JSON.stringify({ ...others, 'encoder.layer.0.attention.quary': query }))
  const out = join(directory, 'out')
  const { status, stderr } = await capturedRun('convert', PEFT, out, '--shapes', shapesFile)
  expect(status).toBe(1)
  expect(stderr).toMatch(
    /^fourierft: MODULE_NOT_FOUND: [^\n]*shapes\.json: [^\n]*"encoder\.layer\.0\.attention\.quary"; modules without a shape: encoder\.layer\.0\.attention\.query[^\n]*\n$/,
  )
  expect(await readdir(directory)).toEqual(['shapes.json'])
})

test('accepts the shapes of a whole model', async () => {
  await writeFile(shapesFile, JSON.stringify({ ...shapes, 'pooler.dense': [20, 20] }))
  const { status, stderr } = await capturedRun(
    'convert',
    PEFT,
    join(directory, 'out'),
    '--shapes',
    shapesFile,
  )
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
})

test('does not write the format peft if PEFT would sample other entries', async () => {
  const entries = { sampler: 'bandpass', seed: 1, centerFrequency: 3, bandwidth: 100 } as const
  const bandPass = createAdapter(createConfig({ nFrequency: 10 }), { query: [16, 12] }, { entries })
  const source = join(directory, 'band-pass')
  await savePretrained(bandPass, source)
  const { status, stderr } = await capturedRun('convert', source, join(directory, 'out'), '--to', 'peft')
  expect(status).toBe(1)
  expect(stderr).toBe(
    'fourierft: NOT_REPRODUCIBLE: PEFT cannot reproduce this adapter: the entries of query are bandpass, and PEFT draws only uniform ones; write it with --to standalone\n',
  )
  expect((await readdir(directory)).sort()).toEqual(['band-pass', 'shapes.json'])
})

test('rejects an unknown format', async () => {
  const { status, stderr } = await capturedRun('convert', PEFT, join(directory, 'out'), '--to', 'lora')
  expect(status).toBe(2)
  expect(stderr).toMatch(/^fourierft: USAGE: [^\n]*peft, standalone[^\n]*\n$/)
})
