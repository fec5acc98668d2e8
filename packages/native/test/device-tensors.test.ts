/**
 * Outputs that stay on the device of a session: with the CUDA kernels on the CPU, where this memory is the CPU's, and on CUDA if there is a device.
 * Only a device shows that they are in its memory and are copied from there.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { beforeEach, describe, expect, test } from 'vitest'
import { loadAddon } from '../js/addon.js'
import type { OnnxDeviceTensor } from '../js/device-tensor.js'
import { kernelProblem } from '../js/kernel.js'
import { loadedLibraries } from '../js/loaded-libraries.js'
import { type OnnxInputs, type OnnxTensor, openOnnxRuntime } from '../js/onnxruntime.js'

const [d1, d2, n] = [24, 20, 30]
const dims = [2, 3]

const file = readFileSync(fileURLToPath(new URL('__fixtures__/layer-float32.onnx', import.meta.url)))

const numbers = (count: number, phase: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i + phase))
const floats = (dims: number[], phase: number): OnnxTensor => ({
  type: 'float32',
  dims,
  data: numbers(
    dims.reduce((product, size) => product * size, 1),
    phase,
  ),
})
const feeds = {
  x: floats([...dims, d2], 0.1),
  g: floats([...dims, d1], 0.5),
  c: floats([2, n], 1),
  rows: { type: 'int64', dims: [2], data: BigInt64Array.of(1n, 0n) },
}
const OUTPUTS = ['base', 'y', 'grad_c', 'grad_x'] as const

/** The bytes of a model with one node, y = operator(x), and these outputs. `type` is ONNX's number. */
function oneNode(operator: string, type: number, outputs: readonly string[]): Uint8Array {
  const field = (number: number, content: readonly number[]) => [8 * number + 2, content.length, ...content]
  const text = (number: number, value: string) => field(number, [...Buffer.from(value)])
  const value = (name: string) => [...text(1, name), ...field(2, field(1, [8, type]))]
  const node = [...text(1, 'x'), ...text(2, 'y'), ...text(4, operator)]
  const graph = [
    ...field(1, node),
    ...text(2, 'main'),
    ...field(11, value('x')),
    ...outputs.flatMap((name) => field(12, value(name))),
  ]
  return Uint8Array.from([8, 8, ...field(7, graph), ...field(8, [...text(1, ''), 16, 17])])
}
const [FLOAT, STRING] = [1, 8]

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

/** Finalizers run between turns of the event loop. */
const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

const problem = kernelProblem()
await import('onnxruntime-node')
const library = loadedLibraries().find((path) => /onnxruntime[.\d]*\.(so|dylib|dll)/.test(path)) as string
const opened = problem === undefined ? openOnnxRuntime(library) : undefined
const onHost = opened === undefined ? problem : await opened.cudaProblem('cuda-host')
const onCuda = opened === undefined ? problem : await opened.cudaProblem()
const devices = (['cuda-host', 'cuda'] as const).filter(
  (device) => (device === 'cuda' ? onCuda : onHost) === undefined,
)

if (devices.length === 0) test.skip(`skipped: ${onHost}`)

