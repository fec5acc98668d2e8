/**
 * A model whose weights are large enough to be counted, in a process of its own for each way to open it: with adapters it takes the memory that
 * it takes without, at the start and when they join later.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createModel, DataType } from '@fourierft/onnx'
import { afterAll, expect, test } from 'vitest'

const [LAYERS, WIDTH] = [8, 2048]
const MIB = 2 ** 20
const WEIGHTS = LAYERS * WIDTH * WIDTH * 4

const folder = mkdtempSync(join(tmpdir(), 'fourierft-memory-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const path = join(folder, 'model.onnx')

function writeModel(): void {
  const names = Array.from({ length: LAYERS }, (_, i) => `block.${i}`)
  const model = createModel(
    {
      name: 'main',
      inputs: [{ name: 'x', dataType: DataType.float, dims: ['tokens', WIDTH] }],
      outputs: [{ name: `y.${LAYERS - 1}`, dataType: DataType.float, dims: ['tokens', WIDTH] }],
      initializers: names.map((name, i) => ({
        name: `${name}.weight`,
        dims: [WIDTH, WIDTH],
        dataType: DataType.float,
        data: new Uint8Array(
          Float32Array.from({ length: WIDTH * WIDTH }, (_, p) => Math.sin(p + i) / 64).buffer,
        ),
      })),
      nodes: names.map((name, i) => ({
        name: `/block/${i}/MatMul`,
        opType: 'MatMul',
        inputs: [i === 0 ? 'x' : `y.${i - 1}`, `${name}.weight`],
        outputs: [`y.${i}`],
      })),
    },
    { opset: 17 },
  )
  writeFileSync(path, Buffer.concat(model.toParts()))
}

/** The process's peak in bytes. */
function peakOf(way: 'plain' | 'start' | 'later'): number {
  const program = `
    import { createAdapter, createConfig } from '@fourierft/core'
    import { createSession } from '@fourierft/onnxruntime'
    import * as ort from 'onnxruntime-node'
    const shapes = Object.fromEntries(Array.from({ length: ${LAYERS} }, (_, i) => ['block.' + i, [${WIDTH}, ${WIDTH}]]))
    const adapterOf = (randomLocSeed) => createAdapter(createConfig({ nFrequency: 100, randomLocSeed }), shapes)
    const [path, way] = process.argv.slice(1)
    const session =
      way === 'plain' ? await ort.InferenceSession.create(path)
      : way === 'start' ? await createSession(path, { native: false, adapters: { a: adapterOf(1) } })
      : await createSession(path, { native: false })
    if (way === 'later') for (const seed of [1, 2]) await session.loadAdapter(adapterOf(seed), { name: 'a' + seed })
    await session.run({ x: new ort.Tensor('float32', new Float32Array(${WIDTH}), [1, ${WIDTH}]) })
    console.log(process.resourceUsage().maxRSS * 1024)
  `
  const options = { cwd: new URL('..', import.meta.url), encoding: 'utf8' } as const
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', program, path, way], options)
  return Number(printed.trim().split('\n').at(-1))
}

test('128 MiB of weights: never twice', () => {
  writeModel()
  const plain = peakOf('plain')
  for (const way of ['start', 'later'] as const) {
    const peak = peakOf(way)
    console.info(`${way}: ${Math.round(peak / MIB)} MiB at the peak, plain: ${Math.round(plain / MIB)} MiB`)
    // Half of a second copy, for what differs from run to run.
    expect(peak - plain).toBeLessThan(WEIGHTS / 2)
  }
})
