/**
 * The weights of a model that is opened by its path stay in the file, with adapters from the start and with adapters that are loaded later. JavaScript
 * does not read the weights, ONNX Runtime does not get them as bytes, and only one session is open at a time.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdapter, createConfig } from '@fourierft/core'
import { createModel, DataType } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import { platform } from '#platform'
import { createSession } from '../src/create-session.js'
import type { Ort } from '../src/ort.js'

const [LAYERS, WIDTH] = [8, 512]
const WEIGHTS = LAYERS * WIDTH * WIDTH * 4
const MODULES = Array.from({ length: LAYERS }, (_, i) => `block.${i}`)

const folder = mkdtempSync(join(tmpdir(), 'fourierft-memory-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
afterEach(() => vi.restoreAllMocks())
const path = join(folder, 'model.onnx')

const model = createModel(
  {
    name: 'main',
    inputs: [{ name: 'x', dataType: DataType.float, dims: ['tokens', WIDTH] }],
    outputs: [{ name: `y.${LAYERS - 1}`, dataType: DataType.float, dims: ['tokens', WIDTH] }],
    initializers: MODULES.map((name, i) => ({
      name: `${name}.weight`,
      dims: [WIDTH, WIDTH],
      dataType: DataType.float,
      data: new Uint8Array(
        Float32Array.from({ length: WIDTH * WIDTH }, (_, p) => Math.sin(p + i) / 64).buffer,
      ),
    })),
    nodes: MODULES.map((_, i) => ({
      name: `/block/${i}/MatMul`,
      opType: 'MatMul',
      inputs: [i === 0 ? 'x' : `y.${i - 1}`, `block.${i}.weight`],
      outputs: [`y.${i}`],
    })),
  },
  { opset: 17 },
)
writeFileSync(path, Buffer.concat(model.toParts()))

const adapterOf = (randomLocSeed: number) =>
  createAdapter(
    createConfig({ nFrequency: 100, randomLocSeed }),
    Object.fromEntries(MODULES.map((module) => [module, [WIDTH, WIDTH]])),
  )

/** Counts the bytes that JavaScript reads, the bytes that it passes to ONNX Runtime, and the open sessions. */
function countingRuntime(): {
  readonly counts: Record<'read' | 'passed' | 'open' | 'mostOpen', number>
  readonly ort: Ort
} {
  const counts = { read: 0, passed: 0, open: 0, mostOpen: 0 }
  const { openFile, readFile } = platform
  vi.spyOn(platform, 'openFile').mockImplementation(async (file) => {
    const opened = await openFile(file)
    return {
      ...opened,
      async read(offset, length) {
        const bytes = await opened.read(offset, length)
        counts.read += bytes.length
        return bytes
      },
    }
  })
  vi.spyOn(platform, 'readFile').mockImplementation(async (file) => {
    const result = await readFile(file)
    counts.read += result.bytes.length
    return result
  })
  const create = async (...args: [Uint8Array, ort.InferenceSession.SessionOptions]) => {
    const [source] = args
    if (typeof source !== 'string') counts.passed += source.length
    const session = await ort.InferenceSession.create(...args)
    counts.open++
    counts.mostOpen = Math.max(counts.mostOpen, counts.open)
    const release = session.release.bind(session)
    session.release = () => {
      counts.open--
      return release()
    }
    return session
  }
  return { counts, ort: { ...ort, InferenceSession: { create } as unknown as Ort['InferenceSession'] } }
}

test.each([
  { native: true, time: 'at the start' },
  { native: true, time: 'later' },
  { native: false, time: 'at the start' },
  { native: false, time: 'later' },
])('adapters that are loaded $time do not copy the weights; native: $native', async ({ native, time }) => {
  const { counts, ort: countingOrt } = countingRuntime()
  const options = { ort: countingOrt, native }
  const session = await createSession(
    path,
    time === 'later' ? options : { ...options, adapters: { a1: adapterOf(1), a2: adapterOf(2) } },
  )
  if (time === 'later')
    for (const seed of [1, 2]) await session.loadAdapter(adapterOf(seed), { name: `a${seed}` })
  const feeds = { x: new ort.Tensor('float32', new Float32Array(WIDTH), [1, WIDTH]) }
  expect((await session.run(feeds))[`y.${LAYERS - 1}`]?.dims).toEqual([1, WIDTH])
  // With the graph, 64 KB are read for each weight. Loading an adapter later reads the graph again.
  expect(counts.read).toBeLessThan(WEIGHTS / 4)
  expect(counts.passed).toBeLessThan(WEIGHTS / 4)
  expect(counts.mostOpen).toBe(1)
  await session.release()
})
