/**
 * Broken models are searched, matched, attached to, detached from and baked. Each step gives a result or an error of this package, and a
 * step that fails leaves the model unchanged.
 */
import { createLayer, type Entries, explicitEntries, FourierFTError, type Layer } from '@fourierft/core'
import { expect, test } from 'vitest'
import { liveBytes, recordLargestBuffer } from '../../../../test/memory.js'
import { MODEL_NAMES, modelBytes } from '../__fixtures__/model-files.js'
import { type Fault, mutate, type RandomInteger, randomIntegers } from '../__fixtures__/mutate.js'
import { checkWeight } from '../layers/check-weight.js'
import type { LinearLayer } from '../layers/linear-layer.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { matchLayers } from '../layers/match-layers.js'
import { findPackedLayers } from '../layers/packed-layers.js'
import { createModel } from '../model/create-model.js'
import { type OnnxModel, readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { BYTES } from '../model/tensor.js'
import { attachBranches } from './attach.js'
import { bakeBranches } from './bake.js'
import type { Branch } from './branch.js'
import { ORIGINAL_METADATA_KEY } from './check-attachable.js'
import { detachBranches } from './detach.js'

const MUTANTS = Number(process.env.FOURIERFT_MUTANTS ?? 200)
/** The time depends on the number of mutants. */
const NO_LIMIT = 0

const sources = MODEL_NAMES.map(modelBytes)
  .filter(({ length }) => length < 52_000)
  .concat([DataType.int64, DataType.int32, DataType.uint8, DataType.float].map(splitOf))

/** A packed product of q, k and v, and a `Split` whose sizes have the data type. */
function splitOf(dataType: number): Uint8Array<ArrayBuffer> {
  const value = (name: string) => ({ name, dataType: DataType.float, dims: [1, 't', 16] })
  const nodes = [
    { name: '/a/qkv/MatMul', opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] },
    { opType: 'Split', inputs: ['y', 's'], outputs: ['q', 'k', 'v'], attributes: { axis: { int: -1 } } },
  ]
  const width = BYTES.get(dataType) ?? 1
  const sizes = Uint8Array.from({ length: 3 * width }, (_, i) => (i % width === 0 ? 16 : 0))
  const initializers = [
    { name: 'w', dims: [16, 48], dataType: DataType.float, data: new Uint8Array(3072) },
    { name: 's', dims: [3], dataType, data: sizes },
  ]
  const graph = {
    name: 'main',
    nodes,
    inputs: [value('x')],
    outputs: ['q', 'k', 'v'].map(value),
    initializers,
  }
  return new Uint8Array(createModel(graph, { opset: 17 }).toBytes())
}

/** Returns the result, or undefined after an error of this package; rethrows other errors. */
async function attempt<T>(run: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await run()
  } catch (error) {
    if (!FourierFTError.isInstance(error)) throw error
    expect(error.message.length).toBeGreaterThan(20)
    return undefined
  }
}

function entriesOf({ outFeatures, inFeatures }: LinearLayer): Entries {
  return explicitEntries({
    shape: [outFeatures, inFeatures],
    rows: [0, outFeatures - 1],
    columns: [inFeatures - 1, 0],
  })
}

const adapterOf = (name: string, layer: LinearLayer): Layer => {
  const entries = entriesOf(layer)
  return createLayer({
    name,
    shape: entries.shape,
    entries,
    coefficients: Float32Array.of(1, -2),
    scaling: 1,
  })
}

