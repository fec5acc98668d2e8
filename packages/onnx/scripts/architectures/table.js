// Makes the table of architectures and exporters in architectures.md from results.json.
//
//   node packages/onnx/scripts/architectures/table.js             prints the table
//   node packages/onnx/scripts/architectures/table.js --write     writes it into architectures.md, as compare.js does

import { readFileSync, writeFileSync } from 'node:fs'

const RESULTS = new URL('results.json', import.meta.url)
const PAGE = new URL('../../architectures.md', import.meta.url)
const [BEGIN, END] = ['<!-- architectures -->', '<!-- /architectures -->']
export const EXPORTERS = { torchscript: 'TorchScript', dynamo: 'dynamo', optimum: 'optimum' }
const UNSUPPORTED =
  /custom or unsupported architecture|doesn't support task|optimum has no task|Unrecognized model identifier/
/** The comparisons of outputs with adapters. `base` is not among them, because it checks only the export. */
const COMPARED = { adapted: 'the adapter', rows: 'one adapter for each row', merged: 'merged' }

const shortList = (names, max = 4) =>
  names.length > max ? `${names.slice(0, max).join(', ')} and ${names.length - max} more` : names.join(', ')

/** Returns the cell of an export, and the note about it below the table. */
function describe(result) {
  if (!result) return { cell: '' }
  const failure = result.error ?? result.missing
  if (failure) {
    if (UNSUPPORTED.test(failure)) return { cell: '–' }
    return { cell: 'exporter fails', note: failure.length > 160 ? `${failure.slice(0, 160)}…` : failure }
  }
  const notes = []
  const cells = []
  let largest = 0
  for (const [kind, checks] of Object.entries(result.checks)) {
    const prefix = kind === 'typical' ? '' : 'all layers: '
    const findings = new Set()
    for (const [file, check] of Object.entries(checks)) {
      const where = `${prefix}${Object.keys(checks).length > 1 ? `${file}: ` : ''}`
      if (check.code === 'MODULE_NOT_FOUND') {
        findings.add(`needs \`moduleNames\` for ${check.unmatched} of ${check.modules}`)
        notes.push(`${where}${shortList([...new Set(check.missing.map(([module]) => module))])}`)
        continue
      }
      if (check.code) {
        findings.add(`rejected: \`${check.code}\``)
        notes.push(`${where}${check.message}`)
        continue
      }
      if (typeof check.base !== 'number' || check.base > 1) {
        if (kind !== 'typical') continue
        findings.add(
          `the export itself ${typeof check.base === 'string' ? 'does not run' : 'differs from PyTorch'}`,
        )
        notes.push(`${where}without an adapter: ${check.base}`)
        continue
      }
      const wrong = Object.entries(COMPARED).filter(([key]) => check[key] > 1)
      if (wrong.length > 0) {
        findings.add(`**wrong** (${wrong.map(([, name]) => name).join(', ')})`)
        notes.push(`${where}${wrong.map(([key, name]) => `${name}: ${check[key]} tolerances`).join(', ')}`)
      }
      for (const [key, name] of Object.entries(COMPARED)) {
        const ratio = check[key]
        if (typeof ratio === 'number' && ratio <= 1) largest = Math.max(largest, ratio)
        if (typeof ratio !== 'string') continue
        findings.add(`rejected (${name})`)
        notes.push(`${where}${name}: ${ratio}`)
      }
    }
    if (findings.size === 0 && kind === 'typical') cells.push('✓')
    cells.push(...Array.from(findings, (text) => `${prefix}${text}`))
  }
  if (cells[0] === '✓') cells[0] = `✓ ${largest}`
  return { cell: cells.join('; '), note: notes.join('; ') }
}

export function versionsOf(exporters) {
  const lines = Object.entries(exporters).map(([exporter, versions]) => {
    const used = Object.entries(versions).filter(
      ([name]) => exporter === 'optimum' || name !== 'optimum-onnx',
    )
    return `${EXPORTERS[exporter]}: ${used.map((version) => version.join(' ')).join(', ')}`
  })
  return lines.join('; ')
}

/** Returns the generated part of architectures.md, with its markers. */
export function printTable({ versions, onnxruntime, rows }) {
  const lines = [
    BEGIN,
    '',
    `| architecture | ${Object.values(EXPORTERS).join(' | ')} |`,
    '| --- | --- | --- | --- |',
  ]
  const notes = []
  let group
  for (const row of rows) {
    if (row.group !== group) lines.push(`| **${row.group}** | | | |`)
    group = row.group
    const cells = Object.keys(EXPORTERS).map((exporter) => {
      const { cell, note } = describe(row.exports[exporter])
      if (note) notes.push(`- ${row.name}, ${EXPORTERS[exporter]}: ${note}`)
      return cell
    })
    lines.push(`| ${row.name} | ${cells.join(' | ')} |`)
  }
  lines.push('', ...notes, `- made with onnxruntime-node ${onnxruntime}; ${versionsOf(versions)}`, '', END)
  return lines.join('\n')
}

export function writeTable() {
  const page = readFileSync(PAGE, 'utf8')
  const [before, after] = [page.indexOf(BEGIN), page.indexOf(END)]
  if (before < 0 || after < before) throw new Error(`architectures.md has no markers ${BEGIN} and ${END}`)
  const table = printTable(JSON.parse(readFileSync(RESULTS, 'utf8')))
  writeFileSync(PAGE, page.slice(0, before) + table + page.slice(after + END.length))
}

if (import.meta.url === `file://${process.argv[1]}`) {
  if (process.argv.includes('--write')) writeTable()
  else console.log(printTable(JSON.parse(readFileSync(RESULTS, 'utf8'))))
}
