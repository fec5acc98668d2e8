/** `fourierft conformance`: checks whether backends apply FourierFT exactly as specified. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import {
  type ConformanceReport,
  type ConformanceRow,
  formatMarkdown,
  formatTable,
  LEVELS,
  type LevelNumber,
  runConformance,
  toRows,
} from '@fourierft/conformance'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { type BackendName, backendNames, backendsThatNeed, isNodeBackend, openBackend } from '../backends.js'
import { CommandError, usageError } from '../command-error.js'
import { jsonText } from '../json-text.js'
import type { Output } from '../output.js'
import { updateReadmes } from '../readme-tables.js'

interface Options {
  readonly backend?: readonly BackendName[]
  readonly level?: readonly LevelNumber[]
  readonly quick?: true
  readonly json?: true
  readonly markdown?: true
  readonly report?: true
  readonly readme?: string
}

/** A backend that cannot run on this machine. */
interface Unavailable {
  readonly backend: BackendName
  readonly reason: string
}

const levelNumbers = LEVELS.map(({ level }) => level)

const HELP = `
Backends: ${backendNames.join(', ')}.
Levels: ${LEVELS.map(({ level, title }) => `${level} ${title}`).join(', ')}.
A backend whose packages are not installed is skipped with the name of the package, and the command still succeeds.
--json prints an array of rows {backend, device, level, status: "pass" | "fail" | "skip", maxError, limit, reason}.

Examples:
  $ fourierft conformance
  $ fourierft conformance --backend core --json
  $ fourierft conformance --backend core --level 1 --level 3 --quick
`

export function addConformanceCommand(program: Command, output: Output): void {
  program
    .command('conformance')
    .description('check backends with the conformance suite')
    .option('--backend <name>', 'a backend; may be repeated; default: all', collectBackend)
    .option('--level <number>', 'only this level; may be repeated', collectLevel)
    .option('--quick', 'only small cases: seconds instead of minutes, but a weaker verdict')
    .option('--json', 'print rows of JSON')
    .option('--markdown', 'print a Markdown table')
    .addOption(new Option('--report', 'print the whole report of one backend as JSON').hideHelp())
    .addOption(
      new Option('--readme <repository>', 'write the tables of the READMEs of this project').hideHelp(),
    )
    .addHelpText('after', HELP)
    .action((options: Options) => checkConformance(options, output))
}

function collectBackend(text: string, previous: readonly BackendName[] = []): readonly BackendName[] {
  if (!isNodeBackend(text)) throw new InvalidArgumentError(`Expected one of ${backendNames.join(', ')}.`)
  return [...new Set([...previous, text])]
}

function collectLevel(text: string, previous: readonly LevelNumber[] = []): readonly LevelNumber[] {
  const level = levelNumbers.find((candidate) => String(candidate) === text)
  if (level === undefined) throw new InvalidArgumentError(`Expected one of ${levelNumbers.join(', ')}.`)
  return [...previous, level]
}

async function checkConformance(options: Options, output: Output): Promise<void> {
  if (options.json && options.markdown) {
    throw usageError('--json and --markdown cannot be combined', 'give one of them')
  }
  const { readme, level: levels = levelNumbers, quick = false } = options
  if (readme !== undefined && (options.level || quick)) {
    throw usageError('--readme needs all levels in full', 'leave out --level and --quick')
  }
  const names = options.backend ?? (readme === undefined ? backendNames : backendNames.filter(isTableRow))
  const reports: ConformanceReport[] = []
  const unavailable: Unavailable[] = []
  for (const name of names) {
    const report =
      names.length === 1 ? await check(name, levels, quick) : await checkInNewProcess(name, levels, quick)
    if ('reason' in report) unavailable.push(report)
    else reports.push(report)
    if (options.report) output.result(JSON.stringify(report))
  }
  if (options.report) return
  const rows = [...toRows(reports), ...unavailable.flatMap((missing) => skippedRows(missing, levels))]
  if (options.json) output.result(jsonText(rows))
  else output.result(table(reports, unavailable, options.markdown ? formatMarkdown : formatTable))
  throwForFailures(rows)
  if (readme === undefined) return
  await updateReadmes(readme, reports)
  if (unavailable.length > 0) {
    const skipped = unavailable.map(({ backend }) => backend).join(', ')
    throw new CommandError('INCOMPLETE', `${skipped}: skipped, so the READMEs have no new row`)
  }
}

/** Returns whether the README's table has a row for the backend. */
function isTableRow(name: string): boolean {
  return backendsThatNeed('Node').includes(name)
}

async function check(
  name: BackendName,
  levels: readonly LevelNumber[],
  quick: boolean,
): Promise<ConformanceReport | Unavailable> {
  const backend = await openBackend(name)
  if ('reason' in backend) return { backend: name, reason: backend.reason }
  const report = await runConformance(backend, { levels, quick })
  await backend.dispose?.()
  return report
}

/** Checks a backend in a new process, because some runtimes cannot be loaded together, and a crash must not affect other rows of the table. */
async function checkInNewProcess(
  name: BackendName,
  levels: readonly LevelNumber[],
  quick: boolean,
): Promise<ConformanceReport | Unavailable> {
  const main = fileURLToPath(new URL('../main.js', import.meta.url))
  const levelOptions = levels.flatMap((level) => ['--level', String(level)])
  const args = ['conformance', '--backend', name, ...levelOptions, ...(quick ? ['--quick'] : []), '--report']
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [main, ...args], {
    maxBuffer: 2 ** 26,
  }).catch((error: Error & { stdout?: string; stderr?: string }) => ({
    stdout: error.stdout ?? '',
    stderr: error.stderr || error.message,
  }))
  // Runtimes print banners; the report is the last line.
  const report = stdout.trimEnd().split('\n').at(-1) ?? ''
  if (!report.startsWith('{')) {
    throw new CommandError(
      'BACKEND_CRASHED',
      `${name}: ${stderr.trim().split('\n').at(-1) || 'its process ended without a message'}`,
    )
  }
  return JSON.parse(report)
}

function skippedRows({ backend, reason }: Unavailable, levels: readonly LevelNumber[]): ConformanceRow[] {
  return levels.map((level) => ({
    backend,
    device: 'unavailable',
    level,
    status: 'skip',
    maxError: null,
    limit: null,
    reason,
  }))
}

function table(
  reports: readonly ConformanceReport[],
  unavailable: readonly Unavailable[],
  format: typeof formatTable,
): string {
  const bullet = format === formatMarkdown ? '- ' : ''
  const skipped = unavailable
    .map(({ backend, reason }) => `${bullet}${backend}: skipped, ${reason}`)
    .join('\n')
  const parts = [reports.length > 0 ? format(reports) : '', skipped]
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`
}

function throwForFailures(rows: readonly ConformanceRow[]): void {
  const failures = rows.filter(({ status }) => status === 'fail')
  if (failures.length === 0) return
  const failed = failures.map(({ backend, level }) => `${backend} at level ${level}`).join(', ')
  throw new CommandError('NOT_CONFORMANT', `${failed}: see the errors and their limits above`)
}