describe.each(devices)('outputs that stay on %s', (device) => {
  const runtime = openOnnxRuntime(library)
  const loaded = loadAddon()
  if ('problem' in loaded) throw new Error(loaded.problem)
  const { addon } = loaded
  const create = (model: Uint8Array = file, providers: readonly ('cpu' | typeof device)[] = [device]) =>
    runtime.createSession(model, { executionProviders: providers })
  const onDevice = (tensor: OnnxTensor | OnnxDeviceTensor | undefined) => {
    if (tensor === undefined || !('read' in tensor)) throw new Error('expected a tensor on the device')
    return tensor
  }

  // So that no count changes because an earlier value is collected.
  beforeEach(async () => {
    for (let i = 0; i < 100 && addon.live().deviceValues > 0; i++) {
      collectGarbage()
      await nextTurn()
    }
    expect(addon.live().deviceValues).toBe(0)
  })

  test('have the bits, the types and the dims of outputs in memory', async () => {
    const session = await create()
    const expected = await session.run(feeds, OUTPUTS)
    for (const names of [['y'], ['grad_x', 'base'], [...OUTPUTS]]) {
      const results = await session.run(feeds, OUTPUTS, { onDevice: names })
      for (const name of OUTPUTS) {
        const result = results[name]
        expect(result).toMatchObject({ type: 'float32', dims: expected[name]?.dims })
        if (!names.includes(name)) expect(result).toEqual(expected[name])
        else expect(await onDevice(result).read()).toEqual(expected[name]?.data)
      }
    }
    const empty = { ...feeds, c: floats([0, n], 0) }
    const { grad_c } = await session.run(empty, ['grad_c'], { onDevice: ['grad_c'] })
    expect(grad_c?.dims).toEqual([0, n])
    expect(await onDevice(grad_c).read()).toEqual(new Float32Array(0))
    session.release()
  })

  test('are inputs of the next runs of any session on the device, as a cache is', async () => {
    const sessions = [await create(), await create()]
    let cached: OnnxInputs = feeds
    let copied: OnnxInputs = feeds
    for (let step = 0; step < 4; step++) {
      const session = sessions[step % 2]
      if (session === undefined) throw new Error('expected a session')
      const { grad_x, y } = await session.run(cached, ['grad_x', 'y'], { onDevice: ['grad_x'] })
      const expected = await session.run(copied, ['grad_x', 'y'])
      expect(y).toEqual(expected.y)
      if (step > 0) onDevice(cached.x).release()
      cached = { ...feeds, x: onDevice(grad_x) }
      copied = { ...feeds, x: expected.grad_x as OnnxTensor }
      expect(addon.live().deviceValues).toBe(1)
    }
    expect(await onDevice(cached.x).read()).toEqual((copied.x as OnnxTensor).data)
    onDevice(cached.x).release()
    expect(addon.live().deviceValues).toBe(0)
    for (const session of sessions) session.release()
  })

  test('are used without a copy: an output that is an input is the same value', async () => {
    // The model gives its input back as an output.
    const session = await create(oneNode('Relu', FLOAT, ['y', 'x']))
    const x: OnnxTensor = { type: 'float32', dims: [3], data: Float32Array.of(-1, 2, -3) }
    const first = await session.run({ x }, ['y', 'x'], { onDevice: ['x', 'y'] })
    // A later run writes its inputs where those of this run were.
    await session.run({ x: { ...x, data: Float32Array.of(7, 7, 7) } }, ['y'])
    expect(await onDevice(first.x).read()).toEqual(x.data)
    expect(await onDevice(first.y).read()).toEqual(Float32Array.of(0, 2, 0))
    // The output of the other session is memory of this one, which it keeps alive.
    const other = await create(oneNode('Relu', FLOAT, ['y', 'x']))
    const { sessions } = addon.live()
    const second = await other.run({ x: onDevice(first.x) }, ['x', 'y'], { onDevice: ['x'] })
    onDevice(first.x).release()
    onDevice(first.y).release()
    session.release()
    expect(addon.live().sessions).toBe(sessions)
    expect(await onDevice(second.x).read()).toEqual(x.data)
    onDevice(second.x).release()
    expect(addon.live().sessions).toBe(sessions - 1)
    other.release()
    expect(second.y).toEqual({ type: 'float32', dims: [3], data: Float32Array.of(0, 2, 0) })
  })

  test('outlive their session, which is freed with the last of them', async () => {
    const session = await create()
    const { sessions } = addon.live()
    const { y, base } = await session.run(feeds, ['y', 'base'], { onDevice: ['y', 'base'] })
    session.release()
    await expect(session.run(feeds, ['y'])).rejects.toMatchObject({ code: 'INVALID_STATE' })
    const other = await create()
    const { base: expected } = await other.run(feeds, ['base'])
    expect(await onDevice(base).read()).toEqual(expected?.data)
    onDevice(base).release()
    expect(addon.live().sessions).toBe(sessions + 1)
    onDevice(y).release()
    expect(addon.live().sessions).toBe(sessions)
    other.release()
  })

  test('cannot be used after their release, but running calls keep them', async () => {
    const session = await create()
    const { grad_x } = await session.run(feeds, ['grad_x'], { onDevice: ['grad_x'] })
    const x = onDevice(grad_x)
    const [bits, expected] = [await x.read(), await session.run({ ...feeds, x }, ['y'])]
    const [reading, running] = [x.read(), session.run({ ...feeds, x }, ['y'])]
    x.release()
    x.release()
    expect(await reading).toEqual(bits)
    expect(await running).toEqual(expected)
    await expect(x.read()).rejects.toMatchObject({ code: 'INVALID_STATE' })
    await expect(session.run({ ...feeds, x }, ['y'])).rejects.toMatchObject({
      code: 'INVALID_STATE',
      tensor: 'x',
      message: 'input x: the tensor has been released',
    })
    session.release()
  })

  test('are freed by the garbage collector, which counts their memory', async () => {
    const session = await create()
    // Without adapters, nothing is computed for y but a copy of the base.
    const tokens = 2 ** 15
    const large = {
      x: floats([1, tokens, d2], 0),
      g: floats([1, tokens, d1], 0),
      c: floats([0, n], 0),
      rows: feeds.rows,
    }
    const runs = 100
    let most = 0
    for (let i = 0; i < runs; i++) {
      await session.run(large, ['y'], { onDevice: ['y'] })
      most = Math.max(most, addon.live().deviceValues)
      await nextTurn()
    }
    // The heap of JavaScript is far too small for a collection: the 3 MB of each y are what causes one.
    expect(most).toBeLessThan(runs)
    session.release()
  })

  test('rejects values that cannot be on the device, or are on another one, by name', async () => {
    const session = await create()
    const onCpu = await create(file, ['cpu'])
    await expect(onCpu.run(feeds, ['y'], { onDevice: ['y'] })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      tensor: 'y',
      message: 'output y: the session has no device',
    })
    const { grad_x } = await session.run(feeds, ['grad_x'], { onDevice: ['grad_x'] })
    await expect(onCpu.run({ ...feeds, x: onDevice(grad_x) }, ['y'])).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      tensor: 'x',
      problem: 'input x: the tensor is on another device than the session',
    })
    const strings = await create(oneNode('Identity', STRING, ['y']))
    const x: OnnxTensor = { type: 'string', dims: [1], data: ['text'] }
    await expect(strings.run({ x }, ['y'], { onDevice: ['y'] })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      tensor: 'y',
      message: 'output y: only tensors of numbers can stay on a device',
    })
    // A tensor of another shape or type is rejected by ONNX Runtime, as one in memory is.
    await expect(session.run({ ...feeds, g: onDevice(grad_x) }, ['y'])).rejects.toThrow(/for .*g/)
    await expect(session.run({ ...feeds, rows: onDevice(grad_x) }, ['y'])).rejects.toThrow(/type/)
    expect(await session.run({ ...feeds, x: onDevice(grad_x) }, ['base'])).toHaveProperty('base')
    for (const each of [session, onCpu, strings]) each.release()
  })

  test('rejects a row that does not exist also in a run with tensors on the device', async () => {
    const session = await create()
    const rows = { type: 'int64', dims: [2], data: BigInt64Array.of(0n, 2n) }
    await expect(session.run({ ...feeds, rows }, ['y'], { onDevice: ['y'] })).rejects.toThrow(
      'rows[1]: expected -1 ... 1; received 2',
    )
    session.release()
  })
})
