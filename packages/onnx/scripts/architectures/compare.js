// Opens the exports of export.py in ONNX Runtime with the adapters of PEFT, without `moduleNames`. Compares the model without its adapter,
// with it, with it for only the first row of the batch, and merged. Writes results.json in this folder and the table in architectures.md.
//
//   node packages/onnx/scripts/architectures/compare.js [EXPORTS] [--only NAME …]      EXPORTS: .cache/architectures
//
// With `--only`, only these rows are repeated and printed.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as ort from 'onnxruntime-node'
import { createSession } from '../../../onnxruntime/dist/index.js'
import { findLinearLayers, findPackedLayers, matchLayers, readModel } from '../../dist/index.js'
import { recordExports } from './record-exports.js'
import { writeTable } from './table.js'

const ARRAYS = { float32: Float32Array, int64: BigInt64Array, bool: Uint8Array }

/** Decodes an array that export.py has packed. */
function unpack({ dtype, shape, data }) {
  const { buffer } = Uint8Array.from(Buffer.from(data, 'base64'))
  return { data: new ARRAYS[dtype](buffer), shape, dtype }
}

const tensorOf = (packed) => {
  const { data, shape, dtype } = unpack(packed)
  return new ort.Tensor(dtype, data, shape)
}

/** Returns the largest difference in tolerances; infinite if the sizes differ or a number is NaN. */
function distance(received, expected, tolerance) {
  if (received.length !== expected.length) return Number.POSITIVE_INFINITY
  let largest = 0
  for (let i = 0; i < received.length; i++) {
    const error = Math.abs(received[i] - expected[i])
    if (!(error <= largest)) largest = error
  }
  return Number.isNaN(largest) ? Number.POSITIVE_INFINITY : largest / tolerance
}

/** Rounds to two digits, which are enough for a table and do not change with each release of ONNX Runtime. */
const rounded = (ratio) => (Number.isFinite(ratio) ? Number(ratio.toPrecision(2)) : String(ratio))

/** Replaces numbers, so that `encoder.layer.0.x` and `encoder.layer.1.x` are listed once. */
const pattern = (name = '') => name.replace(/(^|[./_])\d+(?=[./]|$)/g, '$1*')

const messageOf = (error, folder) => String(error.message).replaceAll(`${folder}/`, '').slice(0, 300)

/** Checks one adapter in one file. Returns ratios of error and tolerance, or the error. */
async function check(folder, file, feeds, { adapter, modules, base, adapted, unseen }, hasRows) {
  const path = join(folder, file)
  const expected = { base: unpack(base.output).data, adapted: unpack(adapted.output).data }
  const tolerance = Math.max(base.tolerance, adapted.tolerance)
  const rowLength = expected.base.length / base.output.shape[0]
  const rows = Float32Array.from(expected.base, (value, i) => (i < rowLength ? expected.adapted[i] : value))
  const results = { modules: Object.keys(modules).length, ...(unseen.length > 0 && { unseen }) }
  let session
  try {
    const adapters = { peft: join(folder, adapter) }
    session = await createSession(path, { ort, native: false, adapters, intraOpNumThreads: 1 })
  } catch (error) {
    const model = readModel(new Uint8Array(readFileSync(path)), { file })
    const { unmatched } = matchLayers(
      [...findLinearLayers(model), ...findPackedLayers(model)],
      Object.keys(modules),
    )
    const missing = unmatched.map(({ module, reason, candidates }) => [
      pattern(module),
      reason,
      pattern(candidates[0]),
    ])
    const distinct = [...new Map(missing.map((module) => [JSON.stringify(module), module])).values()]
    const code = error.code ?? error.name
    return {
      ...results,
      code,
      message: messageOf(error, folder),
      unmatched: unmatched.length,
      missing: distinct,
    }
  }
  const ratio = async (wanted, options = {}) => {
    try {
      const output = (await session.run(feeds, options))[session.outputNames[0]]
      return rounded(distance(output.data, wanted, tolerance))
    } catch (error) {
      return messageOf(error, folder)
    }
  }
  try {
    results.adapted = await ratio(expected.adapted)
    if (hasRows) results.rows = await ratio(rows, { adapters: ['peft', null] })
    session.disableAdapters()
    results.base = await ratio(expected.base)
    session.enableAdapters()
    results.merged = await session.mergeAdapter().then(
      () => ratio(expected.adapted),
      (error) => messageOf(error, folder),
    )
    return results
  } finally {
    await session.release()
  }
}

async function compare(folder, { versions, parts, ...rest }, hasRows) {
  if (!parts) return rest
  const { way, sizes, attention } = rest
  const results = { way, sizes, ...(attention && { attention }), checks: {} }
  for (const { file, feeds, checks } of parts) {
    const tensors = Object.fromEntries(
      Object.entries(feeds).map(([name, packed]) => [name, tensorOf(packed)]),
    )
    for (const [kind, vectors] of Object.entries(checks)) {
      results.checks[kind] ??= {}
      results.checks[kind][file] = await check(folder, file, tensors, vectors, hasRows)
    }
  }
  return results
}

await recordExports(fileURLToPath(new URL('results.json', import.meta.url)), (folder, vectors, { rows }) =>
  compare(folder, vectors, rows),
)
writeTable()
