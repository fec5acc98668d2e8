/** `fourierft convert`, `inspect` and `delta` of what it writes. */
import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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

test('a PEFT adapter becomes one that stands alone, with the same ΔW', async () => {
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
  expect((await capturedRun('inspect', standalone)).stdout).toMatch(/^form +stands alone; PEFT refuses it$/m)
})

test('and back: the coefficients and the configuration that PEFT wrote', async () => {
  const [standalone, peft] = [join(directory, 'standalone'), join(directory, 'peft')]
  await capturedRun('convert', PEFT, standalone, '--shapes', shapesFile)
  expect(await capturedRun('convert', standalone, peft, '--to', 'peft')).toMatchObject({
    status: 0,
    stderr: '',
  })
  expect(await readFile(join(peft, 'adapter_config.json'))).toEqual(
    await readFile(join(PEFT, 'adapter_config.json')),
  )
  expect((await capturedRun('inspect', peft)).stdout).toMatch(/^form +stands alone, and loads in PEFT$/m)
  const [original, converted] = await Promise.all(
    [PEFT, peft].map(async (path) => JSON.parse((await capturedRun('inspect', path, '--json')).stdout)),
  )
  expect(
    converted.modules.map(({ name, n, norm }: { name: string; n: number; norm: number }) => [name, n, norm]),
  ).toEqual(
    original.modules.map(({ name, n, norm }: { name: string; n: number; norm: number }) => [name, n, norm]),
  )
})

test('without shapes a PEFT adapter cannot be made to stand alone', async () => {
  const { status, stdout, stderr } = await capturedRun('convert', PEFT, join(directory, 'out'))
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(/^fourierft: SHAPE_UNKNOWN: [^\n]+\n$/)
  expect(await readdir(directory)).toEqual(['shapes.json'])
})

test('shapes that the adapter has no room in', async () => {
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

test('an unknown form is a wrong command line', async () => {
  const { status, stderr } = await capturedRun('convert', PEFT, join(directory, 'out'), '--to', 'lora')
  expect(status).toBe(2)
  expect(stderr).toMatch(/^fourierft: USAGE: [^\n]*peft, standalone[^\n]*\n$/)
})
