/** The execution provider of the native kernel: its device and settings, and the errors if the kernel is not available. */
import * as ort from 'onnxruntime-node'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { platform } from '#platform'
import { twoLayers } from './__fixtures__/two-layers.js'
import { createOnnxRuntimeBackend } from './conformance.js'
import { createSession } from './create-session.js'
import { registerFourierFTBackend } from './native-backend.js'
import { nativeProviders } from './native-providers.js'

afterEach(() => vi.restoreAllMocks())

const runtime = {
  version: '1',
  untested: undefined,
  cudaProblem: async () => undefined,
  createSession: vi.fn(),
}

test.each([
  [[], { name: 'fourierft', device: 'cpu' }],
  [['cpu', 'cuda'], { name: 'fourierft', device: 'cpu' }],
  [['cuda', 'cpu'], { name: 'fourierft', device: 'cuda' }],
  [[{ name: 'cpu', useArena: false }], { name: 'fourierft', device: 'cpu', useArena: false }],
  [[{ name: 'cpu', useArena: false }, 'cuda'], { name: 'fourierft', device: 'cpu', useArena: false }],
  [[{ name: 'cuda', deviceId: 1 }, 'cpu'], { name: 'fourierft', device: 'cuda', deviceId: 1 }],
])('uses the first provider of %j', async (executionProviders, provider) => {
  vi.spyOn(platform, 'openNativeKernel').mockResolvedValue(runtime)
  expect(await nativeProviders('auto', ort, { executionProviders })).toEqual({ providers: [provider] })
})

describe('an error of the kernel', () => {
  const fields = {
    code: 'UNSUPPORTED',
    problem: 'no compiled kernel for linux-x64',
    advice: 'run npm i @fourierft/native',
  }
  const failing = () => {
    const error = Object.assign(new Error(`${fields.problem}; ${fields.advice}`), fields)
    return vi.spyOn(platform, 'openNativeKernel').mockRejectedValue(error)
  }

  test('is returned as a problem and an advice', async () => {
    failing()
    const { problem, advice } = fields
    expect(await nativeProviders('auto', ort, {})).toEqual({ problem, advice })
  })

  test('is thrown with its advice if the kernel is required', async () => {
    failing()
    const problem = `native: the native kernel cannot be used: ${fields.problem}`
    await expect(createSession(twoLayers(), { native: true })).rejects.toMatchObject({
      ...fields,
      problem,
      message: `${problem}; ${fields.advice}`,
      details: { option: 'native' },
    })
    await expect(createOnnxRuntimeBackend('native')).rejects.toMatchObject(fields)
  })

  test('is printed once, and is the nativeProblem of the session, with its advice', async () => {
    failing()
    const info = vi.spyOn(console, 'info').mockImplementation(() => {})
    const message = `${fields.problem}; ${fields.advice}`
    for (let i = 0; i < 2; i++) {
      const session = await createSession(twoLayers())
      expect(session.nativeProblem).toBe(message)
      await session.release()
    }
    expect(info.mock.calls).toEqual([[`@fourierft/onnxruntime runs without the native kernel: ${message}`]])
  })

  test('without an advice is returned as its message', async () => {
    const problem = '@fourierft/native is not installed'
    vi.spyOn(platform, 'openNativeKernel').mockRejectedValue(new Error(problem))
    expect(await nativeProviders('auto', ort, {})).toEqual({ problem })
  })
})

/** Returns the backend that `registerFourierFTBackend` registers. */
function registeredBackend() {
  const registered: Parameters<typeof ort.registerBackend>[] = []
  registerFourierFTBackend({ ...ort, registerBackend: (...args) => void registered.push(args) })
  const [[, backend]] = registered as [Parameters<typeof ort.registerBackend>]
  return backend
}

test('keeps the problem and the advice of an error of the kernel', async () => {
  const native = { code: 'UNSUPPORTED', problem: 'there is no CUDA device 1', advice: 'choose device 0' }
  const error = Object.assign(new Error(`${native.problem}; ${native.advice}`), native)
  const createSession = vi.fn().mockRejectedValue(error)
  vi.spyOn(platform, 'openNativeKernel').mockResolvedValue({ ...runtime, createSession })
  const executionProviders = [{ name: 'fourierft', device: 'cuda' } as unknown as 'cpu']
  await expect(
    registeredBackend().createInferenceSessionHandler(twoLayers(), { executionProviders }),
  ).rejects.toMatchObject({ ...native, message: error.message, details: { option: 'device', cause: error } })
})

test('passes useArena to the session as enableCpuMemArena', async () => {
  const native = await platform.openNativeKernel()
  const create = vi.spyOn(native, 'createSession')
  vi.spyOn(platform, 'openNativeKernel').mockResolvedValue(native)
  const backend = registeredBackend()
  for (const useArena of [true, false]) {
    const executionProviders = [{ name: 'fourierft', useArena } as unknown as 'cpu']
    const handler = await backend.createInferenceSessionHandler(twoLayers(), { executionProviders })
    expect(create.mock.lastCall?.[1]).toMatchObject({ enableCpuMemArena: useArena })
    await handler.dispose()
  }
})

test('runs a session with a provider that has settings', async () => {
  const executionProviders = [{ name: 'cpu', useArena: false }, 'cpu'] as const
  const session = await createSession(twoLayers(), { native: true, executionProviders })
  const x = new ort.Tensor('float32', new Float32Array(12), [1, 1, 12])
  expect((await session.run({ x })).y?.data).toHaveLength(8)
  await session.release()
})
