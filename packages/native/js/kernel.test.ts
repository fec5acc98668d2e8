import { readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import {
  createLayer,
  explicitEntries,
  type Layer,
  referenceBackward,
  referenceDelta,
  referenceForward,
  uniformEntries,
} from '@fourierft/core'
import { describe, expect, test } from 'vitest'
import { loadAddon } from './addon.js'
import { type Kernel, kernel, kernelProblem } from './kernel.js'

const found = kernel()
const reason = found ? '' : ` (skipped: ${kernelProblem()})`

function native(): Kernel {
  if (found === undefined) throw new Error('these tests are skipped without a kernel')
  return found
}

/** Numbers that are roughly normally distributed, the same in every run. */
function numbers(length: number, seed: number): Float32Array {
  let state = seed
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  return Float32Array.from({ length }, () => uniform() + uniform() + uniform() + uniform() - 2)
}

/** Creates an array of zeros whose length follows the length of its buffer. */
function resizable(length: number, maxLength = length): Float32Array & { readonly buffer: Resizable } {
  // The types of ES2022 have no resizable buffers.
  const buffer = Reflect.construct(ArrayBuffer, [4 * length, { maxByteLength: 4 * maxLength }])
  return Reflect.construct(Float32Array, [buffer])
}

interface Resizable extends ArrayBuffer {
  resize(bytes: number): void
}

function layer(
  shape: [number, number],
  n: number,
  seed: number,
  entries = uniformEntries({ shape, n, seed }),
): Layer {
  return createLayer({
    name: `layer ${seed}`,
    shape,
    entries,
    coefficients: numbers(n, seed),
    scaling: 100 + seed,
  })
}

/** Processor time of this thread in microseconds, on Linux; 0 elsewhere. Unlike that of the process, it leaves out the kernel's threads. */
function timeOfThread(): number {
  if (process.platform !== 'linux') return 0
  return Number.parseInt(readFileSync('/proc/thread-self/schedstat', 'utf8'), 10) / 1000
}

function largestDifference(found: ArrayLike<number>, expected: Float64Array): number {
  const scale = expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
  return expected.reduce((largest, value, i) => Math.max(largest, Math.abs(value - found[i])), 0) / scale
}

describe.skipIf(found === undefined)(`the native kernel${reason}`, () => {
  test('adds several adapters, with shared and with different entries', async () => {
    const shape: [number, number] = [48, 35]
    const shared = uniformEntries({ shape, n: 30, seed: 5 })
    const layers = [layer(shape, 30, 1, shared), layer(shape, 30, 2, shared), layer(shape, 20, 3)]
    const x = numbers(9 * 35, 4)
    const gradY = numbers(9 * 48, 6)
    const y = new Float32Array(9 * 48)
    await native().addForward(layers, x, y)
    expect(largestDifference(y, referenceForward(layers, x))).toBeLessThan(1e-5)
    const gradients = {
      coefficients: layers.map(({ entries }) => new Float32Array(entries.n)),
      x: new Float32Array(x.length),
    }
    await native().addBackward(layers, x, gradY, gradients)
    const expected = referenceBackward(layers, x, gradY)
    expect(largestDifference(gradients.x, expected.x)).toBeLessThan(1e-5)
    gradients.coefficients.forEach((gradient, a) => {
      expect(largestDifference(gradient, expected.coefficients[a])).toBeLessThan(1e-5)
    })
  })

  test('applies one adapter to each row, from two sets of entries, and none to some rows', async () => {
    const shape: [number, number] = [20, 64]
    const shared = uniformEntries({ shape, n: 25, seed: 9 })
    const layers = [layer(shape, 25, 1, shared), layer(shape, 25, 2), layer(shape, 25, 3, shared)]
    const rows = Int32Array.from({ length: 40 }, (_, t) => (t % 4) - 1)
    const x = numbers(40 * 64, 4)
    const gradY = numbers(40 * 20, 6)
    const y = new Float32Array(40 * 20)
    await native().addForward(layers, x, y, { rows })
    expect(largestDifference(y, referenceForward(layers, x, undefined, { rows }))).toBeLessThan(1e-5)
    expect(y.subarray(0, 20)).toEqual(new Float32Array(20))
    const gradients = {
      coefficients: layers.map(({ entries }) => new Float32Array(entries.n)),
      x: new Float32Array(x.length),
    }
    await native().addBackward(layers, x, gradY, gradients, { rows })
    const expected = referenceBackward(layers, x, gradY, { rows })
    expect(largestDifference(gradients.x, expected.x)).toBeLessThan(1e-5)
    gradients.coefficients.forEach((gradient, a) => {
      expect(largestDifference(gradient, expected.coefficients[a])).toBeLessThan(1e-5)
    })
  })

  test('computes ΔW, also of shapes with large prime factors', async () => {
    for (const shape of [
      [96, 64],
      [134, 202],
      [1, 7],
      [86, 11],
    ] as [number, number][]) {
      const adapted = layer(shape, 7, 3)
      const limit = 2e-6 * Math.max(1, Math.log2(shape[0] * shape[1]))
      expect(largestDifference(await native().delta(adapted), referenceDelta(adapted))).toBeLessThan(limit)
    }
  })

  test('runs overlapping calls off the main thread', async () => {
    const adapted = layer([256, 256], 200, 3)
    const x = numbers(64 * 256, 4)
    const results = Array.from({ length: 20 }, () => new Float32Array(64 * 256))
    let settledCalls = 0
    const calls = results.map((y) =>
      native()
        .addForward([adapted], x, y)
        .then(() => settledCalls++),
    )
    // A result from another thread arrives in a later turn of the event loop. A result computed during the call would arrive after a few microtasks.
    for (let i = 0; i < 100; i++) await undefined
    expect(settledCalls).toBe(0)
    await Promise.all(calls)
    expect(results[0]?.some((value) => value !== 0)).toBe(true)
    for (const y of results) expect(y).toEqual(results[0])
  })

  test('works in worker threads', async () => {
    const worker = new Worker(
      `import('${new URL('../dist/index.js', import.meta.url)}').then(async ({ kernel }) => {
         const entries = { n: 1, rows: Uint32Array.of(0), columns: Uint32Array.of(0) }
         const y = new Float32Array(4)
         await kernel().addForward([{ shape: [4, 4], entries, coefficients: [16], scaling: 1 }], Float32Array.of(1, 2, 3, 4), y)
         require('node:worker_threads').parentPort.postMessage(y)
       })`,
      { eval: true },
    )
    const y = await new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    expect(y).toEqual(Float32Array.of(10, 10, 10, 10))
    await worker.terminate()
  })

  test('uses the contents of the arrays at the start of the call', async () => {
    const adapted = layer([64, 48], 40, 1)
    const tokens = 500
    const x = numbers(tokens * 48, 2)
    const rows = new Int32Array(tokens)
    const expected = new Float32Array(tokens * 64)
    await native().addForward([adapted], x, expected, { rows })

    for (const invalidate of [
      (array: Float32Array) => array.fill(Number.NaN),
      (array: Float32Array) => structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] }),
    ]) {
      const copy = x.slice()
      const y = new Float32Array(tokens * 64)
      const call = native().addForward([adapted], copy, y, { rows: rows.fill(0) })
      invalidate(copy)
      rows.fill(2 ** 30)
      await call
      expect(y).toEqual(expected)
    }

    const shrinking = resizable(x.length)
    shrinking.set(x)
    const y = new Float32Array(tokens * 64)
    const call = native().addForward([adapted], shrinking, y, { rows: rows.fill(0) })
    shrinking.buffer.resize(0)
    await call
    expect(y).toEqual(expected)
  })

  test('rejects with INVALID_STATE if the array for the result was transferred or shortened', async () => {
    const adapted = layer([64, 48], 40, 1)
    const x = numbers(500 * 48, 2)
    const gradients = (x: Float32Array) => ({ coefficients: [new Float32Array(40)], x })
    const lostResult = (name: string) => ({
      code: 'INVALID_STATE',
      message: expect.stringContaining(`${name}: its buffer`),
    })

    const y = new Float32Array(500 * 64)
    const forward = native().addForward([adapted], x, y)
    structuredClone(y.buffer, { transfer: [y.buffer] })
    await expect(forward).rejects.toMatchObject(lostResult('y'))
    // The transferred array is empty, so a second call cannot add to it.
    await expect(native().addForward([adapted], x, y)).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' })

    const gradX = resizable(x.length)
    const backward = native().addBackward([adapted], x, new Float32Array(500 * 64), gradients(gradX))
    gradX.buffer.resize(4)
    await expect(backward).rejects.toMatchObject(lostResult('gradX'))

    const coefficients = [new Float32Array(40)]
    const withTransferredGradient = native().addBackward([adapted], x, new Float32Array(500 * 64), {
      coefficients,
    })
    structuredClone(coefficients[0]?.buffer, { transfer: [coefficients[0]?.buffer] })
    await expect(withTransferredGradient).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
      message: 'gradients.coefficients[0]: expected 40 numbers; received 0',
    })
  })

  test('gives the same results in growing arrays and in shared memory', async () => {
    const adapted = layer([64, 48], 40, 1)
    const x = numbers(500 * 48, 2)
    const expected = new Float32Array(500 * 64)
    await native().addForward([adapted], x, expected)

    const growing = resizable(expected.length, 2 * expected.length)
    const call = native().addForward([adapted], x, growing)
    growing.buffer.resize(growing.byteLength + 400)
    await call
    expect(growing.subarray(0, expected.length)).toEqual(expected)

    const shared = (length: number) => new Float32Array(new SharedArrayBuffer(4 * length))
    const [sharedX, sharedY] = [shared(x.length), shared(expected.length)]
    sharedX.set(x)
    await native().addForward([adapted], sharedX, sharedY)
    expect(Array.from(sharedY)).toEqual(Array.from(expected))
  })

  test('rejects sizes beyond the limits instead of taking them modulo 2³²', async () => {
    const loaded = loadAddon()
    if ('problem' in loaded) throw new Error(loaded.problem)
    const { addon } = loaded
    const indices = Uint32Array.of(0)
    const done = () => expect.unreachable()
    for (const wrong of [
      2 ** 32,
      2 ** 32 + 8,
      -1,
      1.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      '8' as unknown as number,
    ]) {
      const rejection = expect.objectContaining({
        code: 'INVALID_OPTION',
        message: expect.stringMatching(/^d1: expected an integer/),
      })
      expect(() => addon.createPlan(wrong, 8, indices, indices)).toThrow(rejection)
      expect(() => addon.createPlan(8, wrong, indices, indices)).toThrow(/^d2: expected an integer/)
    }
    for (const size of [0, 2 ** 24 + 1, 2 ** 32 - 1])
      expect(() => addon.createPlan(size, 8, indices, indices)).toThrow(
        expect.objectContaining({ code: 'SHAPE_MISMATCH' }),
      )
    const plan = addon.createPlan(8, 8, indices, indices)
    const numbers = new Float32Array(8)
    expect(() =>
      addon.forward(plan, numbers.subarray(7), numbers.subarray(7), 2 ** 32, numbers, null, numbers, done),
    ).toThrow(/^dtype: expected an integer of 0 to 2/)
    addon.destroyPlan(plan)
    await expect(
      native().delta({
        shape: [2 ** 32 + 4, 4],
        entries: uniformEntries({ shape: [4, 4], n: 3, seed: 1 }),
        coefficients: [1, 2, 3],
        scaling: 1,
      }),
    ).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  })

  test('rejects a ΔW that does not fit into memory', async () => {
    const entries = { n: 1, rows: Uint32Array.of(0), columns: Uint32Array.of(0) }
    await expect(
      native().delta({ shape: [2 ** 24, 2 ** 24], entries, coefficients: [1], scaling: 1 }),
    ).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/^not enough memory for \d+ bytes$/),
    })
  })

  test('makes the plan of a large prime size off the main thread', async () => {
    // The tables of this size take about a second.
    const shape = [1048573, 1] as const
    const entries = explicitEntries({ shape, rows: [0], columns: [0] })
    const y = new Float32Array(shape[0])
    const events: string[] = []
    setImmediate(() => events.push('immediate'))
    const start = { thread: timeOfThread(), process: process.cpuUsage() }
    const call = native().addForward(
      [{ shape, entries, coefficients: [shape[0]], scaling: 1 }],
      Float32Array.of(3),
      y,
    )
    const timeOfCall = timeOfThread() - start.thread
    await call
    const { user } = process.cpuUsage(start.process)
    events.push('call')
    expect(events).toEqual(['immediate', 'call'])
    expect(timeOfCall).toBeLessThan(user / 4)
    expect(y[shape[0] - 1]).toBeCloseTo(3, 4)
  })

  test('rejects arguments that do not fit before it computes anything', async () => {
    const adapted = layer([8, 6], 5, 1)
    const y = new Float32Array(16)
    await expect(native().addForward([adapted], new Float32Array(13), y)).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
    })
    await expect(native().addForward([adapted], new Float32Array(18), y)).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
    })
    await expect(
      native().addForward([adapted], new Float32Array(12), y, { rows: Int32Array.of(0, 1) }),
    ).rejects.toMatchObject({
      name: 'RangeError',
      code: 'INVALID_OPTION',
      problem: 'rows[1]: expected −1 … 0; received 1',
    })
    await expect(
      native().addForward([adapted], new Uint16Array(12), new Uint16Array(16)),
    ).rejects.toMatchObject({
      name: 'TypeError',
      code: 'UNSUPPORTED_DTYPE',
      problem: expect.stringMatching(/^halfType: expected/),
    })
    await expect(native().delta({ ...adapted, coefficients: new Float32Array(4) })).rejects.toThrow(
      /coefficients/,
    )
    const outside = { n: 1, rows: Uint32Array.of(8), columns: Uint32Array.of(0) }
    await expect(native().delta({ ...adapted, entries: outside, coefficients: [1] })).rejects.toMatchObject({
      code: 'ENTRY_OUT_OF_RANGE',
    })
    expect(y).toEqual(new Float32Array(16))
    expect(() => native().registerTensorFlow('/nowhere/libtensorflow_framework.so.2')).toThrow(
      expect.objectContaining({
        code: 'UNSUPPORTED',
        problem: '/nowhere/libtensorflow_framework.so.2 is not loaded in this process',
        advice: "load TensorFlow.js's binding first",
      }),
    )
  })

  test('computes ΔW with an entry at every position', async () => {
    const shape: [number, number] = [5, 6]
    const rows = Uint32Array.from({ length: 30 }, (_, l) => Math.floor(l / 6))
    const columns = Uint32Array.from({ length: 30 }, (_, l) => l % 6)
    const adapted = layer(shape, 30, 2, explicitEntries({ shape, rows, columns }))
    expect(largestDifference(await native().delta(adapted), referenceDelta(adapted))).toBeLessThan(1e-5)
  })
})
