/**
 * The CUDA kernels as sessions of ONNX Runtime have them: all levels that a session has with the CPU running the kernels' source, and on
 * CUDA where there is a device. Where there is none, what a user is told is checked.
 */

import { testBackend } from '@fourierft/conformance/vitest'
import { createAdapter, createConfig, FourierFTError } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test, vi } from 'vitest'
import { SHAPES, twoLayers } from '../src/__fixtures__/two-layers.js'
import { createOnnxRuntimeBackend, type OnnxRuntimeBackendName } from '../src/conformance.js'
import { createSession, type SessionOptions } from '../src/create-session.js'
import { LACKS } from './lacks.js'

/** Why there is no such backend here. */
async function problemOf(kind: OnnxRuntimeBackendName): Promise<string | undefined> {
  try {
    await (await createOnnxRuntimeBackend(kind)).dispose?.()
    return undefined
  } catch (error) {
    if (FourierFTError.isInstance(error) && error.code === 'UNSUPPORTED') return error.message
    throw error
  }
}

type Providers = NonNullable<SessionOptions['executionProviders']>

const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
const adapters = Object.fromEntries(
  ['first', 'second'].map((name, seed) => [name, createAdapter(config, SHAPES, { initialSeed: seed })]),
)
const x = Float32Array.from({ length: 4 * 12 }, (_, i) => Math.sin(i))

/** One row with each adapter, and one with none. */
async function mixed(executionProviders: Providers): Promise<Float32Array> {
  const session = await createSession(twoLayers(), { adapters, native: true, executionProviders })
  const rows = { adapters: ['first', null, 'second', 'first'] }
  const { y } = await session.run({ x: new Tensor('float32', x, [4, 12]) }, rows)
  await session.release()
  return y?.data as Float32Array
}

function onTheSameAsTheCpu(providers: Providers): void {
  test('createSession with an adapter for each row', async () => {
    const [found, expected] = await Promise.all([mixed(providers), mixed(['cpu'])])
    const largest = Math.max(...expected.map(Math.abs))
    // Conformance's limit of level 4 in float32, for each of two kernels.
    for (const [i, value] of expected.entries())
      expect(Math.abs(found[i] - value)).toBeLessThan(2e-5 * largest)
  })
}

const onHost = await problemOf('cuda-host')
describe.skipIf(onHost !== undefined)(`cuda-host${onHost ? ` (skipped: ${onHost})` : ''}`, () => {
  testBackend(() => createOnnxRuntimeBackend('cuda-host'), { lacks: LACKS, quick: true })
  onTheSameAsTheCpu([{ name: 'cuda-host' }, 'cpu'])

  test('a device that is not there', async () => {
    const executionProviders = [{ name: 'cuda-host', deviceId: 1 }]
    await expect(createSession(twoLayers(), { native: true, executionProviders })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('deviceId of cuda-host: expected 0 … 0; received 1'),
    })
  })
})

const onDevice = await problemOf('cuda')
if (onDevice === undefined)
  describe('onnxruntime-cuda', () => {
    testBackend(() => createOnnxRuntimeBackend('cuda'), { lacks: LACKS })
    onTheSameAsTheCpu(['cuda', 'cpu'])
  })
// Not one skip: what the suite and a user are told where there is no device is checked.
else
  describe('not on CUDA (skipped: no CUDA device)', () => {
    const missing = /no CUDA device|build\.js --cuda|CUDA provider/

    test('the backend says what is missing', () => expect(onDevice).toMatch(missing))

    test('createSession says what is missing and leaves the device to ONNX Runtime', async () => {
      const said = vi.spyOn(console, 'info').mockImplementation(() => {})
      const executionProviders = ['cuda', 'cpu']
      await expect(createSession(twoLayers(), { executionProviders })).rejects.toMatchObject({
        code: 'UNSUPPORTED',
      })
      expect(said.mock.calls.map(String)).toEqual([expect.stringMatching(missing)])
      await expect(createSession(twoLayers(), { executionProviders, native: true })).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(missing),
      })
    })
  })
