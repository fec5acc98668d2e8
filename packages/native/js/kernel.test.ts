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
import { type Kernel, kernel, kernelProblem } from './kernel.js'

const found = kernel()
const reason = found ? '' : ` (skipped: ${kernelProblem()})`

function native(): Kernel {
  if (found === undefined) throw new Error('these tests are skipped without a kernel')
  return found
}

/** Normal-like numbers, the same at every run. */
function numbers(length: number, seed: number): Float32Array {
  let state = seed
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  return Float32Array.from({ length }, () => uniform() + uniform() + uniform() + uniform() - 2)
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

function largestDifference(found: ArrayLike<number>, expected: Float64Array): number {
  const scale = expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
  return (
    expected.reduce((largest, value, i) => Math.max(largest, Math.abs(value - (found[i] as number))), 0) /
    scale
  )
}

describe.skipIf(found === undefined)(`the native kernel${reason}`, () => {
  test('several adapters added, sharing entries or not', async () => {
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
    gradients.coefficients.forEach((each, a) => {
      expect(largestDifference(each, expected.coefficients[a] as Float64Array)).toBeLessThan(1e-5)
    })
  })

  test('one adapter for each row, in two sets of entries, some rows with none', async () => {
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
    gradients.coefficients.forEach((each, a) => {
      expect(largestDifference(each, expected.coefficients[a] as Float64Array)).toBeLessThan(1e-5)
    })
  })

  test('ΔW, with large prime factors too', async () => {
    for (const shape of [
      [96, 64],
      [134, 202],
      [1, 7],
      [86, 11],
    ] as [number, number][]) {
      const each = layer(shape, 7, 3)
      const limit = 2e-6 * Math.max(1, Math.log2(shape[0] * shape[1]))
      expect(largestDifference(await native().delta(each), referenceDelta(each))).toBeLessThan(limit)
    }
  })

  test('calls overlap, and leave the event loop free', async () => {
    const each = layer([256, 256], 200, 3)
    const x = numbers(64 * 256, 4)
    const results = Array.from({ length: 20 }, () => new Float32Array(64 * 256))
    let ticks = 0
    const timer = setInterval(() => ticks++, 0)
    await Promise.all(results.map((y) => native().addForward([each], x, y)))
    await new Promise((resolve) => setTimeout(resolve, 5))
    clearInterval(timer)
    expect(ticks).toBeGreaterThan(0)
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

  test('what does not fit is refused before anything is computed', async () => {
    const each = layer([8, 6], 5, 1)
    const y = new Float32Array(16)
    await expect(native().addForward([each], new Float32Array(13), y)).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
    })
    await expect(native().addForward([each], new Float32Array(18), y)).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
    })
    await expect(
      native().addForward([each], new Float32Array(12), y, { rows: Int32Array.of(0, 1) }),
    ).rejects.toThrow(/rows\[1\]/)
    await expect(native().addForward([each], new Uint16Array(12), new Uint16Array(16))).rejects.toThrow(
      /halfType/,
    )
    await expect(native().delta({ ...each, coefficients: new Float32Array(4) })).rejects.toThrow(
      /coefficients/,
    )
    const outside = { n: 1, rows: Uint32Array.of(8), columns: Uint32Array.of(0) }
    await expect(native().delta({ ...each, entries: outside, coefficients: [1] })).rejects.toMatchObject({
      code: 'ENTRY_OUT_OF_RANGE',
    })
    expect(y).toEqual(new Float32Array(16))
    expect(() => native().registerTensorFlow('/nowhere/libtensorflow_framework.so.2')).toThrow(/not loaded/)
  })

  test('every place an entry', async () => {
    const shape: [number, number] = [5, 6]
    const rows = Uint32Array.from({ length: 30 }, (_, l) => Math.floor(l / 6))
    const columns = Uint32Array.from({ length: 30 }, (_, l) => l % 6)
    const each = layer(shape, 30, 2, explicitEntries({ shape, rows, columns }))
    expect(largestDifference(await native().delta(each), referenceDelta(each))).toBeLessThan(1e-5)
  })
})
