/**
 * Outputs that stay on the device of a session on CUDA. The CPU runs the CUDA kernels here (`cuda-host`), and the device's memory is the CPU's;
 * `cuda.slow.test.ts` does the same on a device.
 */
import { createAdapter, createConfig } from '@fourierft/core'
import { createModel, DataType } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { platform } from '#platform'
import { SHAPES } from './__fixtures__/two-layers.js'
import { withCache } from './__fixtures__/with-cache.js'
import type { AdaptedSession } from './adapted-session.js'
import { createSession, type SessionOptions } from './create-session.js'
import { createTrainer, meanSquaredError } from './index.js'

const { Tensor } = ort

const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
const adapters = Object.fromEntries(
  ['first', 'second'].map((name, seed) => [name, createAdapter(config, SHAPES, { initialSeed: seed })]),
)
const numbers = (dims: readonly number[], phase = 0) => {
  const length = dims.reduce((product, size) => product * size, 1)
  return new Tensor(
    'float32',
    Float32Array.from({ length }, (_, i) => Math.sin(1.7 * i + phase)),
    dims,
  )
}
const x = numbers([2, 3, 12])
const past = numbers([2, 0, 20])
const mixed = { adapters: ['first', null] } as const

const runtime = await platform.openNativeKernel().catch((error: Error) => error)
const problem = runtime instanceof Error ? runtime.message : await runtime.cudaProblem('cuda-host')

