// Makes the training graph of each export of export.py, with the adapter of PEFT and without `moduleNames`, and compares its gradients with those
// of gradients.py: by the portable functions and by the native kernel. Writes gradients.json in this folder and the table in gradients.md.
//
//   node packages/onnx/scripts/architectures/compare-gradients.js [EXPORTS] [--only NAME …]      EXPORTS: .cache/architectures
//
// With `--only`, only these rows are repeated and printed.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as ort from 'onnxruntime-node'
import { decodeFloats, encodeFloats, loadAdapter } from '../../../core/dist/index.js'
import { registerFourierFTBackend } from '../../../onnxruntime/dist/index.js'
import {
  attachBranches,
  decideProducts,
  findLinearLayers,
  findPackedLayers,
  makeTrainingGraph,
  matchLayers,
  meanSquaredError,
  readModel,
} from '../../dist/index.js'
import { writeTables } from './gradient-table.js'
import { recordExports } from './record-exports.js'

const ARRAYS = { float32: Float32Array, float64: Float64Array, int64: BigInt64Array, bool: Uint8Array }
const PROVIDERS = { portable: ['cpu'], native: ['fourierft'] }

/** Decodes an array that the scripts in Python have packed. */
function unpack({ dtype, data }) {
  const { buffer } = Uint8Array.from(Buffer.from(data, 'base64'))
  return new ARRAYS[dtype](buffer)
}

/** Returns a tensor; in float16 if the model has no other floats. */
function tensorOf(packed, isHalf) {
  const values = unpack(packed)
  if (packed.dtype !== 'float32' || !isHalf) return new ort.Tensor(packed.dtype, values, packed.shape)
  return new ort.Tensor('float16', new Uint16Array(encodeFloats(values, 'F16').slice().buffer), packed.shape)
}

/** The gradient in float32, as numbers. */
function numbersOf({ type, data }) {
  if (type !== 'float16') return data
  return decodeFloats({ dtype: 'F16', bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) })
}

/** Rounds to two digits, which are enough for a table and do not change with each release of ONNX Runtime. */
const rounded = (error) => (Number.isFinite(error) ? Number(error.toPrecision(2)) : String(error))

const norm = (values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))

/** Opens a model and finds the layers of the adapter. */
async function open(path, adapter) {
  const model = readModel(new Uint8Array(readFileSync(path)), { file: path })
  const layers = await decideProducts([...findLinearLayers(model), ...findPackedLayers(model)], () => {
    throw new Error('the exports have no external data')
  })
  return { model, layers, ...matchLayers(layers, [...adapter.modules.keys()]) }
}

/** A converter keeps the names of products and adds a suffix, but may remove those of modules. Returns the products by module. */
async function productsBefore(original, adapter, layers) {
  const { matched } = await open(original, adapter)
  return Array.from(matched, ([module, { node }]) => [
    module,
    layers.find((layer) => layer.node.name.startsWith(`${node.name}_`)),
  ])
}

async function trainingGraph(path, adapter, original) {
  const { model, layers, matched: found, unmatched } = await open(path, adapter)
  const needsNames = unmatched.length > 0 && path !== original
  const matched = needsNames ? await productsBefore(original, adapter, layers) : found
  if (unmatched.length > 0 && !needsNames)
    throw Object.assign(new Error(`${unmatched[0].module}: ${unmatched[0].reason}`), {
      code: 'MODULE_NOT_FOUND',
    })
  const branches = Array.from(matched, ([module, layer]) => ({
    module,
    layer,
    entries: adapter.layer(module).entries,
  }))
  const inputs = attachBranches(model, branches)
  const loss = meanSquaredError(model.graph.outputs[0].name)
  const graph = makeTrainingGraph(model, { loss, targets: [...inputs.coefficients.values()] })
  return { bytes: new Uint8Array(model.toBytes()), inputs, graph, needsNames }
}

