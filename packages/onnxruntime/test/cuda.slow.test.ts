/**
 * The CUDA kernels in sessions of ONNX Runtime. The CPU runs the kernels' source in the conformance suite (`cuda-host`), and so does a CUDA device if
 * there is one. Without a device, the errors that users get are checked.
 */
import { testBackend } from '@fourierft/conformance/vitest'
import { createAdapter, createConfig } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test, vi } from 'vitest'
import { SHAPES, twoLayers } from '../src/__fixtures__/two-layers.js'
import { withCache } from '../src/__fixtures__/with-cache.js'
import { createOnnxRuntimeBackend, type OnnxRuntimeBackendName } from '../src/conformance.js'
import { createSession, type SessionOptions } from '../src/create-session.js'
import { KNOWN_GAPS } from './known-gaps.js'
import { openIfSupported } from './open-if-supported.js'

/** Returns the reason why the backend is not available; undefined if it is available. */
async function problemOf(kind: OnnxRuntimeBackendName): Promise<string | undefined> {
  const opened = await openIfSupported(kind)
  if ('reason' in opened) return opened.reason
  await opened.backend.dispose?.()
  return undefined
}

type Providers = NonNullable<SessionOptions['executionProviders']>

const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
const adapters = Object.fromEntries(
  ['first', 'second'].map((name, seed) => [name, createAdapter(config, SHAPES, { initialSeed: seed })]),
)
const x = Float32Array.from({ length: 4 * 12 }, (_, i) => Math.sin(i))

/** Returns the outputs of a batch with both adapters, and with a row without an adapter. */
async function mixedOutputs(executionProviders: Providers): Promise<Float32Array> {
  const session = await createSession(twoLayers(), { adapters, native: true, executionProviders })
  const rows = { adapters: ['first', null, 'second', 'first'] }
  const { y } = await session.run({ x: new Tensor('float32', x, [4, 12]) }, rows)
  await session.release()
  return y?.data as Float32Array
}

function testEqualToCpu(providers: Providers): void {
  test('createSession gives the outputs of the CPU with an adapter for each row', async () => {
    const [received, expected] = await Promise.all([mixedOutputs(providers), mixedOutputs(['cpu'])])
    const largest = Math.max(...expected.map(Math.abs))
    // The conformance suite's limit for level 4 in float32 is 1e-5; here for each of the two kernels.
    for (const [i, value] of expected.entries())
      expect(Math.abs(received[i] - value)).toBeLessThan(2e-5 * largest)
  })
}

function testDeviceOutputs(executionProviders: Providers): void {
  test('a cache stays on the device through several runs, and has the bits of one in memory', async () => {
    const options = { adapters, native: true, executionProviders }
    const inMemory = await createSession(withCache(), options)
    const onDevice = await createSession(withCache(), {
      ...options,
      preferredOutputLocation: { present: 'gpu-buffer' },
    })
    const rows = { adapters: ['first', null] }
    let copied = new Tensor('float32', [], [2, 0, 20]) as Tensor
    let cached = copied
    for (let step = 0; step < 4; step++) {
      const token = new Tensor('float32', x.subarray(step, step + 24), [2, 1, 12])
      const expected = await inMemory.run({ x: token, past: copied }, rows)
      const { y, present } = await onDevice.run({ x: token, past: cached }, rows)
      expect(y?.data).toEqual(expected.y?.data)
      expect(present?.location).toBe('gpu-buffer')
      cached.dispose()
      cached = present as Tensor
      copied = expected.present as Tensor
    }
    await onDevice.release()
    expect(await cached.getData(true)).toEqual(copied.data)
    await inMemory.release()
  })
}

const onHost = await problemOf('cuda-host')
describe.skipIf(onHost !== undefined)(`cuda-host${onHost ? ` (skipped: ${onHost})` : ''}`, () => {
  testBackend(() => createOnnxRuntimeBackend('cuda-host'), { lacks: KNOWN_GAPS, quick: true })
  testEqualToCpu([{ name: 'cuda-host' }, 'cpu'])
  testDeviceOutputs([{ name: 'cuda-host' }, 'cpu'])

  test('rejects a device that does not exist', async () => {
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
    testBackend(() => createOnnxRuntimeBackend('cuda'), { lacks: KNOWN_GAPS })
    testEqualToCpu(['cuda', 'cpu'])
    testDeviceOutputs(['cuda', 'cpu'])
  })
// Checks the errors of the suite and of users without a device.
else
  describe('not on CUDA (skipped: no CUDA device)', () => {
    const MISSING = /no CUDA device|npm run build:cuda|CUDA provider/

    test('the error of the backend names what is missing', () => expect(onDevice).toMatch(MISSING))

    test('createSession warns of what is missing, and passes the provider to ONNX Runtime', async () => {
      const info = vi.spyOn(console, 'info').mockImplementation(() => {})
      const executionProviders = ['cuda', 'cpu']
      await expect(createSession(twoLayers(), { executionProviders })).rejects.toMatchObject({
        code: 'UNSUPPORTED',
      })
      expect(info.mock.calls.map(String)).toEqual([expect.stringMatching(MISSING)])
      await expect(createSession(twoLayers(), { executionProviders, native: true })).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(MISSING),
      })
    })
  })