describe.skipIf(problem !== undefined)(
  `outputs that stay on the device${problem ? ` (skipped: ${problem})` : ''}`,
  () => {
    const open = (options: SessionOptions = {}, model = withCache()) =>
      createSession(model, {
        native: true,
        adapters,
        executionProviders: [{ name: 'cuda-host' }, 'cpu'],
        logSeverityLevel: 4,
        ...options,
      })
    let inMemory: AdaptedSession
    let onDevice: AdaptedSession
    beforeAll(async () => {
      inMemory = await open()
      onDevice = await open({ preferredOutputLocation: 'gpu-buffer' })
    })
    afterAll(async () => {
      await inMemory.release()
      await onDevice.release()
    })
    const codeOf = (call: Promise<unknown>) =>
      call.then(
        () => undefined,
        ({ name, code, message, details, advice }) => ({ name, code, message, details, advice }),
      )

    test('have the bits of outputs in memory, with adapters for rows, merged and without adapters', async () => {
      const compare = async (options = {}) => {
        const expected = await inMemory.run({ x, past }, options)
        const results = await onDevice.run({ x, past }, options)
        for (const name of ['y', 'present']) {
          const result = results[name] as ort.Tensor
          expect(result).toMatchObject({
            location: 'gpu-buffer',
            type: 'float32',
            dims: expected[name]?.dims,
          })
          expect(() => result.data).toThrow('not on CPU')
          expect(await result.getData(true)).toEqual(expected[name]?.data)
        }
      }
      await compare(mixed)
      await compare({ adapters: ['second', 'first'] })
      for (const session of [inMemory, onDevice]) await session.mergeAdapter()
      await compare()
      for (const session of [inMemory, onDevice]) await session.unmergeAdapter()
      for (const session of [inMemory, onDevice]) session.disableAdapters()
      await compare()
      for (const session of [inMemory, onDevice]) session.enableAdapters()
    })

    test('can be named one by one, and can be inputs of the next run, as a cache is', async () => {
      const session = await open({ preferredOutputLocation: { present: 'gpu-buffer', y: 'cpu' } })
      let cached: ort.Tensor = past
      let copied: ort.Tensor = past
      for (let step = 0; step < 3; step++) {
        const token = numbers([2, 1, 12], step)
        const expected = await inMemory.run({ x: token, past: copied }, mixed)
        const { y, present } = (await session.run({ x: token, past: cached }, mixed)) as Record<
          string,
          ort.Tensor
        >
        expect(y).toMatchObject({ location: 'cpu', data: expected.y?.data })
        expect(present?.location).toBe('gpu-buffer')
        if (step > 0) cached.dispose()
        cached = present as ort.Tensor
        copied = expected.present as ort.Tensor
      }
      // Another session on the device takes it as well, also after the first one was released.
      await session.release()
      const token = numbers([2, 1, 12], 3)
      const results = await onDevice.run({ x: token, past: cached })
      expect(await results.y?.getData()).toEqual((await inMemory.run({ x: token, past: copied })).y?.data)
      expect(await cached.getData()).toEqual(copied.data)
      // After the download it is a tensor in memory.
      expect(cached.location).toBe('cpu')
      const again = await inMemory.run({ x: token, past: cached })
      expect(await results.present?.getData()).toEqual(again.present?.data)
      for (const tensor of [cached, ...Object.values(results)]) tensor.dispose()
    })

    test('are fetched where the caller wants them', async () => {
      const expected = await inMemory.run({ x, past })
      const y = new Tensor('float32', new Float32Array(2 * 3 * 8), [2, 3, 8])
      const results = await onDevice.run({ x, past }, { y, present: null })
      expect(results.y).toBe(y)
      expect(y.data).toEqual(expected.y?.data)
      expect(Object.keys(await onDevice.run({ x, past }, ['y']))).toEqual(['y'])
      const { present } = results as Record<string, ort.Tensor>
      expect(await codeOf(onDevice.run({ x, past }, { present: present as ort.Tensor }))).toMatchObject({
        name: 'FourierFTError',
        code: 'UNSUPPORTED',
        message: expect.stringContaining("output present: expected null or a tensor in JavaScript's memory"),
        details: { tensor: 'present' },
      })
      present?.dispose()
      expect(await codeOf(onDevice.run({ x, past }, { present: present as ort.Tensor }))).toMatchObject({
        code: 'INVALID_STATE',
        message: expect.stringContaining('output present: the tensor was disposed'),
      })
    })

    test('are rejected by name as inputs after their disposal, on another device and of another runtime', async () => {
      const { present } = (await onDevice.run({ x, past })) as Record<string, ort.Tensor>
      const onCpu = await open({ executionProviders: ['cpu'] })
      const run = (session: AdaptedSession, past: ort.Tensor | undefined) =>
        codeOf(session.run({ x, past: past as ort.Tensor }))
      expect(await run(onCpu, present)).toMatchObject({
        name: 'FourierFTError',
        code: 'UNSUPPORTED',
        message: expect.stringContaining('input past: the tensor is on another device than the session'),
        details: { tensor: 'past' },
      })
      const dims = [2, 0, 20]
      const { gpuBuffer } = present as ort.Tensor
      const alias = Tensor.fromGpuBuffer(gpuBuffer, { dataType: 'float32', dims: [2, 3, 20] })
      expect(await run(onDevice, alias)).toBeUndefined()
      present?.dispose()
      for (const disposed of [present, alias])
        expect(await run(onDevice, disposed)).toMatchObject({
          name: 'FourierFTError',
          code: 'INVALID_STATE',
          message: expect.stringMatching(/^input past: the tensor (was disposed|has been released)/),
          details: { tensor: 'past' },
        })
      const foreign = [
        Tensor.fromGpuBuffer({} as never, { dataType: 'float32', dims }),
        Tensor.fromTexture({} as never, { width: 1, height: 1 }),
      ]
      for (const tensor of foreign)
        for (const session of [onDevice, inMemory, onCpu])
          expect(await run(session, tensor)).toMatchObject({
            name: 'FourierFTError',
            code: 'UNSUPPORTED',
            message: expect.stringContaining(`one of another runtime (${tensor.location})`),
            details: { tensor: 'past', received: tensor.location },
          })
      // Wrong shapes are named as those of tensors in memory are.
      const { y } = (await onDevice.run({ x, past })) as Record<string, ort.Tensor>
      expect(await run(onDevice, y)).toMatchObject({ code: 'SHAPE_MISMATCH', details: { tensor: 'past' } })
      expect(await run(onDevice, past)).toBeUndefined()
      await onCpu.release()
    })

    test('rejects locations, names and types that no output can have', async () => {
      const rejected = (preferredOutputLocation: unknown, options: SessionOptions = {}, model?: Uint8Array) =>
        codeOf(open({ preferredOutputLocation, ...options } as SessionOptions, model))
      const option = 'preferredOutputLocation'
      expect(await rejected('texture')).toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringContaining("expected 'cpu' or 'gpu-buffer'"),
        details: { option, received: 'texture' },
      })
      expect(await rejected({ logits: 'gpu-buffer' })).toMatchObject({
        name: 'FourierFTError',
        code: 'INVALID_OPTION',
        message: expect.stringContaining('the model has no output logits; expected y, present'),
        details: { option, received: 'logits' },
      })
      const value = (name: string) => ({ name, dataType: DataType.string, dims: ['batch'] })
      const graph = {
        name: 'main',
        nodes: [{ name: 'copy', opType: 'Identity', inputs: ['text'], outputs: ['labels'] }],
        inputs: [value('text')],
        outputs: [value('labels')],
        initializers: [],
      }
      const strings = createModel(graph, { opset: 17 }).toBytes()
      for (const location of ['gpu-buffer', { labels: 'gpu-buffer' }])
        expect(await rejected(location, { adapters: {} }, strings)).toMatchObject({
          name: 'FourierFTError',
          code: 'UNSUPPORTED',
          message: expect.stringContaining('output labels (string) cannot stay on a device'),
          details: { option, tensor: 'labels' },
        })
    })

    test('a trainer of the session reads the outputs of its own graph', async () => {
      const session = await open({ preferredOutputLocation: { present: 'gpu-buffer' } })
      const options = { adapter: 'first', loss: meanSquaredError('y'), learningRate: 0.05 }
      const trainer = await createTrainer(session, options)
      const { loss } = await trainer.step({ feeds: { x, past }, labels: numbers([2, 3, 8], 2) })
      expect(loss).toBeGreaterThan(0)
      expect((await session.run({ x, past })).present?.location).toBe('gpu-buffer')
      await trainer.release()
      await session.release()
    })
  },
)