/** Compares the gradients of one file with the expected ones. Returns the relative errors by kernel, or the error. */
async function check({ path, original, adapterFolder, shapes, feeds, labels }, expected, isHalf) {
  const results = { ...(expected.tolerance && { tolerance: rounded(expected.tolerance) }) }
  try {
    const adapter = await loadAdapter(adapterFolder, { shapes })
    const { bytes, inputs, graph, needsNames } = await trainingGraph(path, adapter, original)
    if (needsNames) results.needsNames = true
    const all = {
      [inputs.rows]: new ort.Tensor('int64', BigInt64Array.of(0n), [1]),
      [graph.labels]: tensorOf(labels),
    }
    for (const [name, packed] of Object.entries(feeds)) all[name] = tensorOf(packed, isHalf)
    for (const module of adapter.modules.keys()) {
      const { coefficients, scaling } = adapter.layer(module)
      const values = Float32Array.from(coefficients, (c) => c * scaling)
      all[inputs.coefficients.get(module)] = new ort.Tensor('float32', values, [1, values.length])
    }
    for (const [kernel, executionProviders] of Object.entries(PROVIDERS))
      results[kernel] = await compared(
        bytes,
        { executionProviders, feeds: all, adapter, inputs, graph },
        expected,
      )
    return results
  } catch (error) {
    const message = String(error.message).replaceAll(path, path.split('/').at(-1)).slice(0, 300)
    return { ...results, code: error.code ?? error.name, message }
  }
}

async function compared(bytes, { executionProviders, feeds, adapter, inputs, graph }, { loss, gradients }) {
  const session = await ort.InferenceSession.create(bytes, {
    executionProviders,
    intraOpNumThreads: 1,
    logSeverityLevel: 3,
  })
  try {
    const read = new Set(session.inputNames)
    const outputs = await session.run(
      Object.fromEntries(Object.entries(feeds).filter(([name]) => read.has(name))),
    )
    const differences = []
    const wanted = []
    for (const [module, packed] of Object.entries(gradients)) {
      const { scaling } = adapter.layer(module)
      const values = numbersOf(outputs[graph.gradients.get(inputs.coefficients.get(module))])
      // The input is scaling·c.
      for (const [i, value] of unpack(packed).entries()) {
        wanted.push(value)
        differences.push(values[i] * scaling - value)
      }
    }
    const lossError = Math.abs(outputs[graph.loss].data[0] - loss) / loss
    return { gradient: rounded(norm(differences) / norm(wanted)), loss: rounded(lossError) }
  } finally {
    await session.release()
  }
}

/** Returns the relative error of the first output of a model without its adapter. */
async function errorOfExport({ path, feeds }, { output }) {
  const session = await ort.InferenceSession.create(path, { intraOpNumThreads: 1, logSeverityLevel: 3 })
  try {
    const tensors = Object.entries(feeds).map(([name, packed]) => [name, tensorOf(packed)])
    const { data } = (await session.run(Object.fromEntries(tensors)))[session.outputNames[0]]
    const wanted = unpack(output)
    return rounded(norm(wanted.map((value, i) => data[i] - value)) / norm(wanted))
  } finally {
    await session.release()
  }
}

async function compare(folder, { parts }) {
  if (!parts) return undefined
  const source = join(folder, 'gradients.json')
  if (!existsSync(source)) return undefined
  const expected = JSON.parse(readFileSync(source, 'utf8'))
  const results = { types: {} }
  for (const [i, { file, feeds, checks }] of parts.entries()) {
    const { adapter, modules: shapes, base } = checks.typical
    const { labels, types } = expected.parts[i]
    for (const [type, vectors] of Object.entries(types)) {
      const given = {
        path: join(folder, vectors.file),
        original: join(folder, file),
        adapterFolder: join(folder, adapter),
        shapes,
        feeds,
        labels,
      }
      results.types[type] ??= {}
      const result = await check(given, vectors, type === 'float16')
      if (type === 'float32') result.base = await errorOfExport(given, base)
      results.types[type][file] = result
    }
  }
  return results
}

registerFourierFTBackend(ort)
await recordExports(fileURLToPath(new URL('gradients.json', import.meta.url)), compare)
writeTables()
