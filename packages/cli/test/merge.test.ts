/** Tests `fourierft merge`. */
import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { createAdapter, createConfig, savePretrained } from '@fourierft/core'
import * as ort from 'onnxruntime-node'
import { beforeEach, expect, test } from 'vitest'
import { capturedRun } from './captured-run.js'
import { linearModel } from './linear-model.js'

let directory: string
let model: string
let adapter: string

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fourierft-merge-'))
  model = join(directory, 'model.onnx')
  adapter = join(directory, 'adapter')
  await writeFile(model, linearModel({ 'block.linear': [6, 8] }))
  const config = createConfig({ nFrequency: 12, scaling: 50, initWeights: false, targetModules: ['linear'] })
  await savePretrained(createAdapter(config, { 'block.linear': [6, 8] }), pathToFileURL(adapter))
})

async function outputOf(path: string) {
  const session = await ort.InferenceSession.create(path)
  const x8 = new ort.Tensor('float32', new Float32Array(8).fill(1), [1, 8])
  return (await session.run({ x8 }))['block.linear']?.data as Float32Array
}

test('writes a model whose outputs the adapter changes; the model stays', async () => {
  const before = await readFile(model)
  const out = join(directory, 'merged.onnx')
  expect(await capturedRun('merge', model, adapter, '--out', out)).toEqual({
    status: 0,
    stdout: `written: ${out}\n`,
    stderr: '',
  })
  expect(await readFile(model)).toEqual(before)
  const [base, merged] = [await outputOf(model), await outputOf(out)]
  const delta = join(directory, 'delta')
  await capturedRun('delta', adapter, '--module', 'block.linear', '--shape', '6,8', '--out', delta)
  const change = new Float32Array((await readFile(delta)).buffer.slice(-4 * 48))
  for (let o = 0; o < 6; o++) {
    const sum = change.subarray(8 * o, 8 * o + 8).reduce((total, number) => total + number, 0)
    // Eight products and one rounding of each weight, in float32, of numbers below 8.
    expect(Math.abs(merged[o] - base[o] - sum)).toBeLessThan(18 * 8 * 2 ** -24)
  }
})

test.each([
  [
    'MODULE_NOT_FOUND',
    1,
    (out: string) => [model, adapter, '--out', out, '--module-names', '{"block.linear": "other"}'],
  ],
  ['FILE_NOT_FOUND', 1, (out: string) => [`${model}x`, adapter, '--out', out]],
  ['FILE_NOT_FOUND', 1, (out: string) => [model, `${adapter}x`, '--out', out]],
  ['USAGE', 2, (out: string) => [model, adapter, '--out', out, '--module-names', 'null']],
  ['USAGE', 2, () => [model, adapter, '--out', model]],
])('reports %s, and writes nothing', async (code, status, args) => {
  const before = await readdir(directory)
  const result = await capturedRun('merge', ...args(join(directory, 'merged.onnx')))
  expect(result).toMatchObject({ status, stdout: '' })
  expect(result.stderr).toMatch(new RegExp(`^fourierft: ${code}: .*\n$`))
  expect(await readdir(directory)).toEqual(before)
})
