/** Tensors on a device: inputs and outputs stay on the device, and only the adapters' inputs are uploaded. */
import { createAdapter, createConfig } from '@fourierft/core'
import * as ort from 'onnxruntime-web'
import { expect, test } from 'vitest'
import { SHAPES, twoLayers } from '../../src/__fixtures__/two-layers.js'
import { createSession } from '../../src/create-session.js'
import { setWasmPaths } from './set-wasm-paths.js'

setWasmPaths()

/** @see https://www.w3.org/TR/webgpu/#buffer-usage */
const [MAP_READ, COPY_SRC, COPY_DST, STORAGE] = [1, 4, 8, 128]

test('webgpu: inputs, outputs and fetches stay on the device', async () => {
  const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
  const [a, b] = [1, 2].map((initialSeed) => createAdapter(config, SHAPES, { initialSeed }))
  if (!a || !b) throw new Error('expected two adapters')
  const options = { ort, adapters: { a, b }, executionProviders: ['webgpu'], logSeverityLevel: 3 } as const
  const onCpu = await createSession(twoLayers(), options)
  const onDevice = await createSession(twoLayers(), { ...options, preferredOutputLocation: 'gpu-buffer' })

  const x = Float32Array.from({ length: 2 * 3 * 12 }, (_, i) => Math.sin(0.7 * i))
  const device = await ort.env.webgpu.device
  const usage = STORAGE | COPY_SRC | COPY_DST
  const buffer = device.createBuffer({ size: x.byteLength, usage })
  device.queue.writeBuffer(buffer, 0, x)
  const dims = [2, 3, 12]
  const onGpu = ort.Tensor.fromGpuBuffer(buffer as never, { dataType: 'float32', dims })
  const onHost = new ort.Tensor('float32', x, dims)
  for (const options of [{ adapters: ['a', 'b'] }, { adapters: ['b', null] }, {}]) {
    const expected = (await onCpu.run({ x: onHost }, options)).y?.data
    const { y } = await onDevice.run({ x: onGpu }, options)
    expect(y?.location).toBe('gpu-buffer')
    expect(await y?.getData()).toEqual(expected)
    y?.dispose()
  }

  // The output is written into the caller's buffer.
  const size = 2 * 3 * 8 * 4
  const target = device.createBuffer({ size, usage })
  const targetTensor = ort.Tensor.fromGpuBuffer(target as never, {
    dataType: 'float32',
    dims: [2, 3, 8],
    download: async () => {
      const copy = device.createBuffer({ size, usage: MAP_READ | COPY_DST })
      const commands = device.createCommandEncoder()
      commands.copyBufferToBuffer(target, 0, copy, 0, size)
      device.queue.submit([commands.finish()])
      await copy.mapAsync(MAP_READ)
      return new Float32Array(copy.getMappedRange().slice(0))
    },
  })
  await onDevice.run({ x: onGpu }, { y: targetTensor })
  expect(await targetTensor.getData()).toEqual((await onCpu.run({ x: onHost })).y?.data)
  await onCpu.release()
  await onDevice.release()
})
