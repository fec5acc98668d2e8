// Makes the tables of gradients in gradients.md from gradients.json.
//
//   node packages/onnx/scripts/architectures/gradient-table.js             prints the tables
//   node packages/onnx/scripts/architectures/gradient-table.js --write     writes them into gradients.md, as compare-gradients.js does

import { readFileSync, writeFileSync } from 'node:fs'
import { EXPORTERS, versionsOf } from './table.js'

const RESULTS = new URL('gradients.json', import.meta.url)
const PAGE = new URL('../../gradients.md', import.meta.url)
const [BEGIN, END] = ['<!-- gradients -->', '<!-- /gradients -->']
/** The error that is allowed in float32, relative to the norm of the gradient; also of the outputs of an export. */
const TOLERANCE = 1e-4
const TYPES = ['float16', 'q8', 'q4']

/** Returns the cell of the files of one export, and the note about it below the table. */
function describe(files) {
  const findings = new Set()
  const notes = []
  let largest = 0
  for (const [file, { code, message, tolerance = TOLERANCE, needsNames, ...errors }] of Object.entries(
    files,
  )) {
    const where = Object.keys(files).length > 1 ? `${file}: ` : ''
    if (code) {
      findings.add(code === 'MODULE_NOT_FOUND' ? 'needs `moduleNames`' : `rejected: \`${code}\``)
      notes.push(`${where}${message}`)
      continue
    }
    const error = Math.max(errors.portable.gradient, errors.native.gradient)
    if (needsNames)
      notes.push(`${where}needs \`moduleNames\`: the converter removes the names of the modules`)
    if (error <= tolerance) {
      largest = Math.max(largest, error)
      continue
    }
    const isExport = errors.base > TOLERANCE
    findings.add(isExport ? 'the export itself differs from PyTorch' : '**wrong**')
    notes.push(`${where}gradient ${error}${isExport ? `, output without an adapter ${errors.base}` : ''}`)
  }
  const cells = largest > 0 ? [`✓ ${shown(largest)}`, ...findings] : [...findings]
  return { cell: cells.join('; '), note: notes.join('; ') }
}

const shown = (error) => error.toExponential(1)

/** Returns the generated part of gradients.md, with its markers. */
function printTables({ versions, onnxruntime, rows }) {
  const exporters = Object.entries(EXPORTERS)
  const lines = [
    BEGIN,
    '',
    `| architecture, float32 | ${Object.values(EXPORTERS).join(' | ')} |`,
    '| --- | --- | --- | --- |',
  ]
  const notes = []
  let group
  for (const row of rows) {
    if (row.group !== group) lines.push(`| **${row.group}** | | | |`)
    group = row.group
    const cells = exporters.map(([exporter, title]) => {
      const result = row.exports[exporter]
      if (!result) return ''
      const { cell, note } = describe(result.types.float32)
      if (note) notes.push(`- ${row.name}, ${title}: ${note}`)
      return cell
    })
    lines.push(`| ${row.name} | ${cells.join(' | ')} |`)
  }
  lines.push(
    '',
    `| type | architecture | ${Object.values(EXPORTERS).join(' | ')} |`,
    '| --- | --- | --- | --- | --- |',
  )
  for (const type of TYPES)
    for (const row of rows) {
      if (!Object.values(row.exports).some((result) => result?.types[type])) continue
      const cells = exporters.map(([exporter, title]) => {
        const files = row.exports[exporter]?.types[type]
        if (!files) return ''
        const { cell, note } = describe(files)
        if (note) notes.push(`- ${row.name}, ${title}, ${type}: ${note}`)
        const tolerances = Object.values(files).map(({ tolerance = TOLERANCE }) => tolerance)
        return `${cell} of ${shown(Math.max(...tolerances))}`
      })
      lines.push(`| ${type} | ${row.name} | ${cells.join(' | ')} |`)
    }
  lines.push('', ...notes, `- made with onnxruntime-node ${onnxruntime}; ${versionsOf(versions)}`, '', END)
  return lines.join('\n')
}

const printed = () => printTables(JSON.parse(readFileSync(RESULTS, 'utf8')))

export function writeTables() {
  const page = readFileSync(PAGE, 'utf8')
  const [before, after] = [page.indexOf(BEGIN), page.indexOf(END)]
  if (before < 0 || after < before) throw new Error(`gradients.md has no markers ${BEGIN} and ${END}`)
  writeFileSync(PAGE, page.slice(0, before) + printed() + page.slice(after + END.length))
}

if (import.meta.url === `file://${process.argv[1]}`) {
  if (process.argv.includes('--write')) writeTables()
  else console.log(printed())
}
