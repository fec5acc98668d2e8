/**
 * Writes the conformance table of this repository's README, and the list of failures and gaps in the README of the suite. Both come from
 * `conformance/results.json`, which contains the last measurement of each backend.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type ConformanceReport,
  formatMarkdownNotes,
  formatMarkdownTable,
  type LevelVerdict,
} from '@fourierft/conformance'
import { backendsThatNeed } from './backends.js'
import { CommandError } from './command-error.js'

/** A report with only the verdict of each level. */
export type StoredReport = ConformanceReport<LevelVerdict>

const RESULTS = 'conformance/results.json'

/** The generated blocks, each between `<!-- marker -->` and `<!-- /marker -->`. */
const BLOCKS = [
  { file: 'README.md', marker: 'conformance', format: formatTableWithNote },
  { file: 'conformance/README.md', marker: 'gaps', format: formatMarkdownNotes },
]

export async function readResults(repository: string): Promise<StoredReport[]> {
  return JSON.parse(await readFile(join(repository, RESULTS), 'utf8'))
}

/** Replaces the stored reports of the measured backends, and rewrites the blocks. */
export async function updateReadmes(
  repository: string,
  reports: readonly ConformanceReport[],
): Promise<void> {
  const reportOf = new Map(
    [...(await readResults(repository)), ...reports.map(withVerdicts)].map((report) => [
      report.backend,
      report,
    ]),
  )
  const rows = backendsThatNeed('Node').flatMap((name) => reportOf.get(name) ?? [])
  await writeFile(join(repository, RESULTS), `${JSON.stringify(rows, null, 2)}\n`)
  for (const { file, text } of await expectedReadmes(repository))
    await writeFile(join(repository, file), text)
}

/** Returns the READMEs with the blocks for the stored results. */
export async function expectedReadmes(repository: string): Promise<{ file: string; text: string }[]> {
  const reports = await readResults(repository)
  return Promise.all(
    BLOCKS.map(async ({ file, marker, format }) => {
      const text = await readFile(join(repository, file), 'utf8')
      return { file, text: replaceBlock(file, text, marker, format(reports)) }
    }),
  )
}

function withVerdicts({ levels, ...report }: ConformanceReport): StoredReport {
  return { ...report, levels: levels.map(({ checks: _, seconds: __, ...verdict }) => verdict) }
}

function replaceBlock(file: string, text: string, marker: string, content: string): string {
  const [start, end] = [`<!-- ${marker} -->`, `<!-- /${marker} -->`]
  const startAt = text.indexOf(start)
  const endAt = text.indexOf(end, startAt)
  if (startAt < 0 || endAt < 0) {
    throw new CommandError('INVALID_README', `${file}: expected the markers ${start} and ${end}`)
  }
  return `${text.slice(0, startAt + start.length)}\n\n${content}\n\n${text.slice(endAt)}`
}

function formatTableWithNote(reports: readonly StoredReport[]): string {
  const code = (names: readonly string[]) => names.map((name) => `\`${name}\``).join(', ')
  return [
    formatMarkdownTable(reports),
    `Not in this table: ${code(backendsThatNeed('GPU'))} (which need a GPU, or for WebGPU a software GPU) and ${code(backendsThatNeed('browser'))} (which run in browsers).`,
  ].join('\n\n')
}
