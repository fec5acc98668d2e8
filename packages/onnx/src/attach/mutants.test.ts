/**
 * Broken models through all that this package does: layers, names, attaching, detaching, baking. An error of ours or a result, and
 * whatever is refused leaves the model as it was.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { createLayer, type Entries, explicitEntries, FourierFTError, type Layer } from '@fourierft/core'
import { expect, test } from 'vitest'
import { checkWeight } from '../layers/check-weight-size.js'
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
import { ORIGINAL } from './check-attachable.js'
import { detachBranches } from './detach.js'

/** For the full count: FOURIERFT_MUTANTS=100000. */
const MUTANTS = Number(process.env.FOURIERFT_MUTANTS ?? 300)

const folder = new URL('../__fixtures__/', import.meta.url)
const sources = readdirSync(folder)
  .filter((name) => name.endsWith('.onnx'))
  .map((name) => new Uint8Array(readFileSync(new URL(name, folder))))
  .filter(({ length }) => length < 52_000)
  .concat([DataType.int64, DataType.int32, DataType.uint8, DataType.float].map(splitOf))

/** q, k and v before a `Split` whose sizes are of that type. */
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

/** The package's own errors; all others are thrown on. */
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

/** How far it came. */
async function exercise(bytes: Uint8Array, random: (below: number) => number): Promise<string> {
  const model = await attempt(() => readModel(bytes, { file: 'bad.onnx' }))
  if (!model) return 'refused'
  const layers = await attempt(() => [...findLinearLayers(model), ...findPackedLayers(model)])
  if (!layers) return 'unfound'
  const modules = layers.map(({ module }) => module ?? 'none')
  await attempt(() => matchLayers(layers, modules))
  const sound: LinearLayer[] = []
  for (const layer of layers) {
    const isSound = await attempt(() => {
      checkWeight(layer)
      return true
    })
    if (isSound) sound.push(layer)
  }
  // The whole of a packed product, or its parts.
  const chosen = sound.filter(({ part }) => !part).slice(-4)
  chosen.push(...sound.filter(({ node, part }) => part && node.opType === 'Attention').slice(0, 3))
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

/** Metadata that say something else are refused, and nothing is changed then; or they fit, and the branches are gone. */
function forge(attached: Uint8Array, random: (below: number) => number): void {
  const model = readModel(attached, { file: 'forged.onnx' })
  const original: unknown = JSON.parse(model.metadata.get(ORIGINAL) ?? '')
  const key = ['size', 'irVersion', 'attachedSize'][random(3)] ?? ''
  model.removeMetadata(ORIGINAL)
  model.addMetadata(ORIGINAL, JSON.stringify({ ...Object(original), [key]: FORGED[random(FORGED.length)] }))
  const before = model.toBytes()
  try {
    detachBranches(model)
  } catch (error) {
    if (FourierFTError.isInstance(error) && error.code !== 'NOT_REPRODUCIBLE')
      expect(Buffer.compare(model.toBytes(), before)).toBe(0)
    throw error
  }
}

/** In one of Node's own buffers, at any alignment. */
function inPool(bytes: Uint8Array, random: (below: number) => number): Buffer {
  const offset = random(9)
  const pool = Buffer.alloc(bytes.length + offset)
  pool.set(bytes, offset)
  return pool.subarray(offset)
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

test(`${MUTANTS} mutated models`, async () => {
  const random = lcg(20261125)
  const counts = new Map<string, number>()
  const before = process.memoryUsage.rss()
  for (let i = 0; i < MUTANTS; i++) {
    const mutant = mutate(sources[i % sources.length] ?? new Uint8Array(), random)
    const end = await exercise(i % 2 === 0 ? mutant : inPool(mutant, random), random)
    counts.set(end, (counts.get(end) ?? 0) + 1)
  }
  // All of it was tried, and nothing took memory that it kept or by the dims of a broken file.
  for (const end of ['refused', 'unattached', 'detached']) expect(counts.get(end)).toBeGreaterThan(0)
  expect(process.memoryUsage.rss() - before).toBeLessThan(2 ** 30)
  expect(process.resourceUsage().maxRSS * 1024 - before).toBeLessThan(2 ** 31)
}, 3_600_000)

/** One to three faults: a bit, a byte, a cut, a part taken out or doubled, a number without end. */
function mutate(source: Uint8Array, random: (below: number) => number): Uint8Array {
  let bytes = Uint8Array.from(source)
  for (let faults = 1 + random(3); faults > 0; faults--) {
    const at = random(bytes.length + 1)
    const to = Math.min(bytes.length, at + random(64))
    // Most bits are of weights; cuts would end most of the tries.
    const kind = random(20)
    if (kind < 8 && at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8))
    else if (kind < 14 && at < bytes.length) bytes[at] = random(256)
    else if (kind === 14) bytes = bytes.slice(0, at)
    else if (kind < 17) bytes = joined(bytes.subarray(0, at), bytes.subarray(to))
    else if (kind < 19) bytes = joined(bytes.subarray(0, to), bytes.subarray(at))
    else bytes.fill(0xff, at, Math.min(to, at + 5))
  }
  return bytes
}

function joined(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(parts))
}

/** Numbers in [0, below), the same on every run. @see Numerical Recipes' constants */
function lcg(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}
