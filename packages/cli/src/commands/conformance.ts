/** `fourierft conformance`: does a backend apply FourierFT exactly as specified? */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import {
  type ConformanceReport,
  type ConformanceRow,
  formatMarkdown,
  formatTable,
  type LevelNumber,
  runConformance,
  toRows,
} from '@fourierft/conformance'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { type BackendName, backendNames, isBackendName, openBackend } from '../backends.js'
import { CommandError, usageError } from '../command-error.js'
import { jsonText } from '../json-text.js'
import type { Output } from '../output.js'

interface Options {
  readonly backend?: readonly BackendName[]
  readonly level?: readonly LevelNumber[]
  readonly quick?: true
  readonly json?: true
  readonly markdown?: true
  readonly report?: true
}

/** A backend that cannot run here. */
interface Unavailable {
  readonly backend: BackendName
  readonly reason: string
}

const LEVELS: readonly LevelNumber[] = [1, 2, 3, 4, 5, 6, 7, 8]

const HELP = `
Backends: ${backendNames.join(', ')}.
Levels: 1 entries, 2 files, 3 delta, 4 forward, 5 backward, 6 life cycle, 7 training, 8 bad input.
A backend whose packages are not installed is shown as skipped, with what is missing; that alone is no failure.
--json prints an array of rows {backend, device, level, status: "pass" | "fail" | "skip", maxError, limit, reason}.

Examples:
  $ fourierft conformance
  $ fourierft conformance --backend core --json
  $ fourierft conformance --backend core --level 1 --level 3 --quick
`

export function addConformanceCommand(program: Command, output: Output): void {
  program
    .command('conformance')
    .description('put backends through the conformance suite')
    .option('--backend <name>', 'a backend; may be repeated; default: all', collectBackend)
    .option('--level <number>', 'only this level; may be repeated', collectLevel)
    .option('--quick', 'only small cases: seconds instead of minutes, a weaker verdict')
    .option('--json', 'print rows of JSON')
    .option('--markdown', 'print a Markdown table')
    .addOption(new Option('--report', 'print the whole finding of one backend as JSON').hideHelp())
    .addHelpText('after', HELP)
    .action((options: Options) => checkConformance(options, output))
}

function collectBackend(text: string, previous: readonly BackendName[] = []): readonly BackendName[] {
  if (!isBackendName(text)) throw new InvalidArgumentError(`Expected one of ${backendNames.join(', ')}.`)
  return [...new Set([...previous, text])]
}

function collectLevel(text: string, previous: readonly LevelNumber[] = []): readonly LevelNumber[] {
  const level = LEVELS.find((candidate) => String(candidate) === text)
  if (level === undefined) throw new InvalidArgumentError(`Expected one of ${LEVELS.join(', ')}.`)
  return [...previous, level]
}

async function checkConformance(options: Options, output: Output): Promise<void> {
  if (options.json && options.markdown) {
    throw usageError('--json and --markdown are two forms of one result; give one of them')
  }
  const { backend: names = backendNames, level: levels = LEVELS, quick = false } = options
  const reports: ConformanceReport[] = []
  const unavailable: Unavailable[] = []
  for (const name of names) {
    const found =
      names.length === 1 ? await check(name, levels, quick) : await checkApart(name, levels, quick)
    if ('reason' in found) unavailable.push(found)
    else reports.push(found)
    if (options.report) output.result(JSON.stringify(found))
  }
  if (options.report) return
  const rows = [...toRows(reports), ...unavailable.flatMap((missing) => skippedRows(missing, levels))]
  if (options.json) output.result(jsonText(rows))
  else output.result(table(reports, unavailable, options.markdown ? formatMarkdown : formatTable))
  throwForFailures(rows)
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

/** In a process of its own: runtimes disagree about what a process may load, and one that crashes takes no other row along. */
async function checkApart(
  name: BackendName,
  levels: readonly LevelNumber[],
  quick: boolean,
): Promise<ConformanceReport | Unavailable> {
  const main = fileURLToPath(new URL('../main.js', import.meta.url))
  const chosen = levels.flatMap((level) => ['--level', String(level)])
  const args = ['conformance', '--backend', name, ...chosen, ...(quick ? ['--quick'] : []), '--report']
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [main, ...args], {
    maxBuffer: 2 ** 26,
  }).catch((error: Error & { stdout?: string; stderr?: string }) => ({
    stdout: error.stdout ?? '',
    stderr: error.stderr || error.message,
  }))
  // Runtimes print banners of their own; the finding is the last line.
  const finding = stdout.trimEnd().split('\n').at(-1) ?? ''
  if (!finding.startsWith('{')) {
    throw new CommandError(
      'BACKEND_CRASHED',
      `${name}: ${stderr.trim().split('\n').at(-1) || 'its process ended without a word'}`,
    )
  }
  return JSON.parse(finding)
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
  const places = failures.map(({ backend, level }) => `${backend} at level ${level}`).join(', ')
  throw new CommandError(
    'NOT_CONFORMANT',
    `${places}: the result above says what was found and what was allowed`,
  )
}
