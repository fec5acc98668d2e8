// Compares each export of export.py and writes the results; the command line of compare.js and compare-gradients.js.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import * as ort from 'onnxruntime-node'

const EXPORTERS = ['torchscript', 'dynamo', 'optimum']

/**
 * Writes `file`: a row for each architecture with the result of `compare(folder, vectors, architecture)` for each exporter.
 *
 * The first argument on the command line is the folder of the exports. With `--only NAME`, only these rows are repeated and printed.
 */
export async function recordExports(file, compare) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { only: { type: 'string', multiple: true, default: [] } },
  })
  const { only } = values
  const [folderOfExports = '.cache/architectures'] = positionals
  const architectures = JSON.parse(readFileSync(join(folderOfExports, 'architectures.json'), 'utf8'))
  const recorded = only.length > 0 ? JSON.parse(readFileSync(file, 'utf8')) : { versions: {}, rows: [] }
  const rows = []
  const { versions } = recorded
  for (const architecture of architectures) {
    const { name, group, folder } = architecture
    const old = recorded.rows.find((row) => row.name === name)
    if (only.length > 0 && !only.includes(name)) {
      if (old) rows.push(old)
      continue
    }
    const row = { name, group, exports: {} }
    for (const exporter of EXPORTERS) {
      const exportFolder = join(folderOfExports, folder, exporter)
      const source = join(exportFolder, 'vectors.json')
      if (!existsSync(source)) continue
      const vectors = JSON.parse(readFileSync(source, 'utf8'))
      versions[exporter] = vectors.versions
      row.exports[exporter] = await compare(exportFolder, vectors, architecture)
      if (only.length > 0) console.log(name, exporter, JSON.stringify(row.exports[exporter], null, 1))
    }
    rows.push(row)
    process.stderr.write(`${rows.length} of ${architectures.length}: ${name}\n`)
  }
  const lines = rows.map((row) => JSON.stringify(row)).join(',\n')
  const head = JSON.stringify({ versions, onnxruntime: ort.env.versions.node }).slice(0, -1)
  writeFileSync(file, `${head},"rows":[\n${lines}\n]}\n`)
}
