/** Joined coefficients give the outputs of the attached model, bit for bit. */
import { uniformEntries } from '@fourierft/core'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { modelBytes } from '../__fixtures__/model-files.js'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { createModel } from '../model/create-model.js'
import { readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { attachBranches } from './attach.js'
import { joinCoefficients } from './join-coefficients.js'

const x = new Tensor(
  'int64',
  BigInt64Array.from({ length: 8 }, (_, i) => BigInt((3 * i) % 20)),
  [1, 8],
)

/** Attaches a branch to each layer of query, key and value; those of value have other numbers of entries. */
function attached() {
  const model = readModel(modelBytes('bert-torchscript'))
  const branches = findLinearLayers(model).flatMap(({ module = '', ...layer }, seed) => {
    const [, kind] = /attention\.self\.(query|key|value)$/.exec(module) ?? []
    if (kind === undefined) return []
    const n = kind === 'value' ? 5 : 7
    const entries = uniformEntries({ shape: [layer.outFeatures, layer.inFeatures], n, seed })
    return [{ module, layer: { module, ...layer }, entries }]
  })
  const { coefficients, rows } = attachBranches(model, branches)
  return { model, coefficients, rows, branches }
}

async function outputOf(session: InferenceSession, feeds: Record<string, Tensor>): Promise<Float32Array> {
  const results = await session.run(feeds)
  return results[session.outputNames[0]]?.data as Float32Array
}

const floats = (values: number[], n: number) =>
  new Tensor('float32', Float32Array.from(values), [values.length / n, n])

/** The number of adapters of each module, and the adapter of each row. */
const CASES = [
  { name: 'no adapter', adaptersOf: () => 0, rows: [0n] },
  { name: 'an adapter of all modules', adaptersOf: () => 1, rows: [0n] },
  { name: 'an adapter of some modules', adaptersOf: (i: number) => i % 2, rows: [0n] },
  { name: 'an adapter for each half of the tokens', adaptersOf: (i: number) => 2 * (i % 2), rows: [1n, 0n] },
]

test.each([true, false])('the outputs stay the same; portable: %s', async (isPortable) => {
  const { model, coefficients, rows, branches } = attached()
  const separate = await createSession(model.toBytes())
  const joined = joinCoefficients(model, coefficients, { isPortable }) ?? []
  expect(joined.map(({ n, modules }) => [n, modules.length])).toEqual([
    [7, 4],
    [5, 2],
  ])
  expect(model.graph.inputs.map(({ name }) => name)).toEqual([
    'x',
    rows,
    ...joined.flatMap(({ values, counts }) => [values, counts]),
  ])
  const session = await createSession(model.toBytes())
  const outputs = new Set<string>()
  for (const { adaptersOf, rows: rowNumbers } of CASES) {
    const numbers = new Map(
      branches.map(({ module, entries: { n } }, i) => [
        module,
        Array.from({ length: adaptersOf(i) * n }, (_, l) => 40 * Math.sin(2 * l + i)),
      ]),
    )
    const numbersOf = (module: string) => numbers.get(module) ?? []
    const feeds = { x, [rows]: new Tensor('int64', BigInt64Array.from(rowNumbers), [rowNumbers.length]) }
    const separateFeeds = branches.map(({ module, entries: { n } }) => [
      coefficients.get(module),
      floats(numbersOf(module), n),
    ])
    const joinedFeeds = joined.flatMap(({ n, values, counts, modules }) => [
      [values, floats(modules.flatMap(numbersOf), n)],
      [
        counts,
        new Tensor(
          'int64',
          BigInt64Array.from(modules, (module) => BigInt(numbersOf(module).length / n)),
          [modules.length],
        ),
      ],
    ])
    const expected = await outputOf(separate, { ...feeds, ...Object.fromEntries(separateFeeds) })
    const received = await outputOf(session, { ...feeds, ...Object.fromEntries(joinedFeeds) })
    expect(received).toEqual(expected)
    outputs.add(expected.join())
  }
  await separate.release()
  await session.release()
  // Each case has its own output.
  expect(outputs.size).toBe(CASES.length)
})

test('a model whose opset has no sizes of Split as an input stays as it is', () => {
  const float = (name: string) => ({ name, dataType: DataType.float, dims: [1] })
  const model = createModel(
    {
      name: 'main',
      nodes: [{ opType: 'Neg', inputs: ['c'], outputs: ['y'] }],
      inputs: [float('c')],
      outputs: [float('y')],
    },
    { opset: 12 },
  )
  const before = model.toBytes()
  expect(joinCoefficients(model, new Map([['module', 'c']]), { isPortable: true })).toBeUndefined()
  expect(model.toBytes()).toEqual(before)
})
