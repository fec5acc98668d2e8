// The table of architectures and exporters in architectures.md, from results.json.
//
//   node packages/onnx/scripts/architectures/table.js             prints it
//   node packages/onnx/scripts/architectures/table.js --write     writes it into architectures.md, as compare.js does

import { readFileSync, writeFileSync } from 'node:fs'

const RESULTS = new URL('results.json', import.meta.url)
const PAGE = new URL('../../architectures.md', import.meta.url)
const [BEGIN, END] = ['<!-- architectures -->', '<!-- /architectures -->']
const EXPORTERS = { torchscript: 'TorchScript', dynamo: 'dynamo', optimum: 'optimum' }
const UNSUPPORTED =
  /custom or unsupported architecture|doesn't support task|optimum has no task|Unrecognized model identifier/
/** What was compared beyond the adapted outputs; `base` is another matter: it tells about the export. */
const COMPARED = { adapted: 'the adapter', rows: 'one adapter for each row', merged: 'merged' }

const some = (texts, most = 4) =>
  texts.length > most
    ? `${texts.slice(0, most).join(', ')} and ${texts.length - most} more`
    : texts.join(', ')

/** A cell, and what is to be said about it below the table. */
function describe(made) {
  if (!made) return { cell: '' }
  const failure = made.error ?? made.missing
  if (failure) {
    if (UNSUPPORTED.test(failure)) return { cell: '–' }
    return { cell: 'exporter fails', note: failure.length > 160 ? `${failure.slice(0, 160)}…` : failure }
  }
  const notes = []
  const cells = []
  let largest = 0
  for (const [kind, checks] of Object.entries(made.checks)) {
    const prefix = kind === 'typical' ? '' : 'all layers: '
    const said = new Set()
    for (const [file, check] of Object.entries(checks)) {
      const where = `${prefix}${Object.keys(checks).length > 1 ? `${file}: ` : ''}`
      if (check.code === 'MODULE_NOT_FOUND') {
        said.add(`needs \`moduleNames\` for ${check.unmatched} of ${check.modules}`)
        notes.push(`${where}${some([...new Set(check.missing.map(([module]) => module))])}`)
        continue
      }
      if (check.code) {
        said.add(`refused: \`${check.code}\``)
        notes.push(`${where}${check.message}`)
        continue
      }
      if (typeof check.base !== 'number' || check.base > 1) {
        if (kind !== 'typical') continue
        said.add(
          `the export itself ${typeof check.base === 'string' ? 'does not run' : 'differs from PyTorch'}`,
        )
        notes.push(`${where}without an adapter: ${check.base}`)
        continue
      }
      const wrong = Object.entries(COMPARED).filter(([what]) => check[what] > 1)
      if (wrong.length > 0) {
        said.add(`**wrong** (${wrong.map(([, name]) => name).join(', ')})`)
        notes.push(`${where}${wrong.map(([what, name]) => `${name}: ${check[what]} tolerances`).join(', ')}`)
      }
      for (const [what, name] of Object.entries(COMPARED)) {
        const result = check[what]
        if (typeof result === 'number' && result <= 1) largest = Math.max(largest, result)
        if (typeof result !== 'string') continue
        said.add(`refused (${name})`)
        notes.push(`${where}${name}: ${result}`)
      }
    }
    if (said.size === 0 && kind === 'typical') cells.push('✓')
    cells.push(...Array.from(said, (text) => `${prefix}${text}`))
  }
  if (cells[0] === '✓') cells[0] = `✓ ${largest}`
  return { cell: cells.join('; '), note: notes.join('; ') }
}

function versionsOf(exporters) {
  const lines = Object.entries(exporters).map(([exporter, versions]) => {
    const used = Object.entries(versions).filter(
      ([name]) => exporter === 'optimum' || name !== 'optimum-onnx',
    )
    return `${EXPORTERS[exporter]}: ${used.map((each) => each.join(' ')).join(', ')}`
  })
  return lines.join('; ')
}

/** The generated part of architectures.md, with its marks. */
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
  if (before < 0 || after < before) throw new Error(`architectures.md lacks the marks ${BEGIN} and ${END}`)
  const table = printTable(JSON.parse(readFileSync(RESULTS, 'utf8')))
  writeFileSync(PAGE, page.slice(0, before) + table + page.slice(after + END.length))
}

if (import.meta.url === `file://${process.argv[1]}`) {
  if (process.argv.includes('--write')) writeTable()
  else console.log(printTable(JSON.parse(readFileSync(RESULTS, 'utf8'))))
}