/** Uses the model until a step fails, and returns the outcome. */
async function exercise(bytes: Uint8Array, random: RandomInteger): Promise<string> {
  const model = await attempt(() => readModel(bytes, { file: 'bad.onnx' }))
  if (!model) return 'unread'
  const layers = await attempt(() => [...findLinearLayers(model), ...findPackedLayers(model)])
  if (!layers) return 'unfound'
  const modules = layers.map(({ module }) => module ?? 'none')
  await attempt(() => matchLayers(layers, modules))
  const validLayers: LinearLayer[] = []
  for (const layer of layers) {
    const isValid = await attempt(() => {
      checkWeight(layer)
      return true
    })
    if (isValid) validLayers.push(layer)
  }
  // Parts of `Attention` only: parts of other products would overlap the products themselves.
  const chosen = validLayers.filter(({ part }) => !part).slice(-4)
  chosen.push(...validLayers.filter(({ node, part }) => part && node.opType === 'Attention').slice(0, 3))
  await attempt(() => bake(bytes, chosen.length))
  const branches = chosen.map((layer, i): Branch => ({ module: `m.${i}`, layer, entries: entriesOf(layer) }))
  const last = chosen.filter(({ part }) => !part).at(-1)
  const replaceable = last ? [{ module: 'head', layer: last }] : []
  const isAttached = await attempt(() => attachBranches(model, branches, { replaceable }))
  if (!isAttached) {
    expect(Buffer.compare(model.toBytes(), bytes)).toBe(0)
    return 'unattached'
  }
  const file = model.toBytes()
  await attempt(() => forge(file, random))
  const again = readModel(file, { file: 'attached.onnx' })
  const isDetached = await attempt(() => {
    detachBranches(again)
    return true
  })
  if (!isDetached) return 'undetached'
  expect(again.toBytes().length).toBe(bytes.length)
  return 'detached'
}

const FORGED = ['text', 1.5, -1, 0, null, 1e300, 2 ** 53, {}, [], true]

/** Detaches after a change of the metadata: this removes the branches, or fails and leaves the model unchanged. */
function forge(attached: Uint8Array, random: RandomInteger): void {
  const model = readModel(attached, { file: 'forged.onnx' })
  const original: unknown = JSON.parse(model.metadata.get(ORIGINAL_METADATA_KEY) ?? '')
  const key = ['size', 'irVersion', 'attachedSize'][random(3)] ?? ''
  model.removeMetadata(ORIGINAL_METADATA_KEY)
  model.addMetadata(
    ORIGINAL_METADATA_KEY,
    JSON.stringify({ ...Object(original), [key]: FORGED[random(FORGED.length)] }),
  )
  const before = model.toBytes()
  try {
    detachBranches(model)
  } catch (error) {
    if (FourierFTError.isInstance(error) && error.code !== 'NOT_REPRODUCIBLE')
      expect(Buffer.compare(model.toBytes(), before)).toBe(0)
    throw error
  }
}

/** Returns a copy at a random offset in a larger buffer. */
function copyAtOffset(bytes: Uint8Array, random: RandomInteger): Buffer {
  const offset = random(9)
  const buffer = Buffer.alloc(bytes.length + offset)
  buffer.set(bytes, offset)
  return buffer.subarray(offset)
}

async function bake(bytes: Uint8Array, count: number): Promise<OnnxModel> {
  const model = readModel(bytes, { file: 'bad.onnx' })
  const layers = findLinearLayers(model).slice(0, count)
  for (const layer of layers) checkWeight(layer)
  const baked = layers.map((layer, i) => ({ layer, adapters: [adapterOf(`m.${i}`, layer)] }))
  const readExternal = (_: string, __: number, length: number) => new Uint8Array(Math.min(length, 2 ** 20))
  await bakeBranches(model, baked, { readExternal })
  model.toBytes()
  return model
}

/** Most bits belong to weights, and a cut ends most attempts early, so cuts are rare. */
const FAULTS: readonly Fault[] = [
  ...new Array<Fault>(8).fill('bit'),
  ...new Array<Fault>(6).fill('byte'),
  'cut',
  ...new Array<Fault>(2).fill('omission'),
  ...new Array<Fault>(2).fill('repetition'),
  'endless integer',
]

test(
  `${MUTANTS} mutated models give a result or an error of this package, in bounded memory`,
  async () => {
    const random = randomIntegers(20261125)
    const counts = new Map<string, number>()
    const largestBuffer = recordLargestBuffer()
    let halfway = 0
    for (let i = 0; i < MUTANTS; i++) {
      const mutant = mutate(sources[i % sources.length], random, { maxFaults: 3, faults: FAULTS })
      const outcome = await exercise(i % 2 === 0 ? mutant : copyAtOffset(mutant, random), random)
      counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
      if (i === MUTANTS >> 1) halfway = liveBytes()
    }
    const growth = liveBytes() - halfway
    // Some mutants have each outcome. None leaks memory, or allocates as much as the dims of a broken file declare.
    for (const outcome of ['unread', 'unattached', 'detached']) expect(counts.get(outcome)).toBeGreaterThan(0)
    expect(growth).toBeLessThan(2 ** 20)
    expect(largestBuffer()).toBeLessThan(2 ** 22)
  },
  NO_LIMIT,
)
