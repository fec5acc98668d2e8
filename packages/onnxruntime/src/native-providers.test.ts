/** The native kernel uses the first of the user's execution providers, with its settings. */
import * as ort from 'onnxruntime-node'
import { afterEach, expect, test, vi } from 'vitest'
import { platform } from '#platform'
import { twoLayers } from './__fixtures__/two-layers.js'
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

/** The backend that `registerFourierFTBackend` registers. */
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
