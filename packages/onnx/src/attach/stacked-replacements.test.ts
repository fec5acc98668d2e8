/** Replaced layers that differ between the rows of a batch, in ONNX Runtime: all ranks, opsets and types, rows without a replacement, and other widths. */
import { decodeFloats, encodeFloats } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import type { LinearLayer } from '../layers/linear-layer.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { createModel } from '../model/create-model.js'
import type { NewNode } from '../model/encode.js'
import { readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { attachBranches } from './attach.js'
import { detachBranches } from './detach.js'
import type { WeightInputs } from './replaceable-layer.js'

const [BATCH, TOKENS, IN, OUT] = [4, 3, 5, 6]
const sines = (length: number, phase: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(1.3 * i + phase))

interface Variant {
  readonly rank: 2 | 3
  readonly hasBias: boolean
  readonly opset: number
  readonly type: 'float' | 'float16'
}

/** The axes before the features. */
const leadingDims = ({ rank }: Variant) => (rank === 2 ? [BATCH] : [BATCH, TOKENS])

function modelOf({ rank, hasBias, opset, type }: Variant): Uint8Array {
  const dataType = DataType[type]
  const tensor = (name: string, dims: readonly number[], phase: number) => {
    const values = sines(
      dims.reduce((product, size) => product * size, 1),
      phase,
    )
    return { name, dims, dataType, data: encodeFloats(values, type === 'float' ? 'F32' : 'F16') }
  }
  const dims = rank === 2 ? ['batch'] : ['batch', 'tokens']
  const bias: NewNode[] = [{ name: '/head/Add', opType: 'Add', inputs: ['p', 'b'], outputs: ['y'] }]
  return createModel(
    {
      name: 'main_graph',
      inputs: [{ name: 'x', dataType, dims: [...dims, IN] }],
      outputs: [{ name: 'y', dataType, dims: [...dims, OUT] }],
      initializers: [tensor('w', [IN, OUT], 1), ...(hasBias ? [tensor('b', [OUT], 2)] : [])],
      nodes: [
        { name: '/head/MatMul', opType: 'MatMul', inputs: ['x', 'w'], outputs: [hasBias ? 'p' : 'y'] },
        ...(hasBias ? bias : []),
      ],
    },
    { opset },
  ).toBytes()
}

/** The weight and bias with the number `head`. */
const headWith = (head: number, width: number) => ({
  weight: sines(IN * width, 5 + 2 * head),
  bias: sines(width, 6 + 2 * head),
})
const joined = (arrays: readonly Float32Array[]) => Float32Array.from(arrays.flatMap((array) => [...array]))

/** Opens the model with a replaceable head, and the original. */
async function attached(variant: Variant, hasFreeWidth: boolean) {
  const bytes = modelOf(variant)
  const model = readModel(bytes)
  const layer = findLinearLayers(model).find(({ module }) => module === 'head') as LinearLayer
  const inputs = attachBranches(model, [], { replaceable: [{ module: 'head', layer, hasFreeWidth }] })
  const names = inputs.weights.get('head') as WeightInputs
  const dims = [...leadingDims(variant), IN]
  const values = sines(
    dims.reduce((product, size) => product * size),
    3,
  )
  const x =
    variant.type === 'float'
      ? new Tensor('float32', values, dims)
      : new Tensor('float16', new Uint16Array(encodeFloats(values, 'F16').slice().buffer), dims)
  const [session, original] = await Promise.all(
    [model.toBytes(), bytes].map((file) => createSession(file, { logSeverityLevel: 4 })),
  )
  const integers = (numbers: readonly number[]) =>
    new Tensor('int64', BigInt64Array.from(numbers, BigInt), [numbers.length])
  return {
    model,
    bytes,
    /** @param rows an index into `heads` for each part of the batch; −1 for the original output */
    async run(heads: readonly number[], rows: readonly number[], width = OUT): Promise<Tensor> {
      const stacked = heads.map((head) => headWith(head, width))
      const weights = joined(stacked.map(({ weight }) => weight))
      const biases = joined(stacked.map(({ bias }) => bias))
      const { y } = await session.run({
        x,
        [inputs.rows]: integers([-1]),
        [names.rows]: integers(rows),
        [names.weight]: new Tensor('float32', weights, [heads.length, IN, width]),
        ...(names.bias && { [names.bias]: new Tensor('float32', biases, [heads.length, width]) }),
      })
      return y as Tensor
    },
    base: async () => (await original.run({ x })).y as Tensor,
    release: () => Promise.all([session.release(), original.release()]),
  }
}

function numbersOf({ data, type }: Tensor): number[] {
  const { buffer, byteOffset, byteLength } = data as Float32Array | Uint16Array
  const bytes = new Uint8Array(buffer, byteOffset, byteLength)
  return [...decodeFloats({ dtype: type === 'float16' ? 'F16' : 'F32', bytes })]
}

/** Sums of 5 products and a bias, all at most 1, in different orders; float16 rounds once. */
const limitOf = ({ type }: Variant) => (type === 'float' ? 2 * 6 * 6 * 2 ** -24 : 6 * 2 ** -10)

const VARIANTS: readonly Variant[] = [
  { rank: 2, hasBias: true, opset: 17, type: 'float' },
  { rank: 3, hasBias: true, opset: 17, type: 'float' },
  { rank: 3, hasBias: false, opset: 11, type: 'float' },
  { rank: 2, hasBias: true, opset: 12, type: 'float' },
  { rank: 2, hasBias: true, opset: 13, type: 'float' },
  { rank: 3, hasBias: true, opset: 18, type: 'float' },
  { rank: 2, hasBias: false, opset: 21, type: 'float' },
  { rank: 3, hasBias: true, opset: 17, type: 'float16' },
]

describe.each(VARIANTS)('rank $rank, bias $hasBias, opset $opset, $type', (variant) => {
  function expectNear(received: readonly number[], expected: readonly number[]): void {
    expect(received).toHaveLength(expected.length)
    for (const [i, value] of expected.entries())
      expect(Math.abs(value - (received[i] as number))).toBeLessThan(limitOf(variant))
  }

  test.each([
    { heads: [7, 1, 4, 2], rows: [2, 0, 3, 1] },
    { heads: [3, 5], rows: [1, 0] },
    { heads: [3, 5], rows: [1, 1, 0, 1] },
    { heads: [3], rows: [0, -1, -1, 0] },
    { heads: [2, 9, 5], rows: [-1, 2, 0, 1] },
  ])('each row has the output of its replacement: $rows of $heads', async ({ heads, rows }) => {
    for (const hasFreeWidth of [false, true]) {
      const { run, base, release } = await attached(variant, hasFreeWidth)
      const received = await run(heads, rows)
      expect(received.dims).toEqual([...leadingDims(variant), OUT])
      const size = received.size / rows.length
      for (const [r, index] of rows.entries()) {
        const rowOf = (output: Tensor) => numbersOf(output).slice(r * size, (r + 1) * size)
        if (index < 0) expect(rowOf(received)).toEqual(rowOf(await base()))
        else expectNear(rowOf(received), rowOf(await run([heads[index] as number], [0])))
      }
      await release()
    }
  })

  test.each([1, 9])('rows can have %i features', async (width) => {
    const { run, release } = await attached(variant, true)
    const rows = [2, 0, 1, 0]
    const received = await run([0, 1, 2], rows, width)
    expect(received.dims).toEqual([...leadingDims(variant), width])
    const size = received.size / rows.length
    for (const [r, head] of rows.entries()) {
      const rowOf = (output: Tensor) => numbersOf(output).slice(r * size, (r + 1) * size)
      expectNear(rowOf(received), rowOf(await run([head], [0], width)))
    }
    await release()
  })

  test('without a replacement the output is the original, bit for bit; detaching restores the file', async () => {
    for (const hasFreeWidth of [false, true]) {
      const { model, bytes, run, base, release } = await attached(variant, hasFreeWidth)
      expect((await run([], [0])).data).toEqual((await base()).data)
      const again = readModel(model.toBytes())
      detachBranches(again)
      expect(again.toBytes()).toEqual(bytes)
      await release()
    }
  })
})

test('several replacements for the whole batch are rejected', async () => {
  const { run, release } = await attached({ rank: 2, hasBias: true, opset: 17, type: 'float' }, false)
  await expect(run([0, 1], [0])).rejects.toThrow('Squeeze')
  await release()
})
